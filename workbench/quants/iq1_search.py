"""Compiled search for the grid points of a sub-block of IQ1, and for its scale.

With three levels the best scale is found exactly. Sorted weights fall into those at -1, those at 0
and those at 1, and all pairs of borders are tried,

    -0.9 -0.7 -0.6 | -0.2 0.0 0.1 0.3 | 0.5 0.8      -1 -1 -1  0  0  0  0  1  1
                   first            second           all plus, or all less 1/8

their sums being differences of running sums. What is on no grid point then goes to a neighbour.
IQ1_S has sub-blocks of 32 weights, whose four runs are all plus or all less 1/8; IQ1_M of 16, whose
two runs are each on their own.
Source: ggml-quants.c, `quantize_row_iq1_s_impl`, `quantize_row_iq1_m_impl`,
`iq1_find_best_neighbour2`. See `lanes` for the rules of compiled code.
"""

import numpy as np

from .iq_search import LARGEST, NOTHING, nearest_neighbour
from .lanes import ONE, ZERO, compiled

EIGHTH = np.float32(0.125)


@compiled
def sort_order(x, order):
    """The places of x in ascending order, equals as they stand (glibc's qsort is stable)."""
    for j in range(x.size):
        i = j
        while i > 0 and x[order[i - 1]] > x[j]:
            order[i] = order[i - 1]
            i -= 1
        order[i] = j


@compiled
def split_32(x, weights, order):
    """The best borders of 32 weights: first, second, lower of all runs as bits, scale.

    lower: bit k set where the levels of run k are less by 1/8. first is -1 if no borders will do.
    """
    sums_x, sums_w = np.zeros(33, np.float32), np.zeros(33, np.float32)
    for j in range(32):
        i = order[j]
        sums_x[j + 1] = sums_x[j] + weights[i] * x[i]
        sums_w[j + 1] = sums_w[j] + weights[i]
    best, scale, first, second, lower = -LARGEST, ZERO, -1, -1, 0
    for i in range(33):
        for j in range(i, 33):
            for sign in range(2):
                delta = -EIGHTH if sign else EIGHTH
                low, middle, high = delta - ONE, delta, delta + ONE
                qx = sums_x[i] * low + (sums_x[j] - sums_x[i]) * middle
                qx += (sums_x[32] - sums_x[j]) * high
                q2 = sums_w[i] * low * low + (sums_w[j] - sums_w[i]) * middle * middle
                q2 += (sums_w[32] - sums_w[j]) * high * high
                if q2 > ZERO and qx * qx > best * q2:
                    scale = qx / q2
                    best = scale * qx
                    first, second, lower = i, j, 15 * sign
    return first, second, lower, scale


