"""Short vectors for numba kernels, second half: other lanes, other widths, and sums over lanes.

Where a machine has an instruction that LLVM does not find by itself (four products of bytes in one
sum, a look-up in 16 numbers), it is named here, beside the plain form for all others.

Sources: the LLVM Language Reference; Intel's intrinsics guide for VPDPBUSD, PSHUFB and VPERMPS.
Left out: all that the kernels here do not need.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import (
    BYTES16,
    BYTES32,
    BYTES64,
    F32,
    FLOATS16,
    I32,
    I64,
    INTS16,
    has_feature,
    is_arm,
)

# --- conversions -----------------------------------------------------------------------------


def converter(name, source, result, *steps):
    """An intrinsic of one vector: steps are (builder method, LLVM type)."""

    def convert(typingctx, vector):
        def codegen(context, builder, signature, args):
            value = args[0]
            for operation, llvm in steps:
                value = getattr(builder, operation)(value, llvm)
            return value

        return result(source), codegen

    convert.__name__ = convert.__qualname__ = name
    return intrinsic(convert)


to_floats = converter(
    "to_floats", BYTES16, FLOATS16, ("sext", INTS16.llvm), ("sitofp", FLOATS16.llvm)
)
unsigned_to_floats = converter(
    "unsigned_to_floats", BYTES16, FLOATS16, ("zext", INTS16.llvm), ("sitofp", FLOATS16.llvm)
)
ints_to_floats = converter("ints_to_floats", INTS16, FLOATS16, ("sitofp", FLOATS16.llvm))
BITS32 = ir.VectorType(ir.IntType(1), 32)
bits_to_bytes = converter(
    "bits_to_bytes",
    types.int64,
    BYTES32,
    ("trunc", I32),
    ("bitcast", BITS32),
    ("zext", BYTES32.llvm),
)


def shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), list(order)))


def mover(name, source, result, order):
    """An intrinsic that picks lanes of one vector."""

    def move(typingctx, vector):
        def codegen(context, builder, signature, args):
            return shuffle(builder, args[0], args[0], order)

        return result(source), codegen

    move.__name__ = move.__qualname__ = name
    return intrinsic(move)


each_twice = mover("each_twice", BYTES16, BYTES16, [i // 2 for i in range(16)])
QUARTERS = [[4 * j + i // 4 for i in range(16)] for j in range(4)]  # 4 lanes, each four times
quarter0 = mover("quarter0", FLOATS16, FLOATS16, QUARTERS[0])
quarter1 = mover("quarter1", FLOATS16, FLOATS16, QUARTERS[1])
quarter2 = mover("quarter2", FLOATS16, FLOATS16, QUARTERS[2])
quarter3 = mover("quarter3", FLOATS16, FLOATS16, QUARTERS[3])
lower = mover("lower", BYTES32, BYTES16, range(16))
upper = mover("upper", BYTES32, BYTES16, range(16, 32))


@intrinsic
def from_words(typingctx, first, second, third, fourth):
    """Four integers of 32 bits, lowest first, as 16 bytes."""

    def codegen(context, builder, signature, args):
        words = ir.Constant(ir.VectorType(I32, 4), ir.Undefined)
        for i, word in enumerate(args):
            words = builder.insert_element(words, builder.trunc(word, I32), ir.Constant(I32, i))
        return builder.bitcast(words, BYTES16.llvm)

    return BYTES16(*[types.int64] * 4), codegen


@intrinsic
def float_of_bits(typingctx, bits):
    """The float32 with these bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(builder.trunc(args[0], I32), F32)

    return types.float32(types.int64), codegen


@intrinsic
def bits_of_float(typingctx, number):
    """The bits of a float32."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.bitcast(args[0], I32), I64)

    return types.int64(types.float32), codegen


@intrinsic
def total(typingctx, vector):
    """The sum of all floats of a vector."""

    def codegen(context, builder, signature, args):
        value = args[0]
        for half in (8, 4, 2, 1):
            parts = [shuffle(builder, value, value, range(i, i + half)) for i in (0, half)]
            value = builder.fadd(*parts)
        return builder.extract_element(value, ir.Constant(I32, 0))

    return types.float32(FLOATS16), codegen


@intrinsic
def look_up(typingctx, table, codes):
    """The byte of a table of 16 that each code, 0..15, names."""

    def codegen(context, builder, signature, args):
        """The machine's own look-up, or byte for byte."""
        table, codes = args
        name = "llvm.x86.ssse3.pshuf.b.128" if has_feature(context, "ssse3") else None
        if is_arm(context):
            name = "llvm.aarch64.neon.tbl1.v16i8"
        if name:
            kind = ir.FunctionType(BYTES16.llvm, [BYTES16.llvm] * 2)
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(function, args)
        out = ir.Constant(BYTES16.llvm, ir.Undefined)
        for i in range(16):
            lane = ir.Constant(I32, i)
            level = builder.extract_element(table, builder.extract_element(codes, lane))
            out = builder.insert_element(out, level, lane)
        return out

    return BYTES16(BYTES16, BYTES16), codegen


@intrinsic
def add_products(typingctx, sums, unsigned, signed):
    """Add to each int32 the four products of the bytes (0..255 by -127..127) at its place."""

    def codegen(context, builder, signature, args):
        """VNNI, or products of 32 bits."""
        sums, unsigned, signed = args
        if has_feature(context, "avx512vnni"):
            kind = ir.FunctionType(INTS16.llvm, [INTS16.llvm] * 3)  # LLVM 21 and later upgrade it
            name = "llvm.x86.avx512.vpdpbusd.512"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            words = [builder.bitcast(value, INTS16.llvm) for value in (unsigned, signed)]
            return builder.call(function, [sums, *words])
        wide = ir.VectorType(I32, 64)
        products = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
        for count in (64, 32):  # neighbours are added: LLVM makes a multiply-add of pairs of it
            pairs = [shuffle(builder, products, products, range(i, count, 2)) for i in (0, 1)]
            products = builder.add(*pairs)
        return builder.add(sums, products)

    return INTS16(INTS16, BYTES64, BYTES64), codegen
