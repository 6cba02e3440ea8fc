"""Four-bit floats under a shared small scale: MXFP4 and NVFP4.

    E2M1 code   s ee m   0 .5 1 1.5 2 3 4 6 and their negatives; ggml keeps twice these as integers
    MXFP4       32 weights, scale E8M0 (a power of two in one byte)
    NVFP4       4 times 16 weights, scale UE4M3 each (4 bits of exponent, 3 of mantissa, no sign)

Both scales are kept halved, so that the doubled integers give the right numbers.
Sources: OCP Microscaling Formats 1.0; ggml-common.h (structs, `kvalues_mxfp4`); ggml-impl.h (the
conversions of scales); ggml-quants.c, `quantize_row_mxfp4_ref`, `quantize_row_nvfp4_ref`.
"""

import numpy as np

from .block_math import largest_magnitude, scale_codes, spread
from .codec import Codec
from .packing import join_fields, look_up_nibbles, nibble_table

LEVELS = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
LEVEL_TABLE = nibble_table(LEVELS)
MIDPOINTS = (0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0)  # between the eight levels that are not negative

# qs: byte j of a run = code[j] | code[j + 16] << 4 (NVFP4: j + 8, in each run of 8 bytes)
MXFP4 = np.dtype([("e", "u1"), ("qs", "u1", 16)])
NVFP4 = np.dtype([("d", "u1", 4), ("qs", "u1", 32)])


def half_e8m0() -> np.ndarray:
    """(256,) float32: half of 2**(e - 127) for each byte e (e = 255, NaN in OCP, continues)."""
    return np.ldexp(np.float32(1), np.arange(256) - 128).astype(np.float32)


def half_ue4m3() -> np.ndarray:
    """(256,) float32: half of the UE4M3 number of each byte; bit 7 is ignored, 0x7F reads as 0."""
    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    numbers = np.where(exponent == 0, np.ldexp(mantissa * 1.0, -9), normal) / 2
    numbers[0x7F] = 0
    return numbers.astype(np.float32)


E8M0 = half_e8m0()
UE4M3 = half_ue4m3()


def decode_mxfp4(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads MXFP4."""
    scale_codes(look_up_nibbles(blocks["qs"], LEVEL_TABLE, 16), E8M0[blocks["e"]], out)


def decode_nvfp4(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads NVFP4."""
    scale_codes(look_up_nibbles(blocks["qs"], LEVEL_TABLE, 8), UE4M3[blocks["d"]], out)


def nearest_codes(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """x (B, n) and a scale (B,) >= 0 for each row -> (B, n) uint8: the codes of least error.

    ggml takes the first of 16 candidates whose rounded float32 error is least. Up to twice the
    largest level those errors are exact, so the magnitudes are compared with the midpoints, a tie
    going to the smaller level; beyond it rounding can make several equal, so all are tried.
    """
    magnitude = np.abs(x)
    codes = np.zeros(x.shape, dtype=np.uint8)
    for midpoint in MIDPOINTS:
        threshold = spread(np.float32(midpoint) * scale, x.size).reshape(x.shape)
        codes += magnitude > threshold
    codes |= ((x < 0) & (codes > 0)).view(np.uint8) << 3
    far = magnitude > (np.float32(24) * scale)[:, None]
    if far.any():
        d = np.broadcast_to(scale[:, None], x.shape)[far]
        errors = np.abs(np.array(LEVELS, dtype=np.float32) * d[:, None] - x[far][:, None])
        codes[far] = errors.argmin(axis=1)
    return codes


def e8m0_scale(largest: np.ndarray) -> np.ndarray:
    """(B,) max |x| -> (B,) uint8: the exponent for which the largest level is 4 to 8 times its d.

    The logarithm is rounded to float32 before it is cut, as C's `log2f` does.
    """
    exponent = np.floor(np.log2(largest.astype(np.float64)).astype(np.float32))
    biased = np.where(largest > 0, exponent + np.float32(125), np.float32(0))
    return (biased.astype(np.int32) & 255).astype(np.uint8)


def encode_mxfp4(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes MXFP4."""
    e = e8m0_scale(largest_magnitude(x))
    blocks["e"] = e
    blocks["qs"] = join_fields(nearest_codes(x, E8M0[e]), 4, 16)


def ue4m3_scale(x: np.ndarray) -> np.ndarray:
    """(B,) float32 >= 0 -> (B,) uint8: the nearest UE4M3 number, ties up.

        float32   eeeeeeee mmm r mmmm...    r decides the rounding of the three bits before it

    All that would get the exponent 15 becomes 0x7E, the largest number (448).
    """
    x = np.minimum(x, np.float32(448))
    bits = x.view(np.int32)
    rounded = (bits + (1 << 19) >> 20) - (120 << 3)  # exponent bias 127 becomes 7
    subnormal = np.minimum((x * np.float32(512) + np.float32(0.5)).astype(np.int32), 7)
    small = bits >> 23 <= 120
    normal = np.where(rounded >= 0x78, 0x7E, rounded)
    return np.where(small, subnormal, normal).astype(np.uint8)


def encode_nvfp4(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes NVFP4."""
    parts = x.reshape(-1, 16)
    d = ue4m3_scale(largest_magnitude(parts) / np.float32(6))
    blocks["d"] = d.reshape(-1, 4)
    blocks["qs"] = join_fields(nearest_codes(parts, UE4M3[d]), 4, 8).reshape(-1, 32)


CODECS = (
    Codec("MXFP4", 32, MXFP4, decode_mxfp4, encode_mxfp4),
    Codec("NVFP4", 64, NVFP4, decode_nvfp4, encode_nvfp4),
)
