"""The first block types: 32 weights under one scale, Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1; and Q1_0, Q2_0.

    Q4_0  w = (q - 8) d          q 4 bits         Q5_0  w = (q - 16) d        q 5 bits
    Q4_1  w = q d + m            q 4 bits         Q5_1  w = q d + m           q 5 bits
    Q8_0  w = q d                q int8           Q8_1  Q8_0, and s = d times the sum of q
    Q1_0  w = (2 q - 1) d        128 weights      Q2_0  w = (q - 1) d         64 weights

Sources: ggml-common.h (structs); ggml-quants.c, `quantize_row_*_ref`, `quantize_row_*_impl` (with
an importance matrix) and `dequantize_row_*`.
"""

import numpy as np

from .block_math import (
    fold,
    importance,
    largest_magnitude,
    ordered_sum,
    reciprocal,
    round_half_away,
    scale_codes,
    settle,
    signed_extreme,
    smallest,
    spread,
)
from .codec import Codec
from .packing import flatten, join_bits, join_fields, split_bits, split_fields
from .search import affine_fit, signed_fit, square_sums

# qs, 4-bit codes:  byte j = code[j] | code[j + 16] << 4
# qh, fifth bits:   bit j of the 32 = bit 4 of code[j]
Q4_0 = np.dtype([("d", "<f2"), ("qs", "u1", 16)])
Q4_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("qs", "u1", 16)])
Q5_0 = np.dtype([("d", "<f2"), ("qh", "u1", 4), ("qs", "u1", 16)])
Q5_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("qh", "u1", 4), ("qs", "u1", 16)])
Q8_0 = np.dtype([("d", "<f2"), ("qs", "i1", 32)])
Q8_1 = np.dtype([("d", "<f2"), ("s", "<f2"), ("qs", "i1", 32)])
Q1_0 = np.dtype([("d", "<f2"), ("qs", "u1", 16)])  # bit k of byte j = code[8 j + k]
Q2_0 = np.dtype([("d", "<f2"), ("qs", "u1", 16)])  # bits 2k, 2k+1 of byte j = code[4 j + k]

# The four codes of a Q2_0 byte, less 1, as the bytes of one uint32.
Q2_0_CODES = (((np.arange(256)[:, None] >> [0, 2, 4, 6]) & 3) - 1).astype(np.int8).view("<u4")[:, 0]


# --- reading ---------------------------------------------------------------------------------


def read_codes(blocks: np.ndarray) -> np.ndarray:
    """(B,) -> (B, 32) uint8: the 4-bit codes, or the 5-bit ones where the block has `qh`."""
    codes = split_fields(blocks["qs"], 4, 16)
    if "qh" in blocks.dtype.names:
        fifth = split_bits(blocks["qh"])
        fifth <<= 4
        codes |= fifth
    return codes


