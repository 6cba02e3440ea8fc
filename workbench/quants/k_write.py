"""Writing K-quants: a search for the scale of each sub-block, then the scales' codes, then q.

    sub-blocks of x --search--> scales, mins --quantized--> d, dmin (float16), sc, m
    x, d sc, dmin m --rounded again--> q; where d sc is 0, the search's own codes stay

With an importance matrix the error is weighted by it, the searches try more, and the scales' codes
are searched as well; without, large weights count more. All bits are those of ggml.
Source: ggml-quants.c, `quantize_row_q*_K_ref` and, with an importance matrix,
`quantize_row_q*_K_impl`.
Left out: the searches (`search`), reading and the structs (`k_quants`).
"""

import numpy as np

from .block_math import importance, lead_scale, nearest_int, ordered_sum, spread
from .k_scales import pack_q3_k_scales, pack_scales_and_mins, scales_and_mins
from .packing import join_fields
from .search import (
    Trials,
    affine_fit,
    positive_fit,
    refined_fit,
    signed_fit,
    square_sums,
)

Array = np.ndarray

# The searches without an importance matrix, by the largest code: of Q2_K, Q4_K and Q5_K.
TRIALS = {3: Trials(-0.5, 0.1, 15), 15: Trials(-1.0, 0.1, 20), 31: Trials(-0.5, 0.1, 15)}
SMALLEST_SCALE = np.float32(1e-15)  # GROUP_MAX_EPS


# --- what the weighted forms share -----------------------------------------------------------


def block_importance(x: Array, imatrix: Array, factor: int) -> Array:
    """(R, n) weights, (n,) importances -> (R * n / 256, 256): what multiplies a squared error.

    factor: how often the block's mean square counts, 1 in Q2_K, 2 in the other types.
    """
    squares = square_sums(x.reshape(-1, 256))
    return importance(x, np.float32(factor) * squares / np.float32(256), imatrix)


def sub_block_sums(weights: Array, size: int) -> Array:
    """(B, 256) -> (B, 256 / size): the sum of each sub-block, from left to right."""
    return ordered_sum(weights.reshape(-1, size).T).reshape(len(weights), -1)


# --- d sc q - dmin m: Q2_K, Q4_K, Q5_K -------------------------------------------------------


def plain_codes(values: Array, top: int) -> tuple[Array, Array]:
    """Scales (B, g), not negative, as d (B,) times codes (B, g) uint8: the largest becomes top."""
    largest = np.maximum(values.max(axis=1), np.float32(0)) + np.float32(0)  # -0 + 0 = +0
    factor = np.float32(top) / largest
    factor[largest == 0] = 0
    codes = nearest_int(values * factor[:, None]).astype(np.uint8)
    return largest / np.float32(top), np.minimum(codes, top)


def affine_codes(x: Array, blocks: Array, sc: Array, m: Array, codes: Array, top: int) -> Array:
    """x (B, 256) rounded to codes 0..top of the scales that the blocks have now."""
    d = blocks["d"].astype(np.float32)[:, None] * sc.astype(np.float32)
    low = blocks["dmin"].astype(np.float32)[:, None] * m.astype(np.float32)
    scaled = x.reshape(-1) + spread(low, x.size)
    scaled /= spread(d, x.size)
    again = np.clip(nearest_int(scaled), 0, top).astype(np.uint8).reshape(*d.shape, -1)
    return keep_where_zero(d, again, codes)


def keep_where_zero(d: Array, again: Array, codes: Array) -> Array:
    """(B, 256): the codes `again` (B, g, size), but those of the search where a scale is 0."""
    zero = d == 0
    if zero.any():
        again[zero] = codes.reshape(again.shape)[zero]
    return again.reshape(len(again), -1)


