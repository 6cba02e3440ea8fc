"""Short vectors for numba kernels: each function below is one or a few instructions of LLVM.

    BYTES16 BYTES32 BYTES64   bytes, signed or not as the function says
    INTS16                    int32
    FLOATS16                  float32

LLVM splits a vector that is wider than the registers of the machine, so the same kernel text runs
with AVX-512, AVX2 and NEON. Where a machine has an instruction that LLVM does not find by itself
(four products of bytes in one sum), it is named here, beside the plain form for all others.
Addresses are int64; no alignment is asked for.

Sources: the LLVM Language Reference; Intel's intrinsics guide for VPDPBUSD and PSHUFB.
Left out: all that the kernels here do not need.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()
FUSED = ("contract",)  # a product and a sum may become one instruction; all else stays IEEE


class Vector(types.Type):
    """The numba type of a short vector."""

    def __init__(self, name: str, llvm: ir.VectorType):
        self.llvm = llvm
        super().__init__(name)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.llvm)


BYTES16 = Vector("bytes16", ir.VectorType(I8, 16))
BYTES32 = Vector("bytes32", ir.VectorType(I8, 32))
BYTES64 = Vector("bytes64", ir.VectorType(I8, 64))
INTS16 = Vector("ints16", ir.VectorType(I32, 16))
FLOATS16 = Vector("floats16", ir.VectorType(F32, 16))


# --- memory ----------------------------------------------------------------------------------


def _pointer(builder, address, llvm):
    return builder.inttoptr(address, llvm.as_pointer())


def _loader(name, result, llvm, convert=None):
    """An intrinsic that reads `llvm` at an address and makes a `result` of it."""

    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            value = builder.load(_pointer(builder, args[0], llvm), align=1)
            return convert(context, builder, value) if convert else value

        return result(types.int64), codegen

    load.__name__ = load.__qualname__ = name
    return intrinsic(load)


def _has(context, *features) -> bool:
    """Whether the machine compiled for has all these features, by LLVM's names."""
    return all(f"+{name}" in context.codegen().magic_tuple()[2].split(",") for name in features)


def _widen_halves(context, builder, halves):
    """float16 bits as integers, a scalar or a vector -> float32, every bit pattern right."""
    lanes = getattr(halves.type, "count", None)
    kind = (lambda t: ir.VectorType(t, lanes)) if lanes else (lambda t: t)
    if _has(context, "f16c") or context.codegen().magic_tuple()[0].startswith("aarch64"):
        return builder.fpext(builder.bitcast(halves, kind(F16)), kind(F32))
    number = lambda value: ir.Constant(kind(I32), [value] * lanes if lanes else value)  # noqa: E731
    bits = builder.zext(halves, kind(I32))
    magnitude = builder.shl(builder.and_(bits, number(0x7FFF)), number(13))
    power = builder.bitcast(number((127 + 112) << 23), kind(F32))
    scaled = builder.fmul(builder.bitcast(magnitude, kind(F32)), power)
    special = builder.icmp_unsigned(">=", magnitude, number(0x7C00 << 13))
    infinite = builder.or_(magnitude, number(0xFF << 23))
    finite = builder.bitcast(scaled, kind(I32))
    sign = builder.shl(builder.and_(bits, number(0x8000)), number(16))
    result = builder.or_(builder.select(special, infinite, finite), sign)
    return builder.bitcast(result, kind(F32))


def _widen_bfloats(context, builder, halves):
    """bfloat16 bits are the upper half of a float32."""
    wide = ir.VectorType(I32, 16)
    bits = builder.shl(builder.zext(halves, wide), ir.Constant(wide, [16] * 16))
    return builder.bitcast(bits, FLOATS16.llvm)


def _widen_half_everywhere(context, builder, half):
    """One float16 as float32 in all lanes: in this order LLVM needs one move less."""
    return _widen_halves(context, builder, _splat(builder, half, ir.VectorType(I16, 16)))


def _zext(llvm):
    return lambda context, builder, value: builder.zext(value, llvm)


