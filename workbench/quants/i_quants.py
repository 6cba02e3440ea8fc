"""I-quants over lattice grids: IQ1, IQ2 and IQ3.

    IQ2_XXS  w = +-grid[index][j] d (1/2 + ls) / 4      an index names 8 magnitudes, 256 points
    IQ2_XS   the same, ls for each 16 weights           512 points
    IQ2_S    the same, all 8 signs stored               1024 points
    IQ3_XXS  w = +-grid[index][j] d (1/2 + ls) / 2      an index names 4 magnitudes, 256 points
    IQ3_S    w = +-grid[index][j] d (1 + 2 ls)          512 points, all signs stored
    IQ1_S    w = (grid[index][j] +- 1/8) d (1 + 2 ls)   an index names 8 of -1, 0, 1, 2048 points
    IQ1_M    the same, finer ls and signs of 1/8        2048 points

Blocks have 256 weights.
Sources: ggml-common.h (structs); ggml-quants.c, `dequantize_row_iq*`.
Left out: what is in the grids (`grids`), and choosing the points (`i_write`, `iq_search`).
"""

import numpy as np

from .block_math import scale_codes
from .codec import Codec
from .grids import EVEN_SIGNS, grid_levels
from .i_write import (
    squares,
    squares_and_mean,
    with_imatrix,
    without_imatrix,
    write_iq1_m,
    write_iq1_s,
    write_iq2_s,
    write_iq2_xs,
    write_iq2_xxs,
    write_iq3_s,
    write_iq3_xxs,
)
from .packing import split_fields

# IQ2_XXS  a group of 32 weights is four words of qs:
#     index 1, index 0 | index 3, index 2 | 31..28 ls  27..21 20..14 13..7 6..0 signs of 8 weights
# IQ2_XS   a word of qs: 15..9 signs  8..0 index;  byte j of scales: ls of groups 2j, 2j + 1
# IQ2_S    qs: 32 bytes of low bits of the indices, then 32 bytes of signs
#          qh: bits 2l, 2l+1 of byte j: high bits of index 4j + l
# IQ3_XXS  qs: 64 bytes of indices, then eight words of ls and signs as in IQ2_XXS
# IQ3_S    qs: low bits of the indices;  bit l of byte j of qh: the ninth bit of index 8j + l
# IQ1_S    qh: 15 sign of 1/8  14..12 ls  11..9 8..6 5..3 2..0 high bits of the four indices
# IQ1_M    qh: 7 sign of 1/8  6..4 high bits of index 2j + 1 | 3 sign  2..0 those of index 2j
#          scales: four words, 15..12 four bits of d, low ones first 11..9 8..6 5..3 2..0 an ls each
IQ2_XXS = np.dtype([("d", "<f2"), ("qs", "<u2", 32)])
IQ2_XS = np.dtype([("d", "<f2"), ("qs", "<u2", 32), ("scales", "u1", 8)])
IQ2_S = np.dtype([("d", "<f2"), ("qs", "u1", 64), ("qh", "u1", 8), ("scales", "u1", 8)])
IQ3_XXS = np.dtype([("d", "<f2"), ("qs", "u1", 96)])
IQ3_S = np.dtype(
    [("d", "<f2"), ("qs", "u1", 64), ("qh", "u1", 8), ("signs", "u1", 32), ("scales", "u1", 4)]
)
IQ1_S = np.dtype([("d", "<f2"), ("qs", "u1", 32), ("qh", "<u2", 8)])
IQ1_M = np.dtype([("qs", "u1", 32), ("qh", "u1", 16), ("scales", "u1", 8)])


def _pack_levels(type: str, word: str) -> np.ndarray:
    """The grid as one word a point, so that a look-up fetches 8 (IQ3: 4) levels."""
    return grid_levels(type).view(word).reshape(-1)


