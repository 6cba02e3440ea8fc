"""Types over a table of 16 uneven levels: IQ4_NL and IQ4_XS.

    IQ4_NL  w = d level[q]              blocks of 32
    IQ4_XS  w = d (ls - 32) level[q]    blocks of 256, ls 6 bits, sub-blocks of 32

Sources: ggml-common.h (structs, `kvalues_iq4nl`); ggml-quants.c, `dequantize_row_iq4_*` and
`quantize_row_iq4_nl_impl`.
Left out: the types over lattice grids (`i_quants`).
"""

import numpy as np

from .block_math import (
    importance,
    lead_scale,
    nearest_int,
    scale_codes,
    signed_extreme,
    spread,
)
from .codec import Codec
from .packing import join_fields, look_up_nibbles, nibble_table, split_fields
from .search import level_fit, square_sums

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
LEVEL_TABLE = nibble_table(LEVELS)

# qs: byte j of a sub-block = code[j] | code[j + 16] << 4
# scales_l: byte j = low 4 bits of ls[2j] | those of ls[2j + 1] << 4
# scales_h: bits 2k, 2k+1 = high 2 bits of ls[k]
IQ4_NL = np.dtype([("d", "<f2"), ("qs", "u1", 16)])
IQ4_XS = np.dtype([("d", "<f2"), ("scales_h", "<u2"), ("scales_l", "u1", 4), ("qs", "u1", 128)])

NEXT_TO_NOTHING = np.float32(1e-15)  # blocks without a greater number get the scale 0
SHIFTS = np.arange(0, 16, 2, dtype=np.uint16)


def decode_iq4_nl(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ4_NL."""
    levels = look_up_nibbles(blocks["qs"], LEVEL_TABLE, 16)
    scale_codes(levels, blocks["d"].astype(np.float32), out)


def decode_iq4_xs(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ4_XS."""
    scales = (blocks["scales_h"][:, None] >> SHIFTS & 3).astype(np.int8)
    scales <<= 4
    scales |= split_fields(blocks["scales_l"], 4, 1).view(np.int8)
    scales -= 32
    d = blocks["d"].astype(np.float32)[:, None] * scales.astype(np.float32)
    scale_codes(look_up_nibbles(blocks["qs"], LEVEL_TABLE, 16), d, out)


# The code of the level nearest to v stands at floor(2 v) + 256: all borders are whole or half.
BORDERS = (np.array(LEVELS[1:]) + LEVELS[:-1]) / 2
NEAREST = np.searchsorted(BORDERS, np.arange(-256, 256) / 2, side="right").astype(np.uint8)
NEAREST_LEVEL = np.array(LEVELS, dtype=np.float32)[NEAREST]


def nearest_codes(scaled: np.ndarray) -> np.ndarray:
    """The codes (uint8) of the levels nearest to `scaled` (float32, overwritten)."""
    scaled *= np.float32(2)
    np.floor(scaled, out=scaled)
    scaled[np.isnan(scaled)] = 255  # 0 / 0 falls through ggml's comparisons to the last level
    np.clip(scaled, -256, 255, out=scaled)
    scaled += np.float32(256)
    return NEAREST[scaled.astype(np.intp)]


def block_importance(x: np.ndarray, imatrix: np.ndarray, size: int) -> np.ndarray:
    """(R, n) weights, (n,) importances -> (R * n / size, size): what multiplies squared errors."""
    squares = square_sums(x.reshape(-1, size))
    return importance(x, squares * np.float32(2 / size), imatrix)


def write_iq4_nl(x: np.ndarray, weights: np.ndarray, blocks: np.ndarray) -> None:
    """Writes IQ4_NL of x (B, 32), whose squared errors are multiplied by weights (B, 32)."""
    d = level_fit(x, weights, NEAREST_LEVEL)
    inverse = np.float32(1) / d
    inverse[d == 0] = 0
    codes = nearest_codes(x * inverse[:, None])
    blocks["d"], blocks["qs"] = d, join_fields(codes, 4, 16)


def write_iq4_xs(x: np.ndarray, weights: np.ndarray, blocks: np.ndarray) -> None:
    """Writes IQ4_XS of x (B, 256), whose squared errors are multiplied by weights (B, 256)."""
    scales = level_fit(x.reshape(-1, 32), weights.reshape(-1, 32), NEAREST_LEVEL).reshape(-1, 8)
    d = lead_scale(scales) / np.float32(-32)
    inverse = np.float32(1) / d
    inverse[d == 0] = 0
    ls = np.clip(nearest_int(inverse[:, None] * scales), -32, 31)
    factor = d[:, None] * ls.astype(np.float32)
    zero = factor == 0
    np.divide(np.float32(1), factor, out=factor)
    factor[zero] = 0
    codes = nearest_codes(x.reshape(-1) * spread(factor, x.size)).reshape(x.shape)
    ls = (ls + 32).astype(np.uint16)
    blocks["d"], blocks["qs"] = d, join_fields(codes, 4, 16)
    blocks["scales_l"] = join_fields((ls & 15).astype(np.uint8), 4, 1)
    blocks["scales_h"] = np.bitwise_or.reduce((ls >> 4) << SHIFTS, axis=1)


def encode_iq4_nl(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes IQ4_NL; the weights are x * x."""
    write_iq4_nl(x, x * x, blocks)


def encode_iq4_xs(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes IQ4_XS; the weights are x * x."""
    write_iq4_xs(x, x * x, blocks)


def encode_iq4_nl_weighted(x: np.ndarray, imatrix: np.ndarray, blocks: np.ndarray) -> None:
    """Writes IQ4_NL with an importance matrix."""
    write_iq4_nl(x.reshape(-1, 32), block_importance(x, imatrix, 32), blocks.reshape(-1))


def encode_iq4_nl_at_once(x: np.ndarray, blocks: np.ndarray) -> None:
    """Writes IQ4_NL without trying other scales: the codes that the greatest number's level gives,
    and the scale that fits them best. Source: `quantize_row_iq4_nl_ref` (ntry -1)."""
    greatest = signed_extreme(x)
    near_zero = np.abs(greatest) < NEXT_TO_NOTHING
    greatest[near_zero] = 1
    first = greatest / np.float32(LEVELS[0])
    codes = nearest_codes(x * (np.float32(1) / first)[:, None])
    levels = np.array(LEVELS, np.float32)[codes]
    weighted = x * x * levels
    products = np.add.accumulate(weighted * x, axis=1, dtype=np.float32)[:, -1]  # left to right
    d = products / np.add.accumulate(weighted * levels, axis=1, dtype=np.float32)[:, -1]
    d[near_zero] = 0
    blocks["d"], blocks["qs"] = d, join_fields(codes, 4, 16)


def encode_iq4_xs_weighted(x: np.ndarray, imatrix: np.ndarray, blocks: np.ndarray) -> None:
    """Writes IQ4_XS with an importance matrix."""
    write_iq4_xs(x.reshape(-1, 256), block_importance(x, imatrix, 256), blocks.reshape(-1))


CODECS = (
    Codec("IQ4_NL", 32, IQ4_NL, decode_iq4_nl, encode_iq4_nl, encode_iq4_nl_weighted),
    Codec("IQ4_XS", 256, IQ4_XS, decode_iq4_xs, encode_iq4_xs, encode_iq4_xs_weighted),
)