load_bytes16 = _loader("load_bytes16", BYTES16, BYTES16.llvm)
load_bytes32 = _loader("load_bytes32", BYTES32, BYTES32.llvm)
load_bytes64 = _loader("load_bytes64", BYTES64, BYTES64.llvm)
load_ints16 = _loader("load_ints16", INTS16, INTS16.llvm)
load_floats16 = _loader("load_floats16", FLOATS16, FLOATS16.llvm)
load_f16_16 = _loader("load_f16_16", FLOATS16, ir.VectorType(I16, 16), _widen_halves)
load_bf16_16 = _loader("load_bf16_16", FLOATS16, ir.VectorType(I16, 16), _widen_bfloats)
load_f16_everywhere = _loader("load_f16_everywhere", FLOATS16, I16, _widen_half_everywhere)
load_bytes_as_ints16 = _loader("load_bytes_as_ints16", INTS16, BYTES16.llvm, _zext(INTS16.llvm))
load_f32 = _loader("load_f32", types.float32, F32)
load_f16 = _loader("load_f16", types.float32, I16, _widen_halves)
load_u8 = _loader("load_u8", types.int64, I8, _zext(I64))
load_u16 = _loader("load_u16", types.int64, I16, _zext(I64))
load_u32 = _loader("load_u32", types.int64, I32, _zext(I64))


@intrinsic
def store(typingctx, address, value):
    """Write a vector or a float32 to an address."""

    def codegen(context, builder, signature, args):
        target = _pointer(builder, args[0], args[1].type)
        builder.store(args[1], target, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


@intrinsic
def stack_memory(typingctx):
    """The address of 3 KiB that live as long as the call of the function that asks."""

    def codegen(context, builder, signature, args):
        memory = cgutils.alloca_once(builder, ir.ArrayType(I8, 8 * 384))
        memory.align = 64
        return builder.ptrtoint(memory, I64)

    return types.int64(), codegen


@intrinsic
def fetch_add(typingctx, address, amount):
    """Add to the int64 at an address and return what it was, all threads one after the other."""

    def codegen(context, builder, signature, args):
        target = _pointer(builder, args[0], I64)
        return builder.atomic_rmw("add", target, args[1], "monotonic")

    return types.int64(types.int64, types.int64), codegen


# --- elementwise -----------------------------------------------------------------------------


def _splat(builder, value, llvm):
    """A scalar in all lanes."""
    lanes = ir.Constant(ir.VectorType(I32, llvm.count), [0] * llvm.count)
    first = builder.insert_element(ir.Constant(llvm, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, ir.Constant(llvm, ir.Undefined), lanes)


def _bytewise(name, operation):
    """An intrinsic (bytes, integer) -> bytes with the same integer for all lanes."""

    def apply(typingctx, vector, number):
        def codegen(context, builder, signature, args):
            lanes = _splat(builder, builder.trunc(args[1], I8), args[0].type)
            return getattr(builder, operation)(args[0], lanes)

        return vector(vector, types.int64), codegen

    apply.__name__ = apply.__qualname__ = name
    return intrinsic(apply)


mask = _bytewise("mask", "and_")
flip = _bytewise("flip", "xor")
shift_right = _bytewise("shift_right", "lshr")
shift_left = _bytewise("shift_left", "shl")
minus = _bytewise("minus", "sub")


def _pairwise(name, operation, **flags):
    """An intrinsic (vector, vector) -> vector."""

    def apply(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, operation)(*args, **flags)

        return a(a, a), codegen

    apply.__name__ = apply.__qualname__ = name
    return intrinsic(apply)


join_bits = _pairwise("join_bits", "or_")
times = _pairwise("times", "fmul", flags=FUSED)
plus = _pairwise("plus", "fadd", flags=FUSED)


@intrinsic
def or_masked(typingctx, numbers, mask, bits):
    """The floats with the bits (number & mask) | bits."""

    def codegen(context, builder, signature, args):
        numbers, mask, bits = args
        lanes = [_splat(builder, builder.trunc(bits, I32), INTS16.llvm) for bits in (mask, bits)]
        return builder.bitcast(
            builder.or_(builder.and_(numbers, lanes[0]), lanes[1]), FLOATS16.llvm
        )

    return FLOATS16(INTS16, types.int64, types.int64), codegen


@intrinsic
def fused(typingctx, a, b, c):
    """a b + c on floats."""

    def codegen(context, builder, signature, args):
        a, b, c = args
        return builder.fadd(builder.fmul(a, b, flags=FUSED), c, flags=FUSED)

    return FLOATS16(FLOATS16, FLOATS16, FLOATS16), codegen


@intrinsic
def splat(typingctx, number):
    """One float32 in all lanes."""

    def codegen(context, builder, signature, args):
        return _splat(builder, args[0], FLOATS16.llvm)

    return FLOATS16(types.float32), codegen


# --- conversions and moves -------------------------------------------------------------------


def _converter(name, source, result, *steps):
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


to_floats = _converter(
    "to_floats", BYTES16, FLOATS16, ("sext", INTS16.llvm), ("sitofp", FLOATS16.llvm)
)
unsigned_to_floats = _converter(
    "unsigned_to_floats", BYTES16, FLOATS16, ("zext", INTS16.llvm), ("sitofp", FLOATS16.llvm)
)
ints_to_floats = _converter("ints_to_floats", INTS16, FLOATS16, ("sitofp", FLOATS16.llvm))
BITS32 = ir.VectorType(ir.IntType(1), 32)
bits_to_bytes = _converter(
    "bits_to_bytes",
    types.int64,
    BYTES32,
    ("trunc", I32),
    ("bitcast", BITS32),
    ("zext", BYTES32.llvm),
)


def _shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), list(order)))


