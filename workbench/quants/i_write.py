"""Writing the I-quants over lattice grids: what is searched for, and how it is packed.

Source: ggml-quants.c, `quantize_row_iq*_impl`.
Left out: the structs (`i_quants`), the grids (`grids`), the compiled searches (`iq_search`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import ParameterError
from .block_math import nearest_int
from .grids import find_neighbours
from .k_write import block_importance
from .packing import join_bits, join_fields
from .search import square_sums

Array = np.ndarray
Write = Callable[[Array, Array, Array], None]


# Which runs of a sub-block get new points: those off the grid; all, if one was off; all.
REFINE_OFF_GRID, REFINE_ALL_IF_ANY, REFINE_ALL = 0, 1, 2


class Plan(NamedTuple):
    """How one type of IQ2 or IQ3 is searched, for `iq_search.fit_points`: float32, int and bool.

    size: weights in a sub-block, which has a scale.
    top: the highest of the levels 0, 1, 2, ...
    even: whether the number of negative signs of 8 weights must be even.
    least: a sub-block with a smaller largest magnitude is written as zeros.
    trials, delta: scales that take the largest magnitude to 2 top + 1 + i delta, |i| <= trials.
    refine: who gets new points with the best scale, see REFINE_OFF_GRID and the following.
    """

    size: int
    top: np.float32
    even: bool
    least: np.float32
    trials: int
    delta: np.float32
    refine: int


F = np.float32
SMALLEST = np.nextafter(F(0), F(1))
PLANS = {
    "IQ2_XXS": Plan(32, F(2), True, F(1e-15), 6, F(0.1), REFINE_ALL),
    "IQ2_XS": Plan(16, F(2), True, F(1e-15), 9, F(0.1), REFINE_OFF_GRID),
    "IQ2_S": Plan(16, F(2), False, F(1e-8), 9, F(0.1), REFINE_OFF_GRID),
    "IQ3_XXS": Plan(32, F(7), True, F(1e-8), 15, F(0.2), REFINE_OFF_GRID),
    "IQ3_S": Plan(32, F(7), False, SMALLEST, 9, F(0.2), REFINE_ALL_IF_ANY),
}
SHIFTS_3 = np.arange(0, 12, 3, dtype=np.uint16)
SHIFTS_4 = np.arange(0, 16, 4, dtype=np.uint16)
SHIFTS_7 = np.arange(0, 28, 7, dtype=np.uint32)


def squares(x: Array) -> Array:
    """(B, 256) -> (B, 256): how much each weight's error counts without an importance matrix."""
    return x * x


def squares_and_mean(x: Array) -> Array:
    """`squares` made more even: plus half their mean."""
    return F(0.25) * (square_sums(x) * F(2 / 256))[:, None] + x * x