def fit_plain(x: Array, blocks: Array, top: int, scale_top: int) -> tuple[Array, Array, Array]:
    """Searches and fills d and dmin; returns sc and m (B, g) uint8, and codes (B, 256) uint8."""
    parts = x.reshape(-1, sub_block_size(top))
    weights = np.abs(parts)
    if top > 3:
        squares = ordered_sum((parts * parts).T)
        weights += np.sqrt(squares / np.float32(32))[:, None]
    scales, lows, codes = affine_fit(parts, weights, top, TRIALS[top], absolute=top == 3)
    blocks["d"], sc = plain_codes(scales.reshape(len(x), -1), scale_top)
    blocks["dmin"], m = plain_codes(-lows.reshape(len(x), -1), scale_top)
    return sc, m, codes


def fit_weighted(
    x: Array, imatrix: Array, blocks: Array, top: int, scale_top: int
) -> tuple[Array, Array, Array]:
    """As `fit_plain`, for x (R, n) and blocks (R * n / 256,), weighted by imatrix (n,)."""
    size = sub_block_size(top)
    weights = block_importance(x, imatrix, 1 if top == 3 else 2)
    scales, lows, codes = affine_fit(x.reshape(-1, size), weights.reshape(-1, size), top)
    sums = sub_block_sums(weights, size)
    blocks["d"], sc = positive_fit(scales.reshape(sums.shape), sums, scale_top)
    blocks["dmin"], m = positive_fit(-lows.reshape(sums.shape), sums, scale_top)
    return sc, m, codes


def sub_block_size(top: int) -> int:
    """Weights in a sub-block of Q2_K (top code 3), Q4_K (15) and Q5_K (31)."""
    return 16 if top == 3 else 32


def top_code(blocks: Array) -> int:
    """The largest code of Q4_K or Q5_K."""
    return 31 if "qh" in blocks.dtype.names else 15


def pack_q2_k(x: Array, blocks: Array, sc: Array, m: Array, codes: Array) -> None:
    """Fills the fields of Q2_K that `decode_q2_k` reads."""
    blocks["scales"] = sc | m << 4
    sc, m = blocks["scales"] & 15, blocks["scales"] >> 4  # a code of a scale below 0 is cut
    blocks["qs"] = join_fields(affine_codes(x, blocks, sc, m, codes, 3), 2, 32)


def pack_q4_k(x: Array, blocks: Array, sc: Array, m: Array, codes: Array) -> None:
    """Fills the fields of Q4_K or Q5_K that `decode_q4_k` and `decode_q5_k` read."""
    top = top_code(blocks)
    if top == 31:
        sc, m = np.minimum(sc, 63), np.minimum(m, 63)
    pack_scales_and_mins(sc, m, blocks["scales"])
    sc, m = scales_and_mins(blocks["scales"])  # a code of a scale below 0 is cut
    codes = affine_codes(x, blocks, sc, m, codes, top)
    if top == 31:
        blocks["qh"] = join_fields(codes >> 4, 1, 32)
        codes &= 15
    blocks["qs"] = join_fields(codes, 4, 32)


def encode_q2_k(x: Array, blocks: Array) -> None:
    """Writes Q2_K."""
    pack_q2_k(x, blocks, *fit_plain(x, blocks, 3, 15))


def encode_q4_k(x: Array, blocks: Array) -> None:
    """Writes Q4_K and Q5_K."""
    pack_q4_k(x, blocks, *fit_plain(x, blocks, top_code(blocks), 63))


def encode_q2_k_weighted(x: Array, imatrix: Array, blocks: Array) -> None:
    """Writes Q2_K with an importance matrix."""
    blocks = blocks.reshape(-1)
    fit = fit_weighted(x, imatrix, blocks, 3, 15)
    pack_q2_k(x.reshape(-1, 256), blocks, *fit)


def encode_q4_k_weighted(x: Array, imatrix: Array, blocks: Array) -> None:
    """Writes Q4_K and Q5_K with an importance matrix."""
    blocks = blocks.reshape(-1)
    fit = fit_weighted(x, imatrix, blocks, top_code(blocks), 63)
    pack_q4_k(x.reshape(-1, 256), blocks, *fit)


