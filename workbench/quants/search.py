"""Searches for the block scale of least weighted squared error, as ggml makes them.

Blocks stand side by side: x and weights are (n, B) float32, one block a column, so that a sum over
a block runs down the rows in ggml's order while NumPy works along the blocks.
Sources: ggml-quants.c, `make_qx_quants` (rmse_type 1, with weights) and `make_qkx3_quants`.
Left out: the searches of the types without a weighted form here.
"""

import numpy as np

from .block_math import nearest_int, ordered_sum, smallest

NO_SCALE_BELOW = np.float32(1e-15)  # GROUP_MAX_EPS: a smaller block is written as zeros


def best_signed_fit(
    x: np.ndarray, weights: np.ndarray, offset: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fits x = (q - offset) d with 0 <= q < 2 offset, trying 19 scales about the plain one.

    Returns d (B,) float32 and q (n, B) uint8.
    """
    magnitudes = np.abs(x)
    extreme = x[magnitudes.argmax(axis=0), np.arange(x.shape[1])]
    wx = weights * x
    best = codes = scale = None
    for step in (0, *range(-9, 0), *range(1, 10)):
        factor = -(np.float32(offset) + np.float32(0.1) * np.float32(step)) / extreme
        trial = np.rint(factor * x)
        np.clip(trial, -offset, offset - 1, out=trial)
        sum_lx = ordered_sum(wx * trial)
        sum_l2 = ordered_sum(weights * trial * trial)
        if step == 0:
            scale = np.where(sum_l2 != 0, sum_lx / sum_l2, np.float32(0))
            best, codes = scale * sum_lx, trial
            continue
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        scale = np.where(better, sum_lx / sum_l2, scale)
        best = np.where(better, scale * sum_lx, best)
        np.copyto(codes, trial, where=better)
    codes += offset
    empty = magnitudes.max(axis=0) < NO_SCALE_BELOW
    scale[empty], codes[:, empty] = 0, 0
    return scale, codes.astype(np.uint8)


def best_affine_fit(
    x: np.ndarray, weights: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits x = q d + m with 0 <= q <= top and m <= 0, refining (d, m) from 37 spreads of q.

    Returns d (B,) and m (B,) float32 and q (n, B) uint8.
    """
    low, high = smallest(x.T), x.max(axis=0)
    low[low > 0] = 0
    empty = high <= low
    empty_low = low[empty]
    sum_w, sum_x = ordered_sum(weights), ordered_sum(weights * x)
    factor = np.float32(top) / (high - low)
    scale = np.float32(1) / factor
    codes = affine_codes(x, factor, low, top)
    error = weighted_error(x, weights, codes, scale, low)
    for step in range(37):
        nominal = np.float32(-0.9) + np.float32(0.05) * np.float32(step) + np.float32(top)
        trial = affine_codes(x, nominal / (high - low), low, top)  # low: the best found so far
        determinant, new_scale, new_low = solve_affine(x, weights, trial, sum_w, sum_x)
        new_error = weighted_error(x, weights, trial, new_scale, new_low)
        better = (determinant > 0) & (new_error < error)
        np.copyto(codes, trial, where=better)
        error = np.where(better, new_error, error)
        scale = np.where(better, new_scale, scale)
        low = np.where(better, new_low, low)
    scale[empty], low[empty], codes[:, empty] = 0, empty_low, 0
    return scale, low, codes.astype(np.uint8)


def affine_codes(x: np.ndarray, factor: np.ndarray, low: np.ndarray, top: int) -> np.ndarray:
    """(n, B) float32: (x - low) * factor, rounded and cut to 0..top.

    A low close to the maximum makes numbers too large for `nearest_int`; ggml takes what it gives.
    """
    return np.clip(nearest_int(factor * (x - low)), 0, top).astype(np.float32)


def solve_affine(
    x: np.ndarray, weights: np.ndarray, codes: np.ndarray, sum_w: np.ndarray, sum_x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The determinant, scale and minimum (at most 0) that fit x to given codes by least squares."""
    wl = weights * codes
    sum_l, sum_l2, sum_xl = ordered_sum(wl), ordered_sum(wl * codes), ordered_sum(wl * x)
    determinant = sum_w * sum_l2 - sum_l * sum_l
    scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
    low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
    above = low > 0
    return determinant, np.where(above, sum_xl / sum_l2, scale), np.where(above, np.float32(0), low)


def weighted_error(
    x: np.ndarray, weights: np.ndarray, codes: np.ndarray, scale: np.ndarray, low: np.ndarray
) -> np.ndarray:
    """(B,): the sum of weights * (scale * codes + low - x)**2, in ggml's order."""
    difference = scale * codes
    difference += low
    difference -= x
    difference *= difference
    difference *= weights
    return ordered_sum(difference)