# A negative number is ~x + 1. Bytes of ones where a sign is set flip the bits of 8 levels at once;
# adding their lowest bits carries into no other byte, as no level is 0.
FLIPS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
FLIPS = (FLIPS * np.uint8(255)).view(np.uint64).reshape(-1)
LOW_BITS = np.uint64(0x0101010101010101)

IQ2_GRIDS = {type: _pack_levels(type, "u8") for type in ("IQ2_XXS", "IQ2_XS", "IQ2_S")}
IQ3_GRIDS = {type: _pack_levels(type, "u4") for type in ("IQ3_XXS", "IQ3_S")}

# Eight times (level + 1/8), then eight times (level - 1/8): no float16 d makes an eighth inexact.
IQ1_GRID = np.concatenate([8 * grid_levels("IQ1_S") + 1, 8 * grid_levels("IQ1_S") - 1])
IQ1_GRID = IQ1_GRID.astype(np.int8).view(np.uint64).reshape(-1)
LOWER = 2048  # the second half of it

EIGHTH, QUARTER, HALF = np.float32(0.125), np.float32(0.25), np.float32(0.5)
SHIFTS_3 = np.arange(0, 12, 3, dtype=np.uint16)
SHIFTS_4 = np.arange(0, 16, 4, dtype=np.uint16)
SHIFTS_7 = np.arange(0, 28, 7, dtype=np.uint32)


