"""K-quants: super-blocks of 256 weights, whose 16 or 8 sub-blocks have quantized scales.

    Q2_K  w = d sc q - dmin m    q 2 bits, sc and m 4 bits, sub-blocks of 16
    Q3_K  w = d (sc - 32) q      q 3 bits (-4..3), sc 6 bits, sub-blocks of 16
    Q4_K  w = d sc q - dmin m    q 4 bits, sc and m 6 bits, sub-blocks of 32
    Q5_K  w = d sc q - dmin m    q 5 bits, sc and m 6 bits, sub-blocks of 32
    Q6_K  w = d sc q             q 6 bits (-32..31), sc int8, sub-blocks of 16
    Q8_K  w = d q                q int8, d float32; bsums = sums of 16 codes

Sources: ggml-common.h (structs); ggml-quants.c, `dequantize_row_q*_K` and
`quantize_row_q8_K_ref`.
Left out: the 6-bit scales (`k_scales`); writing Q2_K to Q6_K, which searches (`k_write`).
"""

import numpy as np

from .block_math import nearest_int, scale_codes, signed_extreme, spread
from .codec import Codec
from .k_scales import q3_k_scales, scales_and_mins
from .k_write import (
    encode_q2_k,
    encode_q2_k_weighted,
    encode_q3_k,
    encode_q3_k_weighted,
    encode_q4_k,
    encode_q4_k_weighted,
    encode_q6_k,
    encode_q6_k_weighted,
)
from .packing import split_fields

QK_K = 256

# Codes lie in runs of 32 bytes (Q6_K's ql: 64), see `packing`; the fields of a run are the codes of
# 32 consecutive weights each, so that the unpacked order is the order of the weights.
Q2_K = np.dtype([("scales", "u1", 16), ("qs", "u1", 64), ("d", "<f2"), ("dmin", "<f2")])
Q3_K = np.dtype([("hmask", "u1", 32), ("qs", "u1", 64), ("scales", "u1", 12), ("d", "<f2")])
Q4_K = np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qs", "u1", 128)])
Q5_K = np.dtype(
    [("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qh", "u1", 32), ("qs", "u1", 128)]
)
Q6_K = np.dtype([("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), ("d", "<f2")])
Q8_K = np.dtype([("d", "<f4"), ("qs", "i1", 256), ("bsums", "<i2", 16)])


def apply_scales(
    codes: np.ndarray, blocks: np.ndarray, sc: np.ndarray, m: np.ndarray | None, out: np.ndarray
) -> None:
    """out = (d sc) q, less dmin m where there is m; sc and m are (B, sub-blocks) integers."""
    scale_codes(codes, blocks["d"].astype(np.float32)[:, None] * sc.astype(np.float32), out)
    if m is not None:
        low = blocks["dmin"].astype(np.float32)[:, None] * m.astype(np.float32)
        weights = out.reshape(-1)
        weights -= spread(low, out.size)


def decode_q2_k(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q2_K; byte j of `scales` is sc | m << 4 of sub-block j."""
    codes = split_fields(blocks["qs"], 2, 32)
    apply_scales(codes, blocks, blocks["scales"] & 15, blocks["scales"] >> 4, out)


def decode_q3_k(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q3_K; a bit of `hmask` that is 0 takes 4 off the two low bits in `qs`."""
    codes = split_fields(blocks["hmask"], 1, 32, place=2)
    codes |= split_fields(blocks["qs"], 2, 32)
    codes = codes.view(np.int8)
    codes -= 4
    apply_scales(codes, blocks, q3_k_scales(blocks["scales"]), None, out)


def decode_q4_k(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q4_K."""
    apply_scales(split_fields(blocks["qs"], 4, 32), blocks, *scales_and_mins(blocks["scales"]), out)


def decode_q5_k(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q5_K; bit k of byte j of `qh` is the fifth bit of weight j of sub-block k."""
    codes = split_fields(blocks["qh"], 1, 32, place=4)
    codes |= split_fields(blocks["qs"], 4, 32)
    apply_scales(codes, blocks, *scales_and_mins(blocks["scales"]), out)


def decode_q6_k(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q6_K: four low bits in `ql`, two high bits in `qh`, 32 taken off."""
    codes = split_fields(blocks["qh"], 2, 32, place=4)
    codes |= split_fields(blocks["ql"], 4, 64)
    codes = codes.view(np.int8)
    codes -= 32
    apply_scales(codes, blocks, blocks["scales"], None, out)


def decode_q8_k(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads Q8_K."""
    np.multiply(blocks["qs"], blocks["d"].astype(np.float32)[:, None], out=out)


def encode_q8_k(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes Q8_K: the weight of largest magnitude becomes -127, the scale takes its sign."""
    extreme = signed_extreme(x)
    factor = np.float32(-127) / extreme
    codes = np.minimum(nearest_int(x * factor[:, None]), 127)
    codes[extreme == 0] = 0
    blocks["d"] = np.where(extreme == 0, np.float32(0), np.float32(1) / factor)
    blocks["qs"] = codes.astype(np.int8)  # -2**22, which nearest_int gives infinities, becomes 0
    blocks["bsums"] = blocks["qs"].reshape(-1, 16, 16).sum(axis=2, dtype=np.int16)


CODECS = (
    Codec("Q2_K", QK_K, Q2_K, decode_q2_k, encode_q2_k, encode_q2_k_weighted),
    Codec("Q3_K", QK_K, Q3_K, decode_q3_k, encode_q3_k, encode_q3_k_weighted),
    Codec("Q4_K", QK_K, Q4_K, decode_q4_k, encode_q4_k, encode_q4_k_weighted),
    Codec("Q5_K", QK_K, Q5_K, decode_q5_k, encode_q4_k, encode_q4_k_weighted),
    Codec("Q6_K", QK_K, Q6_K, decode_q6_k, encode_q6_k, encode_q6_k_weighted),
    Codec("Q8_K", QK_K, Q8_K, decode_q8_k, encode_q8_k),
)
