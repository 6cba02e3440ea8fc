"""Short vectors for numba kernels, third part: 64 bytes of packed blocks, and rounding to int8.

Sources: the LLVM Language Reference; Intel's intrinsics guide for VPERMPS.
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
    I8,
    I16,
    I32,
    I64,
    INTS16,
    has_feature,
    in_all_lanes,
    loader,
    pointer_to,
    widen_halves,
)
from .simd_lanes import converter, mover, shuffle

as_ints = converter("as_ints", BYTES64, INTS16, ("bitcast", INTS16.llvm))
as_bytes = converter("as_bytes", INTS16, BYTES64, ("bitcast", BYTES64.llvm))


# --- blocks ----------------------------------------------------------------------------------


def _joined(builder, parts):
    """Vectors one after the other."""
    while len(parts) > 1:
        lanes = range(2 * parts[0].type.count)
        parts = [shuffle(builder, *parts[i : i + 2], lanes) for i in range(0, len(parts), 2)]
    return parts[0]


def _four_places(builder, address, step):
    return [builder.add(address, builder.mul(step, ir.Constant(I64, i))) for i in range(4)]


@intrinsic
def load_four(typingctx, address, step):
    """16 bytes at each of four addresses, `step` apart."""

    def codegen(context, builder, signature, args):
        places = _four_places(builder, *args)
        loads = [builder.load(pointer_to(builder, at, BYTES16.llvm), align=1) for at in places]
        return _joined(builder, loads)

    return BYTES64(types.int64, types.int64), codegen


@intrinsic
def load_twice(typingctx, address):
    """32 bytes, and the same again."""

    def codegen(context, builder, signature, args):
        value = builder.load(pointer_to(builder, args[0], BYTES32.llvm), align=1)
        return _joined(builder, [value, value])

    return BYTES64(types.int64), codegen


@intrinsic
def load_four_halves(typingctx, address, step):
    """A float16 at each of four addresses, `step` apart, as float32, each in four lanes."""

    def codegen(context, builder, signature, args):
        halves = ir.Constant(I64, 0)  # put together as an integer: moves into lanes cost more
        for i, at in enumerate(_four_places(builder, *args)):
            half = builder.zext(builder.load(pointer_to(builder, at, I16), align=1), I64)
            halves = builder.or_(halves, builder.shl(half, ir.Constant(I64, 16 * i)))
        halves = builder.bitcast(halves, ir.VectorType(I16, 4))
        floats = widen_halves(context, builder, halves)
        return shuffle(builder, floats, floats, [i // 4 for i in range(16)])

    return FLOATS16(types.int64, types.int64), codegen


def _widen_pair(context, builder, pair):
    """Two float16 as float32, by turns in all lanes."""
    pairs = in_all_lanes(builder, pair, ir.VectorType(I32, 8))
    return widen_halves(context, builder, builder.bitcast(pairs, ir.VectorType(I16, 16)))


load_f16_by_turns = loader("load_f16_by_turns", FLOATS16, I32, _widen_pair)


@intrinsic
def by_turns(typingctx, evens, odds):
    """The 8 bytes of two integers, lowest first, by turns."""

    def codegen(context, builder, signature, args):
        a, b = (builder.bitcast(value, ir.VectorType(I8, 8)) for value in args)
        return shuffle(builder, a, b, [i // 2 + i % 2 * 8 for i in range(16)])

    return BYTES16(types.int64, types.int64), codegen


def _of_two_halves(name, operation):
    """An intrinsic: integers shifted, the first 8 lanes by one number, the others by another."""

    def apply(typingctx, ints, first, second):
        def codegen(context, builder, signature, args):
            counts = [in_all_lanes(builder, builder.trunc(n, I32), INTS16.llvm) for n in args[1:]]
            lanes = shuffle(builder, *counts, [16 * (i // 8) for i in range(16)])
            return getattr(builder, operation)(args[0], lanes)

        return INTS16(INTS16, types.int64, types.int64), codegen

    apply.__name__ = apply.__qualname__ = name
    return intrinsic(apply)


shift_ints_right = _of_two_halves("shift_ints_right", "lshr")
shift_ints_left = _of_two_halves("shift_ints_left", "shl")


@intrinsic
def nibbles_to_floats(typingctx, ints, less):
    """The lowest four bits of each integer, minus a whole number, as float32."""

    def codegen(context, builder, signature, args):
        """One look-up in 16 floats, or a conversion."""
        less = in_all_lanes(builder, builder.sitofp(args[1], F32), FLOATS16.llvm)
        if has_feature(context, "avx512f"):
            levels = ir.Constant(FLOATS16.llvm, [float(i) for i in range(16)])
            kind = ir.FunctionType(FLOATS16.llvm, [FLOATS16.llvm, INTS16.llvm])
            name = "llvm.x86.avx512.permvar.sf.512"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(function, [builder.fsub(levels, less), args[0]])
        codes = builder.and_(args[0], ir.Constant(INTS16.llvm, [15] * 16))
        return builder.fsub(builder.sitofp(codes, FLOATS16.llvm), less)

    return FLOATS16(INTS16, types.int64), codegen


def _two_parts(first):
    """Lane `first` eight times, then the fourth after it eight times."""
    return mover(f"parts{first}", FLOATS16, FLOATS16, [first + i // 8 * 4 for i in range(16)])


parts0, parts2, parts8, parts10 = (_two_parts(first) for first in (0, 2, 8, 10))


# --- activations -----------------------------------------------------------------------------


def _extremes(name, comparison):
    """An intrinsic (floats, floats) -> the greater or the smaller ones."""

    def apply(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return FLOATS16(FLOATS16, FLOATS16), codegen

    apply.__name__ = apply.__qualname__ = name
    return intrinsic(apply)


greater = _extremes("greater", ">")
smaller = _extremes("smaller", "<")


def _extreme_lane(name, comparison):
    """An intrinsic: the greatest or the smallest float of a vector."""

    def apply(typingctx, vector):
        def codegen(context, builder, signature, args):
            value = args[0]
            for half in (8, 4, 2, 1):
                a, b = (shuffle(builder, value, value, range(i, i + half)) for i in (0, half))
                value = builder.select(builder.fcmp_ordered(comparison, a, b), a, b)
            return builder.extract_element(value, ir.Constant(I32, 0))

        return types.float32(FLOATS16), codegen

    apply.__name__ = apply.__qualname__ = name
    return intrinsic(apply)


greatest_lane = _extreme_lane("greatest_lane", ">")
smallest_lane = _extreme_lane("smallest_lane", "<")


@intrinsic
def round_to_bytes(typingctx, floats):
    """Floats from -128 to 127 as the nearest bytes, halves to the even one.

    Added to 1.5 · 2^23, whose last place is 1, a float is rounded, and its last bits are the byte.
    """

    def codegen(context, builder, signature, args):
        magic = ir.Constant(FLOATS16.llvm, [1.5 * 2**23] * 16)
        bits = builder.bitcast(builder.fadd(args[0], magic), INTS16.llvm)
        return builder.trunc(bits, BYTES16.llvm)

    return BYTES16(FLOATS16), codegen


@intrinsic
def minus_sums(typingctx, factor, codes):
    """-factor (0..255) times the sum of each four signed bytes, as int32.

    Source: our own; plain shifts, as this is done once for all rows.
    """

    def codegen(context, builder, signature, args):
        words = builder.bitcast(args[1], INTS16.llvm)
        number = lambda value: ir.Constant(INTS16.llvm, [value] * 16)  # noqa: E731
        parts = [builder.ashr(builder.shl(words, number(24 - 8 * i)), number(24)) for i in range(4)]
        total = builder.add(builder.add(parts[0], parts[1]), builder.add(parts[2], parts[3]))
        factors = in_all_lanes(builder, builder.trunc(builder.neg(args[0]), I32), INTS16.llvm)
        return builder.mul(total, factors)

    return INTS16(types.int64, BYTES64), codegen


@intrinsic
def add_ints(typingctx, a, b):
    """Sums of int32."""

    def codegen(context, builder, signature, args):
        return builder.add(*args)

    return INTS16(INTS16, INTS16), codegen