def decode_symmetric(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q4_0 and Q5_0: w = (q - 8) d, w = (q - 16) d."""
    codes = read_codes(blocks).view(np.int8)
    codes -= 16 if "qh" in blocks.dtype.names else 8
    scale_codes(codes, blocks["d"].astype(np.float32), out)


def decode_affine(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q4_1 and Q5_1: w = q d + m."""
    scale_codes(read_codes(blocks), blocks["d"].astype(np.float32), out)
    weights = out.reshape(-1)
    weights += spread(blocks["m"].astype(np.float32), out.size)


def decode_q8(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q8_0 and Q8_1: w = q d."""
    scale_codes(flatten(blocks["qs"]), blocks["d"].astype(np.float32), out)


def decode_q1_0(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q1_0: w = d where the bit is set, else -d."""
    signs = split_bits(blocks["qs"]).view(np.int8)
    signs <<= 1
    signs -= 1
    scale_codes(signs, blocks["d"].astype(np.float32), out)


def decode_q2_0(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q2_0: w = (q - 1) d, q in 0..3."""
    codes = np.take(Q2_0_CODES, blocks["qs"]).view(np.int8)
    scale_codes(codes, blocks["d"].astype(np.float32), out)


# --- writing ---------------------------------------------------------------------------------


def write_codes(codes: np.ndarray, blocks: np.ndarray) -> None:
    """(B, 32) uint8 codes into `qs` and, where the block has it, `qh`."""
    if "qh" in blocks.dtype.names:
        blocks["qh"] = join_bits(codes & 16)
        codes = codes & 15
    blocks["qs"] = join_fields(codes, 4, 16)


def encode_symmetric(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q4_0 and Q5_0: the weight of largest magnitude becomes -8 (-16) times d."""
    offset = 16 if "qh" in blocks.dtype.names else 8
    d = signed_extreme(x) / np.float32(-offset)
    inverse = reciprocal(d)
    scaled = x * spread(inverse, x.size).reshape(x.shape)
    scaled += np.float32(offset + 0.5)
    settle(scaled, inverse)
    codes = scaled.astype(np.int8)
    np.minimum(codes, 2 * offset - 1, out=codes)
    blocks["d"] = d
    write_codes(codes.view(np.uint8), blocks)


def encode_affine(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q4_1 and Q5_1: the smallest weight becomes code 0, the largest 15 (31)."""
    top = 31 if "qh" in blocks.dtype.names else 15
    low = smallest(x)
    d = (fold(x, np.maximum) - low + np.float32(0)) / np.float32(top)
    inverse = reciprocal(d)
    scaled = x - spread(low, x.size).reshape(x.shape)
    scaled *= spread(inverse, x.size).reshape(x.shape)
    scaled += np.float32(0.5)
    settle(scaled, inverse, d)
    codes = scaled.astype(np.int8)
    np.minimum(codes, top, out=codes)
    blocks["d"], blocks["m"] = d, low
    write_codes(codes.view(np.uint8), blocks)


def encode_q8(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q8_0 and Q8_1: the largest magnitude becomes 127; rounded half away from zero."""
    d = largest_magnitude(x) / np.float32(127)
    inverse = reciprocal(d)
    scaled = x * spread(inverse, x.size).reshape(x.shape)
    codes = settle(round_half_away(scaled), inverse).astype(np.int8)
    blocks["d"], blocks["qs"] = d, codes
    if "s" in blocks.dtype.names:
        blocks["s"] = codes.sum(axis=1, dtype=np.int32).astype(np.float32) * d


def encode_q1_0(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q1_0: the signs, and the mean magnitude as scale."""
    total = ordered_sum(np.ascontiguousarray(np.abs(x).T))
    blocks["d"] = total / np.float32(x.shape[1])
    blocks["qs"] = join_bits(x >= 0)


def encode_q2_0(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q2_0: the largest magnitude is the scale, so that codes are -1, 0 and 1, plus 1."""
    d = largest_magnitude(x)
    inverse = reciprocal(d)
    scaled = x * spread(inverse, x.size).reshape(x.shape)
    odd = ~np.isfinite(inverse)
    codes = settle(round_half_away(scaled), inverse).astype(np.int8)
    codes += 1
    codes[odd] = 0
    blocks["d"] = d
    blocks["qs"] = join_fields(codes.view(np.uint8), 2, 1)


# --- writing with an importance matrix -------------------------------------------------------


def row_importance(x: np.ndarray, imatrix: np.ndarray) -> np.ndarray:
    """(R, n) weights, (n,) importances -> (R * n / 32, 32): what multiplies squared errors."""
    return importance(x, square_sums(x) / np.float32(x.shape[1]), imatrix).reshape(-1, 32)


def encode_symmetric_weighted(x: np.ndarray, imatrix: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q4_0 and Q5_0 with the scale of least weighted error among those ggml tries."""
    blocks = blocks.reshape(-1)
    offset = 16 if "qh" in blocks.dtype.names else 8
    blocks["d"], codes = signed_fit(x.reshape(-1, 32), row_importance(x, imatrix), offset)
    write_codes(codes, blocks)


def encode_affine_weighted(x: np.ndarray, imatrix: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q4_1 and Q5_1 with the scale and minimum of least weighted error that ggml finds."""
    blocks = blocks.reshape(-1)
    top = 31 if "qh" in blocks.dtype.names else 15
    blocks["d"], blocks["m"], codes = affine_fit(x.reshape(-1, 32), row_importance(x, imatrix), top)
    write_codes(codes, blocks)


CODECS = (
    Codec("Q4_0", 32, Q4_0, decode_symmetric, encode_symmetric, encode_symmetric_weighted),
    Codec("Q4_1", 32, Q4_1, decode_affine, encode_affine, encode_affine_weighted),
    Codec("Q5_0", 32, Q5_0, decode_symmetric, encode_symmetric, encode_symmetric_weighted),
    Codec("Q5_1", 32, Q5_1, decode_affine, encode_affine, encode_affine_weighted),
    Codec("Q8_0", 32, Q8_0, decode_q8, encode_q8),
    Codec("Q8_1", 32, Q8_1, decode_q8, encode_q8),
    Codec("Q1_0", 128, Q1_0, decode_q1_0, encode_q1_0),
    Codec("Q2_0", 64, Q2_0, decode_q2_0, encode_q2_0),
)