def with_signs(magnitudes: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """(n,) words of 8 magnitudes, (n,) bytes of signs -> int8 numbers (8 n,)."""
    flips = np.take(FLIPS, signs.reshape(-1))
    numbers = magnitudes ^ flips
    flips &= LOW_BITS
    numbers += flips
    return numbers.view(np.int8)


def half_steps(d: np.ndarray, ls: np.ndarray, factor: np.float32) -> np.ndarray:
    """d (1/2 + ls) factor: (B,) float16, (B, g) -> (B, g) float32."""
    scales = ls.astype(np.float32)
    scales += HALF
    scales *= d.astype(np.float32)[:, None]
    scales *= factor
    return scales


def odd_steps(d: np.ndarray, ls: np.ndarray) -> np.ndarray:
    """d (1 + 2 ls): (B,) float16, (B, g) -> (B, g) float32."""
    scales = ls.astype(np.float32)
    scales *= np.float32(2)
    scales += np.float32(1)
    scales *= d.astype(np.float32)[:, None]
    return scales


def even_signs(words: np.ndarray) -> np.ndarray:
    """(B, 8) words of four times 7 bits and ls -> (B, 8, 4) bytes of 8 signs."""
    return np.take(EVEN_SIGNS, words[:, :, None] >> SHIFTS_7 & np.uint32(127))


def decode_iq2_xxs(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ2_XXS."""
    groups = blocks["qs"].astype("<u2").view(np.uint8).reshape(-1, 8, 8)
    words = np.ascontiguousarray(groups[:, :, 4:]).view("<u4").reshape(-1, 8)
    magnitudes = np.take(IQ2_GRIDS["IQ2_XXS"], groups[:, :, :4].reshape(-1))
    levels = with_signs(magnitudes, even_signs(words))
    scale_codes(levels, half_steps(blocks["d"], words >> np.uint32(28), QUARTER), out)


def decode_iq2_xs(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ2_XS."""
    qs = blocks["qs"].astype(np.uint16).reshape(-1)
    magnitudes = np.take(IQ2_GRIDS["IQ2_XS"], qs & np.uint16(511))
    levels = with_signs(magnitudes, np.take(EVEN_SIGNS, qs >> np.uint16(9)))
    scales = half_steps(blocks["d"], split_fields(blocks["scales"], 4, 1), QUARTER)
    scale_codes(levels, scales, out)


def decode_iq2_s(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ2_S."""
    index = split_fields(blocks["qh"], 2, 1).astype(np.uint16)
    index <<= np.uint16(8)
    index |= blocks["qs"][:, :32]
    magnitudes = np.take(IQ2_GRIDS["IQ2_S"], index.reshape(-1))
    levels = with_signs(magnitudes, blocks["qs"][:, 32:])
    scales = half_steps(blocks["d"], split_fields(blocks["scales"], 4, 1), QUARTER)
    scale_codes(levels, scales, out)


def decode_iq3_xxs(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ3_XXS."""
    magnitudes = np.take(IQ3_GRIDS["IQ3_XXS"], blocks["qs"][:, :64].reshape(-1)).view(np.uint64)
    words = np.ascontiguousarray(blocks["qs"][:, 64:]).view("<u4")
    levels = with_signs(magnitudes, even_signs(words))
    scale_codes(levels, half_steps(blocks["d"], words >> np.uint32(28), HALF), out)


def decode_iq3_s(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ3_S."""
    index = split_fields(blocks["qh"], 1, 1).astype(np.uint16)
    index <<= np.uint16(8)
    index |= blocks["qs"]
    magnitudes = np.take(IQ3_GRIDS["IQ3_S"], index.reshape(-1)).view(np.uint64)
    levels = with_signs(magnitudes, blocks["signs"])
    scale_codes(levels, odd_steps(blocks["d"], split_fields(blocks["scales"], 4, 1)), out)


def decode_iq1_s(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ1_S."""
    qh = blocks["qh"].astype(np.uint16)
    index = qh[:, :, None] >> SHIFTS_3 & np.uint16(7)
    index <<= np.uint16(8)
    index |= (qh >> np.uint16(15) << np.uint16(11))[:, :, None]  # LOWER where the sign is set
    index |= blocks["qs"].reshape(-1, 8, 4)
    scales = odd_steps(blocks["d"], qh >> np.uint16(12) & np.uint16(7))
    scales *= EIGHTH
    scale_codes(np.take(IQ1_GRID, index.reshape(-1)).view(np.int8), scales, out)


def decode_iq1_m(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ1_M."""
    words = np.ascontiguousarray(blocks["scales"]).view("<u2")
    d = np.bitwise_or.reduce(words >> np.uint16(12) << SHIFTS_4, axis=1).view(np.float16)
    ls = words[:, :, None] >> SHIFTS_3 & np.uint16(7)
    index = split_fields(blocks["qh"], 4, 1).astype(np.uint16)
    index <<= np.uint16(8)  # the sign, bit 3, becomes LOWER
    index |= blocks["qs"]
    scales = odd_steps(d, ls.reshape(-1, 16))
    scales *= EIGHTH
    scale_codes(np.take(IQ1_GRID, index.reshape(-1)).view(np.int8), scales, out)


CODECS = (
    Codec("IQ1_S", 256, IQ1_S, decode_iq1_s, None, with_imatrix(write_iq1_s)),
    Codec(
        "IQ1_M",
        256,
        IQ1_M,
        decode_iq1_m,
        without_imatrix(write_iq1_m, squares),
        with_imatrix(write_iq1_m),
    ),
    Codec("IQ2_XXS", 256, IQ2_XXS, decode_iq2_xxs, None, with_imatrix(write_iq2_xxs, 1)),
    Codec("IQ2_XS", 256, IQ2_XS, decode_iq2_xs, None, with_imatrix(write_iq2_xs, 1)),
    Codec(
        "IQ2_S",
        256,
        IQ2_S,
        decode_iq2_s,
        without_imatrix(write_iq2_s, squares_and_mean),
        with_imatrix(write_iq2_s),
    ),
    Codec(
        "IQ3_XXS",
        256,
        IQ3_XXS,
        decode_iq3_xxs,
        without_imatrix(write_iq3_xxs, squares),
        with_imatrix(write_iq3_xxs),
    ),
    Codec(
        "IQ3_S",
        256,
        IQ3_S,
        decode_iq3_s,
        without_imatrix(write_iq3_s, squares),
        with_imatrix(write_iq3_s),
    ),
)