def _mover(name, source, result, order):
    """An intrinsic that picks lanes of one vector."""

    def move(typingctx, vector):
        def codegen(context, builder, signature, args):
            return _shuffle(builder, args[0], args[0], order)

        return result(source), codegen

    move.__name__ = move.__qualname__ = name
    return intrinsic(move)


each_twice = _mover("each_twice", BYTES16, BYTES16, [i // 2 for i in range(16)])
QUARTERS = [[4 * j + i // 4 for i in range(16)] for j in range(4)]  # 4 lanes, each four times
quarter0 = _mover("quarter0", FLOATS16, FLOATS16, QUARTERS[0])
quarter1 = _mover("quarter1", FLOATS16, FLOATS16, QUARTERS[1])
quarter2 = _mover("quarter2", FLOATS16, FLOATS16, QUARTERS[2])
quarter3 = _mover("quarter3", FLOATS16, FLOATS16, QUARTERS[3])
lower = _mover("lower", BYTES32, BYTES16, range(16))
upper = _mover("upper", BYTES32, BYTES16, range(16, 32))


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
            parts = [_shuffle(builder, value, value, range(i, i + half)) for i in (0, half)]
            value = builder.fadd(*parts)
        return builder.extract_element(value, ir.Constant(I32, 0))

    return types.float32(FLOATS16), codegen


@intrinsic
def look_up(typingctx, table, codes):
    """The byte of a table of 16 that each code, 0..15, names."""

    def codegen(context, builder, signature, args):
        """The machine's own look-up, or byte for byte."""
        table, codes = args
        name = "llvm.x86.ssse3.pshuf.b.128" if _has(context, "ssse3") else None
        if context.codegen().magic_tuple()[0].startswith("aarch64"):
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
        if _has(context, "avx512vnni"):
            kind = ir.FunctionType(INTS16.llvm, [INTS16.llvm] * 3)  # LLVM 21 and later upgrade it
            name = "llvm.x86.avx512.vpdpbusd.512"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            words = [builder.bitcast(value, INTS16.llvm) for value in (unsigned, signed)]
            return builder.call(function, [sums, *words])
        wide = ir.VectorType(I32, 64)
        products = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
        for count in (64, 32):  # neighbours are added: LLVM makes a multiply-add of pairs of it
            pairs = [_shuffle(builder, products, products, range(i, count, 2)) for i in (0, 1)]
            products = builder.add(*pairs)
        return builder.add(sums, products)

    return INTS16(INTS16, BYTES64, BYTES64), codegen
