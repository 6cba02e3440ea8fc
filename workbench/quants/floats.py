"""Types of one number a block: F32 F16 BF16 F64, and the integer types read as float32.

    F32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
    BF16  s eeeeeeee mmmmmmm                    the upper half of F32
    F16   s eeeee mmmmmmmmmm                    exponent biased by 15 where F32's is by 127

Source: ggml-impl.h, `ggml_compute_fp32_to_bf16` and the fp16 conversions.
Left out: writing integer types, which hold indices rather than weights.
"""

import numpy as np

from .codec import Codec

F16_INFINITY = 0x7C00
F16_BITS = {  # little-endian or not: the dtypes of F16's bits with and without sign
    True: (np.dtype("<i2"), np.dtype("<u2")),
    False: (np.dtype(">i2"), np.dtype(">u2")),
}
# Keeps a sign-extended F16 shifted left by 13: the sign at bit 31, exponent and mantissa at 27..13.
F16_FIELDS = np.int32(0x8FFFE000 - (1 << 32))


def copy_out(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads F32, F64 and integers: each number rounded to float32."""
    out[:, 0] = blocks


def copy_in(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes F32, F16 and F64: each number rounded to nearest, ties to even."""
    blocks[...] = x[:, 0]


def decode_f16(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads F16 twice as fast as `astype`: the bits moved into F32's places, times 2**112.

    The product corrects the exponent's bias (127 - 15) and normalises subnormal numbers; it is
    exact. Infinities and NaN, which it would make finite, are rare and converted apart.
    """
    if blocks.size < 8192:  # too few for seven passes to pay
        return copy_out(blocks, out)
    signed_type, unsigned_type = F16_BITS[blocks.dtype.isnative]
    bits = blocks.view(signed_type)
    widened = out.reshape(-1).view(np.int32)
    np.copyto(widened, bits)
    np.left_shift(widened, 13, out=widened)
    np.bitwise_and(widened, F16_FIELDS, out=widened)
    numbers = widened.view(np.float32)
    numbers *= np.float32(2.0**112)
    signed, unsigned = bits.max(initial=0), bits.view(unsigned_type).max(initial=0)
    if signed >= F16_INFINITY or unsigned >= F16_INFINITY | 0x8000:
        special = np.flatnonzero((bits & F16_INFINITY) == F16_INFINITY)
        numbers[special] = blocks[special]


def decode_bf16(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads BF16: the 16 bits are the upper half of a float32."""
    bits = out.reshape(-1).view(np.uint32)
    np.copyto(bits, blocks)
    np.left_shift(bits, 16, out=bits)


def encode_bf16(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes BF16: rounded to nearest, ties to even; NaN stay NaN, made quiet."""
    bits = x.reshape(-1).view(np.uint32)
    rounded = bits >> 16
    nan = np.flatnonzero((bits & 0x7FFFFFFF) > 0x7F800000)
    quiet = rounded[nan] | 0x40
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    rounded[nan] = quiet
    blocks[...] = rounded


CODECS = (
    Codec("F32", 1, np.dtype("<f4"), copy_out, copy_in, keeps_nonfinite=True),
    Codec("F16", 1, np.dtype("<f2"), decode_f16, copy_in, keeps_nonfinite=True),
    Codec("BF16", 1, np.dtype("<u2"), decode_bf16, encode_bf16, keeps_nonfinite=True),
    Codec("F64", 1, np.dtype("<f8"), copy_out, copy_in, keeps_nonfinite=True),
    Codec("I8", 1, np.dtype("<i1"), copy_out),
    Codec("I16", 1, np.dtype("<i2"), copy_out),
    Codec("I32", 1, np.dtype("<i4"), copy_out),
    Codec("I64", 1, np.dtype("<i8"), copy_out),
)