# --- d sc q: Q3_K, Q6_K ----------------------------------------------------------------------


def signed_codes(x: Array, blocks: Array, sc: Array, codes: Array, offset: int) -> Array:
    """x (B, 256) rounded to codes 0..2 offset - 1 of the scales that the blocks have now."""
    d = blocks["d"].astype(np.float32)[:, None] * sc.astype(np.float32)
    scaled = x.reshape(-1) / spread(d, x.size)
    again = np.clip(nearest_int(scaled), -offset, offset - 1) + offset
    return keep_where_zero(d, again.astype(np.uint8).reshape(*d.shape, -1), codes)


def pack_q3_k(x: Array, blocks: Array, sc: Array, codes: Array) -> None:
    """Fills all but d of Q3_K; sc (B, 16) uint8 is the scales plus 32."""
    signed = sc.astype(np.int8) - np.int8(32)
    codes = signed_codes(x, blocks, signed, codes, 4)
    pack_q3_k_scales(sc, blocks["scales"])
    blocks["hmask"] = join_fields(codes >> 2, 1, 32)
    blocks["qs"] = join_fields(codes & 3, 2, 32)


def encode_q3_k(x: Array, blocks: Array) -> None:
    """Writes Q3_K."""
    scales, codes = refined_fit(x.reshape(-1, 16), 4)
    scales = scales.reshape(len(x), 16)
    lead = lead_scale(scales)
    factor = np.float32(-32) / lead
    sc = nearest_int(factor[:, None] * scales).astype(np.int8)
    sc = (np.clip(sc, -32, 31) + 32).astype(np.uint8)
    blocks["d"] = np.where(lead == 0, np.float32(0), np.float32(1) / factor)
    sc[lead == 0] = 0
    pack_q3_k(x, blocks, sc, codes)


def encode_q3_k_weighted(x: Array, imatrix: Array, blocks: Array) -> None:
    """Writes Q3_K with an importance matrix."""
    blocks = blocks.reshape(-1)
    weights = block_importance(x, imatrix, 2)
    scales, codes = signed_fit(x.reshape(-1, 16), weights.reshape(-1, 16), 4)
    sums = sub_block_sums(weights, 16)
    blocks["d"], sc = signed_fit(scales.reshape(sums.shape), sums, 32)
    pack_q3_k(x.reshape(-1, 256), blocks, sc, codes)


def write_q6_k(x: Array, weights: Array, blocks: Array) -> None:
    """Writes Q6_K of x (B, 256), whose squared errors are multiplied by weights (B, 256)."""
    scales, codes = signed_fit(x.reshape(-1, 16), weights.reshape(-1, 16), 32)
    scales = scales.reshape(len(x), 16)
    lead = lead_scale(scales)
    factor = np.float32(-128) / lead
    sc = np.minimum(nearest_int(factor[:, None] * scales), 127).astype(np.int8)
    blocks["d"], blocks["scales"] = np.float32(1) / factor, sc
    codes = signed_codes(x, blocks, sc, codes, 32)
    blocks["ql"] = join_fields(codes & 15, 4, 64)
    blocks["qh"] = join_fields(codes >> 4, 2, 32)
    blocks[np.abs(lead) < SMALLEST_SCALE] = np.zeros((), blocks.dtype)


def encode_q6_k(x: Array, blocks: Array) -> None:
    """Writes Q6_K; the weights are x * x."""
    write_q6_k(x, x * x, blocks)


def encode_q6_k_weighted(x: Array, imatrix: Array, blocks: Array) -> None:
    """Writes Q6_K with an importance matrix, which alone are the weights."""
    weights = np.broadcast_to(imatrix, x.shape)
    write_q6_k(x.reshape(-1, 256), weights.reshape(-1, 256), blocks.reshape(-1))
