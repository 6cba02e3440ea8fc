"""Searches for the block scale of least weighted squared error, as ggml makes them.

Each takes blocks as rows, x (B, n) float32 with weights (B, n) float32, and finds the numbers that
ggml finds bit for bit: sums over a block in ggml's order, in float32.
Sources: ggml-quants.c, the `make_*_quants` functions named below.
Left out: the loops themselves, which are compiled (`lanes`, `signed_kernels`, `affine_kernels`),
and the searches over lattice grids (`i_quants`).
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Trials(NamedTuple):
    """The spreads of codes that an affine search tries: first + step * delta + top, steps + 1."""

    first: float
    delta: float
    steps: int


WITH_IMATRIX = Trials(-0.9, 0.05, 36)


def signed_fit(x: Array, weights: Array, offset: int) -> tuple[Array, Array]:
    """Fits x = (q - offset) d with 0 <= q < 2 offset, trying 19 scales about the plain one.

    Returns d (B,) float32 and q (B, n) uint8; both 0 for blocks of next to nothing.
    Source: `make_qx_quants` with rmse_type 1.
    """
    d, codes = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _signed_kernels().fit_signed(_plain(x), _plain(weights), np.float32(offset), d, codes)
    return d, codes


def refined_fit(x: Array, offset: int) -> tuple[Array, Array]:
    """Fits x = (q - offset) d, from the plain codes moving one after another; weights are x * x.

    Returns d (B,) float32 and q (B, n) uint8; both 0 for blocks of next to nothing.
    Source: `make_q3_quants` with do_rmse.
    """
    d, codes = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _signed_kernels().fit_refined(_plain(x), np.float32(offset), d, codes)
    return d, codes


def level_fit(x: Array, weights: Array, levels: Array) -> Array:
    """Fits x = levels[q] d, trying 15 scales about the plain one.

    levels: (512,) float32, the level nearest to the numbers in [i / 2 - 128, i / 2 - 127.5).
    Returns d (B,) float32, 0 for blocks of next to nothing.
    Source: `quantize_row_iq4_nl_impl` with ntry 7.
    """
    d = np.empty(len(x), np.float32)
    _signed_kernels().fit_levels(_plain(x), _plain(weights), levels, d)
    return d


def affine_fit(
    x: Array, weights: Array, top: int, trials: Trials = WITH_IMATRIX, absolute: bool = False
) -> tuple[Array, Array, Array]:
    """Fits x = q d + m with 0 <= q <= top and m <= 0, refining (d, m) from each of the trials.

    absolute: whether the best fit has the least absolute error instead of squared error.
    Returns d (B,) and m (B,) float32 and q (B, n) uint8.
    Source: `make_qkx2_quants` and `make_qkx3_quants`, which find the same.
    """
    d, m = np.empty((2, len(x)), np.float32)
    codes = np.empty(x.shape, np.uint8)
    first, delta = np.float32(trials.first), np.float32(trials.delta)
    _affine_kernels().fit_affine(
        _plain(x), _plain(weights), np.float32(top), first, delta, trials.steps, absolute,
        d, m, codes,
    )  # fmt: skip
    return d, m, codes


def positive_fit(x: Array, weights: Array, top: int) -> tuple[Array, Array]:
    """Fits x = q d with 0 <= q <= top, for the scales of the sub-blocks of a block.

    Returns d (B,) float32 and q (B, n) uint8; both 0 for blocks of next to nothing.
    Source: `make_qp_quants`.
    """
    d, codes = np.empty(len(x), np.float32), np.empty(x.shape, np.uint8)
    _affine_kernels().fit_positive(_plain(x), _plain(weights), np.float32(top), d, codes)
    return d, codes


def square_sums(x: Array) -> Array:
    """(B, n) -> (B,): the sum of x * x along each row, from left to right in float32."""
    sums = np.empty(len(x), np.float32)
    _lanes().sum_squares(_plain(x), sums)
    return sums


def _plain(x: Array) -> Array:
    """x as a contiguous array that may be written: numba compiles anew for any other kind."""
    return np.require(x, np.float32, ["C", "W"])


# Imported at first use, because numba takes half a second to import, which reading need not wait.


def _lanes() -> ModuleType:
    from . import lanes

    return lanes


def _signed_kernels() -> ModuleType:
    from . import signed_kernels

    return signed_kernels


def _affine_kernels() -> ModuleType:
    from . import affine_kernels

    return affine_kernels