def fit(type: str, x: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Scales (B, g) float32, points (B, p) uint16 and bytes of signs (B, 32) for x (B, 256).

    Raises: ParameterError for weights whose sums overflow; ggml ends the program there.
    """
    plan, near = PLANS[type], find_neighbours(type)
    scales = np.empty((len(x), 256 // plan.size), np.float32)
    points = np.empty((len(x), 256 // near.grid.shape[1]), np.uint16)
    signs = np.empty((len(x), 32), np.uint8)
    from .iq_search import fit_points  # here, because numba takes half a second to import

    lost = fit_points(plain(x), plain(weights), plan, near, scales, points, signs)
    check_found(type, lost)
    return scales, points, signs


def plain(x: Array) -> Array:
    """x as a contiguous array that may be written: numba compiles anew for any other kind."""
    return np.require(x, np.float32, ["C", "W"])


def check_found(type: str, lost: int) -> None:
    """Raises unless all sub-blocks got their points."""
    if lost:
        raise ParameterError(
            f"quantize: weights are too large for the sums of {type}; expected squared errors that "
            f"float32 can hold, got {lost} sub-blocks where they are infinite; scale x down"
        )


def round_scales(scales: Array, top: int, factor: float) -> tuple[Array, Array]:
    """Scales (B, g) as d (2 ls + 1): d (B,) float16, made larger by a factor, and ls (B, g).

    The largest scale is to have ls = top.
    """
    d = scales.max(axis=1) / F(2 * top + 1)
    steps = nearest_int(F(0.5) * ((F(1) / d)[:, None] * scales - F(1)))
    ls = np.clip(steps, 0, top).astype(np.uint8)
    ls[d == 0] = 0
    return (d * F(factor)).astype(np.float16), ls


def zero_empty(scales: Array, *fields: Array) -> None:
    """Zeroes the rows of the fields whose blocks have no scale but 0."""
    empty = scales.max(axis=1) == 0
    for field in fields:
        field[empty] = 0


def pack_signs(signs: Array, ls: Array) -> Array:
    """(B, 32) bytes of 8 signs, (B, 8) ls -> (B, 8) words of ls and four times seven signs."""
    sevens = (signs & 127).reshape(-1, 8, 4).astype(np.uint32) << SHIFTS_7
    return np.bitwise_or.reduce(sevens, axis=2) | ls.astype(np.uint32) << np.uint32(28)


def write_iq2_xxs(x: Array, weights: Array, blocks: Array) -> None:
    """Writes IQ2_XXS of x (B, 256), whose squared errors are multiplied by weights (B, 256)."""
    scales, points, signs = fit("IQ2_XXS", x, weights)
    zero_empty(scales, points, signs)
    blocks["d"], ls = round_scales(scales, 15, 1)
    groups = np.empty((len(x), 8, 2), "<u4")
    groups[:, :, 0] = points.astype(np.uint8).view("<u4")
    groups[:, :, 1] = pack_signs(signs, ls)
    blocks["qs"] = groups.view("<u2").reshape(-1, 32)


def write_iq2_xs(x: Array, weights: Array, blocks: Array) -> None:
    """Writes IQ2_XS, as `write_iq2_xxs`."""
    scales, points, signs = fit("IQ2_XS", x, weights)
    zero_empty(scales, points, signs)
    blocks["d"], ls = round_scales(scales, 15, 1)
    blocks["qs"] = points | (signs & 127).astype(np.uint16) << np.uint16(9)
    blocks["scales"] = join_fields(ls, 4, 1)


def write_iq2_s(x: Array, weights: Array, blocks: Array) -> None:
    """Writes IQ2_S, as `write_iq2_xxs`."""
    scales, points, signs = fit("IQ2_S", x, weights)
    blocks["d"], ls = round_scales(scales, 15, 0.9875)
    blocks["qs"][:, :32] = points & 255
    blocks["qs"][:, 32:] = signs
    blocks["qh"] = join_fields((points >> 8).astype(np.uint8), 2, 1)
    blocks["scales"] = join_fields(ls, 4, 1)


def write_iq3_xxs(x: Array, weights: Array, blocks: Array) -> None:
    """Writes IQ3_XXS, as `write_iq2_xxs`."""
    scales, points, signs = fit("IQ3_XXS", x, weights)
    zero_empty(scales, points, signs)
    blocks["d"], ls = round_scales(scales, 15, 1.0125)
    blocks["qs"][:, :64] = points
    blocks["qs"][:, 64:] = pack_signs(signs, ls).astype("<u4").view(np.uint8)


def write_iq3_s(x: Array, weights: Array, blocks: Array) -> None:
    """Writes IQ3_S, as `write_iq2_xxs`.

    ggml passes over a sub-block of zeros without stepping on in qs and signs, so that what follows
    in the block is read from the wrong places. Here all stands where it is read: the only
    difference, and only in blocks with 32 zeros in a row beside other weights.
    """
    scales, points, signs = fit("IQ3_S", x, weights)
    blocks["d"], ls = round_scales(scales, 15, 1.033)
    blocks["qs"] = points & 255
    blocks["qh"] = join_bits(points >> 8)
    blocks["signs"] = signs
    blocks["scales"] = join_fields(ls, 4, 1)


def fit_ones(x: Array, weights: Array, size: int, least: float) -> tuple[Array, Array, Array]:
    """Scales (B, 256 / size) float32, points (B, 32) uint16, lower (B, 32) uint8 for x (B, 256).

    size: weights in a sub-block, which has a scale. least: as in `Plan`.
    lower: 1 where the levels of a run are less by 1/8, 0 where they are more by 1/8.
    """
    from .iq1_search import fit_ones as search  # here, as in `fit`

    scales = np.empty((len(x), 256 // size), np.float32)
    points, lower = np.empty((len(x), 32), np.uint16), np.empty((len(x), 32), np.uint8)
    near = find_neighbours("IQ1_S")
    lost = search(plain(x), plain(weights), F(least), near, scales, points, lower)
    check_found("IQ1_S" if size == 32 else "IQ1_M", lost)
    lower[scales.max(axis=1) == 0] = 0
    return scales, points, lower


def write_iq1_s(x: Array, weights: Array, blocks: Array) -> None:
    """Writes IQ1_S, as `write_iq2_xxs`."""
    scales, points, lower = fit_ones(x, weights, 32, 1e-12)
    blocks["d"], ls = round_scales(scales, 7, 1.125)
    high = np.bitwise_or.reduce((points >> 8).reshape(-1, 8, 4) << SHIFTS_3, axis=2)
    blocks["qs"] = points & 255
    blocks["qh"] = high | (ls | lower[:, ::4] << 3).astype(np.uint16) << np.uint16(12)


def write_iq1_m(x: Array, weights: Array, blocks: Array) -> None:
    """Writes IQ1_M, as `write_iq2_xxs`."""
    from .iq1_search import refit_scale  # here, as in `fit`

    scales, points, lower = fit_ones(x, weights, 16, 1e-7)
    ls = round_scales(scales, 7, 1)[1]
    d = scales.max(axis=1) / F(15)
    grid = find_neighbours("IQ1_S").grid
    refit_scale(plain(x), plain(weights), grid, points, lower, ls, d)
    bits = (d * F(1.1125)).astype(np.float16).view(np.uint16)
    words = np.bitwise_or.reduce(ls.astype(np.uint16).reshape(-1, 4, 4) << SHIFTS_3, axis=2)
    words |= (bits[:, None] >> SHIFTS_4 & 15) << np.uint16(12)
    blocks["qs"] = points & 255
    blocks["qh"] = join_fields((points >> 8).astype(np.uint8) | lower << 3, 4, 1)
    blocks["scales"] = words.astype("<u2").view(np.uint8)


def without_imatrix(write: Write, weigh: Callable[[Array], Array]) -> Callable:
    """A `Codec.encode` from a write function and the weights it takes without an imatrix."""

    def encode(x: Array, blocks: Array) -> None:
        write(x, weigh(x), blocks)

    return encode


def with_imatrix(write: Write, factor: int = 2) -> Callable:
    """A `Codec.encode_weighted` from a write function; factor: see `block_importance`."""

    def encode_weighted(x: Array, imatrix: Array, blocks: Array) -> None:
        write(x.reshape(-1, 256), block_importance(x, imatrix, factor), blocks.reshape(-1))

    return encode_weighted
