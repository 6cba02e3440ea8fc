"""Short vectors for numba kernels: each function below is one or a few instructions of LLVM.

    BYTES16 BYTES32 BYTES64   bytes, signed or not as the function says
    INTS16                    int32
    FLOATS16                  float32

LLVM splits a vector that is wider than the registers of the machine, so the same kernel text runs
with AVX-512, AVX2 and NEON. Addresses are int64; no alignment is asked for.

    simd          memory, the same for all lanes
    simd_lanes    lanes change: conversions, moves, sums, look-ups
    simd_blocks   64 bytes of a packed block, and the rounding of activations
    atomics       what several threads read and write

Source: the LLVM Language Reference.
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


def pointer_to(builder, address, llvm):
    return builder.inttoptr(address, llvm.as_pointer())


def loader(name, result, llvm, convert=None):
    """An intrinsic that reads `llvm` at an address and makes a `result` of it."""

    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            value = builder.load(pointer_to(builder, args[0], llvm), align=1)
            return convert(context, builder, value) if convert else value

        return result(types.int64), codegen

    load.__name__ = load.__qualname__ = name
    return intrinsic(load)


def has_feature(context, *features) -> bool:
    """Whether the machine compiled for has all these features, by LLVM's names."""
    return all(f"+{name}" in context.codegen().magic_tuple()[2].split(",") for name in features)


def is_arm(context) -> bool:
    """Whether the machine compiled for is a 64-bit ARM."""
    return context.codegen().magic_tuple()[0].startswith(("aarch64", "arm64"))


def widen_halves(context, builder, halves):
    """float16 bits as integers, a scalar or a vector -> float32, every bit pattern right."""
    lanes = getattr(halves.type, "count", None)
    kind = (lambda t: ir.VectorType(t, lanes)) if lanes else (lambda t: t)
    if has_feature(context, "f16c") or is_arm(context):
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
    return widen_halves(context, builder, in_all_lanes(builder, half, ir.VectorType(I16, 16)))


def zext(llvm):
    return lambda context, builder, value: builder.zext(value, llvm)


load_bytes16 = loader("load_bytes16", BYTES16, BYTES16.llvm)
load_bytes32 = loader("load_bytes32", BYTES32, BYTES32.llvm)
load_bytes64 = loader("load_bytes64", BYTES64, BYTES64.llvm)
load_ints16 = loader("load_ints16", INTS16, INTS16.llvm)
load_floats16 = loader("load_floats16", FLOATS16, FLOATS16.llvm)
load_f16_16 = loader("load_f16_16", FLOATS16, ir.VectorType(I16, 16), widen_halves)
load_bf16_16 = loader("load_bf16_16", FLOATS16, ir.VectorType(I16, 16), _widen_bfloats)
load_f16_everywhere = loader("load_f16_everywhere", FLOATS16, I16, _widen_half_everywhere)
load_f32 = loader("load_f32", types.float32, F32)
load_f16 = loader("load_f16", types.float32, I16, widen_halves)
load_u8 = loader("load_u8", types.int64, I8, zext(I64))
load_u16 = loader("load_u16", types.int64, I16, zext(I64))
load_u32 = loader("load_u32", types.int64, I32, zext(I64))
load_i64 = loader("load_i64", types.int64, I64)


@intrinsic
def store(typingctx, address, value):
    """Write a vector or a number to an address."""

    def codegen(context, builder, signature, args):
        target = pointer_to(builder, args[0], args[1].type)
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
def store_u16(typingctx, address, value):
    """Write the lower 16 bits of an integer to an address."""

    def codegen(context, builder, signature, args):
        target = pointer_to(builder, args[0], I16)
        builder.store(builder.trunc(args[1], I16), target, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at an address, which may lie anywhere: nothing is read."""

    def codegen(context, builder, signature, args):
        target = I8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [target, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        numbers = [ir.Constant(I32, number) for number in (0, 3, 1)]  # to read, all levels, data
        builder.call(function, [builder.inttoptr(args[0], target), *numbers])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


# --- elementwise -----------------------------------------------------------------------------


def in_all_lanes(builder, value, llvm):
    """A scalar in all lanes."""
    lanes = ir.Constant(ir.VectorType(I32, llvm.count), [0] * llvm.count)
    first = builder.insert_element(ir.Constant(llvm, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, ir.Constant(llvm, ir.Undefined), lanes)


def _bytewise(name, operation):
    """An intrinsic (bytes, integer) -> bytes with the same integer for all lanes."""

    def apply(typingctx, vector, number):
        def codegen(context, builder, signature, args):
            lanes = in_all_lanes(builder, builder.trunc(args[1], I8), args[0].type)
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
        lanes = [
            in_all_lanes(builder, builder.trunc(bits, I32), INTS16.llvm) for bits in (mask, bits)
        ]
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
        return in_all_lanes(builder, args[0], FLOATS16.llvm)

    return FLOATS16(types.float32), codegen