@compiled
def split_16(x, weights, order):
    """`split_32` for 16 weights, whose two runs have running sums of their own."""
    sums_x, sums_w = np.zeros((2, 17), np.float32), np.zeros((2, 17), np.float32)
    for j in range(16):
        i = order[j]
        for half in range(2):
            mine = i // 8 == half
            sums_x[half, j + 1] = sums_x[half, j] + (weights[i] * x[i] if mine else ZERO)
            sums_w[half, j + 1] = sums_w[half, j] + (weights[i] if mine else ZERO)
    qx, q2 = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    best, scale, first, second, lower = -LARGEST, ZERO, -1, -1, 0
    for i in range(17):
        for j in range(i, 17):
            for half in range(2):
                both = sums_x[half, i] + sums_x[half, j]
                for sign in range(2):
                    delta = -EIGHTH if sign else EIGHTH
                    low, middle, high = delta - ONE, delta, delta + ONE
                    qx[half, sign] = sums_x[half, 16] * high - both
                    q2[half, sign] = (
                        sums_w[half, 16] * high * high
                        + sums_w[half, i] * (low * low - middle * middle)
                        + sums_w[half, j] * (middle * middle - high * high)
                    )
            for k in range(4):
                sum_qx, sum_q2 = qx[0, k // 2] + qx[1, k % 2], q2[0, k // 2] + q2[1, k % 2]
                if sum_q2 > ZERO and sum_qx * sum_qx > best * sum_q2:
                    scale = sum_qx / sum_q2
                    best = scale * sum_qx
                    first, second, lower = i, j, k // 2 | k % 2 << 1
    return first, second, lower, scale


@compiled
def points_of_levels(x, weights, levels, lower, scale, near, points, scratch):
    """Chooses the point of each run of levels; returns the scale that then fits best.

    The scale is NaN where a run finds no point.
    """
    all_on_grid = True
    sum_qx, sum_q2 = ZERO, ZERO
    for k in range(points.size):
        number, place = 0, 1
        for j in range(8):
            number += levels[8 * k + j] * place
            place *= 3
        delta = -EIGHTH if lower >> k & 1 else EIGHTH
        point, last = near.runs[number, 0], near.runs[number, 1]
        if last >= 0:
            all_on_grid = False
            point = nearest_neighbour(
                point, last, near.points, near.steps, x, weights, 8 * k, scale, delta, scratch
            )
            if point == NOTHING:
                return np.float32(np.nan)
        points[k] = point
        for j in range(8):
            q, w = near.grid[point, j] + delta, weights[8 * k + j]
            sum_qx += w * q * x[8 * k + j]
            sum_q2 += w * q * q
    if not all_on_grid and sum_qx > ZERO and sum_q2 > ZERO:
        return sum_qx / sum_q2
    return scale


@compiled
def fit_sub_block(x, weights, near, points, lower_bytes, order, levels, scratch):
    """Fills the points (size / 8,) and lower (size / 8,) of a sub-block, returns its scale."""
    sort_order(x, order)
    if x.size == 32:
        first, second, lower, scale = split_32(x, weights, order)
    else:
        first, second, lower, scale = split_16(x, weights, order)
    if first < 0:
        return ZERO
    for j in range(x.size):
        level = 0 if j < first else 1 if j < second else 2
        levels[order[j]] = 2 - level if scale < ZERO else level
    if scale < ZERO:
        scale, lower = -scale, ~lower
    for k in range(points.size):
        lower_bytes[k] = lower >> k & 1
    return points_of_levels(x, weights, levels, lower, scale, near, points, scratch)


@compiled
def fit_ones(x, weights, least, near, scales, points, lower):
    """Fills scales (B, 256 / size) float32, points (B, 32) uint16 and lower (B, 32) uint8.

    x, weights: (B, 256) float32. See `i_write.fit_ones`.
    Returns how many sub-blocks have sums too large for float32.
    """
    size = 256 // scales.shape[1]
    order, levels = np.empty(size, np.int32), np.empty(size, np.int32)
    scratch = np.empty(8, np.float32)
    scales[:] = ZERO
    points[:] = 0
    lower[:] = 0
    lost = 0
    for b in range(x.shape[0]):
        for s in range(scales.shape[1]):
            part, runs = slice(s * size, (s + 1) * size), slice(s * size // 8, (s + 1) * size // 8)
            if not np.abs(x[b, part]).max() >= least:
                continue
            scale = fit_sub_block(
                x[b, part], weights[b, part], near, points[b, runs], lower[b, runs],
                order, levels, scratch,
            )  # fmt: skip
            scales[b, s] = scale
            lost += scale != scale
    return lost


@compiled
def refit_scale(x, weights, grid, points, lower, ls, d):
    """Sets d (B,) to what fits best with the points chosen and ls (B, 16), if anything does."""
    for b in range(x.shape[0]):
        sum_qx, sum_q2 = ZERO, ZERO
        for i in range(256):
            run = i // 8
            delta = -EIGHTH if lower[b, run] else EIGHTH
            q = (grid[points[b, run], i % 8] + delta) * np.float32(2 * ls[b, i // 16] + 1)
            sum_qx += weights[b, i] * q * x[b, i]
            sum_q2 += weights[b, i] * q * q
        if d[b] > ZERO and sum_q2 > ZERO:
            d[b] = sum_qx / sum_q2
