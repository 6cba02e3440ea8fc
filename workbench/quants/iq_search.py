"""Compiled searches for the grid points of a sub-block of IQ2 and IQ3, and for its scale.

ggml tries some twenty scales. With each it rounds the weights; where the rounded run of 8 (IQ3: 4)
is on no grid point, it takes the neighbour of least weighted squared error:

    weights          0.31  -0.12  0.77 ...   magnitudes, signs aside
    times 1 / scale   4.1    1.6   9.9 ...
    rounded             5      1     5 ...   to 1, 3, 5 (IQ3: .. 15), levels 0, 1, 2 (.. 7)
    number            2 + 3 * 0 + 9 * 2 ...   of the run, see `grids.Neighbours`
    runs[number]      the point there, or which neighbours to choose from

The scale with the largest (sum w x q)**2 / sum w q q is kept, and then fitted again. Sums run in
ggml's order in float32. The distances to eight neighbours of a run are found side by side, one in
each lane of the vector unit, which leaves the order within each distance as it is. Results are
ggml's bit for bit; where ggml would abort, because sums overflow and no neighbour is nearest, a
kernel says so in what it returns.
Source: ggml-quants.c, `quantize_row_iq2_xxs_impl`, `_iq2_xs_impl`, `_iq2_s_impl`,
`_iq3_xxs_impl`, `_iq3_s_impl`, `iq2_find_best_neighbour` and `iq3_find_best_neighbour`.
Left out: IQ1 (`iq1_search`), packing (`i_write`). See `lanes` for the rules of compiled code.
"""

import numpy as np

from .affine_kernels import positive_factor, positive_scale
from .i_write import REFINE_ALL, REFINE_OFF_GRID
from .lanes import ONE, ROUNDER, ZERO, compiled

HALF, TWO = np.float32(0.5), np.float32(2)
LARGEST = np.float32(np.finfo(np.float32).max)
MANTISSA, MANTISSA_HALF = np.int32(0x007FFFFF), np.int32(0x00400000)
NOTHING = np.int32(-1)  # an index that no grid point has


@compiled
def four(x, at):
    """x[at : at + 4] as numbers of their own, which the compiler keeps in registers."""
    return x[at], x[at + 1], x[at + 2], x[at + 3]


@compiled
def add_four(total, a, b, c, d, x, weights, scale, shift):
    """total + w (scale (step + shift) - x)**2 for four steps, weights and x, one by one."""
    difference = scale * (np.float32(a) + shift) - x[0]
    total += weights[0] * difference * difference
    difference = scale * (np.float32(b) + shift) - x[1]
    total += weights[1] * difference * difference
    difference = scale * (np.float32(c) + shift) - x[2]
    total += weights[2] * difference * difference
    difference = scale * (np.float32(d) + shift) - x[3]
    total += weights[3] * difference * difference
    return total


@compiled
def nearest_neighbour(first, last, points, steps, x, weights, at, scale, shift, sums):
    """The neighbour with the least sum of w (scale (step + shift) - x)**2 over the run from x[at].

    first, last: its neighbours' rows of points and steps, see `grids.Neighbours`.
    sums: scratch, (8,) float32.
    Returns the neighbour's index, the first of equals, or NOTHING if no sum is finite.
    """
    x_low, w_low = four(x, at), four(weights, at)
    least, found = LARGEST, NOTHING
    for row in range(first, last):
        s = steps[row]  # its shape is unknown to the compiler, which would unroll the loop else
        if s.shape[0] == 8:
            x_high, w_high = four(x, at + 4), four(weights, at + 4)
            for j in range(s.shape[1]):
                low = add_four(ZERO, s[0, j], s[1, j], s[2, j], s[3, j], x_low, w_low, scale, shift)
                sums[j] = add_four(
                    low, s[4, j], s[5, j], s[6, j], s[7, j], x_high, w_high, scale, shift
                )
        else:
            for j in range(s.shape[1]):
                sums[j] = add_four(
                    ZERO, s[0, j], s[1, j], s[2, j], s[3, j], x_low, w_low, scale, shift
                )
        for j in range(8):
            if sums[j] < least:
                least, found = sums[j], points[row, j]
    return found


@compiled
def find_numbers(x, factor, top, width, places, shifted, bits, terms, numbers):
    """Fills numbers (runs,) with those of the runs of x: levels nearest to (factor x - 1) / 2.

    Source: `lanes.nearest`, here in two loops over float32 `shifted` and its `bits`, which suits
    the vector unit. terms: scratch.
    """
    for i in range(x.size):
        shifted[i] = HALF * (factor * x[i] - ONE) + ROUNDER
    for i in range(x.size):
        level = np.int32((bits[i] & MANTISSA) - MANTISSA_HALF)
        terms[i] = max(np.int32(0), min(top, level)) * places[i]
    for g in range(numbers.size):
        at = g * width
        number = terms[at] + terms[at + 1] + terms[at + 2] + terms[at + 3]
        if width == 8:
            number += terms[at + 4] + terms[at + 5] + terms[at + 6] + terms[at + 7]
        numbers[g] = number


@compiled
def choose_points(x, roots, scale, numbers, skip, runs, points, steps, chosen, on_grid, sums):
    """Chooses the point of each run of x but those to skip, and tells which were on the grid.

    numbers: (runs,) int32 of the runs; skip: (runs,) bool; runs, points, steps: of `Neighbours`.
    Returns whether all found a point.
    """
    complete = True
    for g in range(numbers.size):
        if skip[g]:
            continue
        point, last = runs[numbers[g], 0], runs[numbers[g], 1]
        on_grid[g] = last < 0
        if last >= 0:
            at = g * steps.shape[1]
            point = nearest_neighbour(point, last, points, steps, x, roots, at, scale, ZERO, sums)
            complete &= point != NOTHING
        chosen[g] = max(point, np.int32(0))
    return complete


@compiled
def scale_sums(products, weights, chosen, grid):
    """The sums of w x q and w q q for the chosen grid points q; products: w x."""
    width = grid.shape[1]
    sum_qx, sum_q2 = ZERO, ZERO
    for g in range(chosen.size):
        for i in range(width):
            at = g * width + i
            q = grid[chosen[g], i]
            sum_qx += products[at] * q
            sum_q2 += weights[at] * q * q
    return sum_qx, sum_q2


@compiled
def search_scale(x, weights, roots, products, extreme, scale, plan, near, chosen, scratch):
    """The best of the trial scales, its points in chosen; then refined, as the plan says.

    extreme: what the middle trial takes to the highest level. scale: for when all trials fail.
    Returns the scale, which may be negative, and whether all runs found a point.
    """
    runs, points, steps, grid = near
    on_grid, trial_on_grid, skip, trial, numbers, places, shifted, bits, terms, sums = scratch
    top, highest, width = np.int32(plan.top), TWO * plan.top + ONE, grid.shape[1]
    best, complete = ZERO, True
    skip[:], on_grid[:], chosen[:] = False, plan.refine == REFINE_OFF_GRID, 0
    for step in range(-plan.trials, plan.trials + 1):
        factor = (highest + np.float32(step) * plan.delta) / extreme
        find_numbers(x, factor, top, width, places, shifted, bits, terms, numbers)
        complete &= choose_points(
            x, roots, ONE / factor, numbers, skip, runs, points, steps, trial, trial_on_grid, sums
        )
        sum_qx, sum_q2 = scale_sums(products, weights, trial, grid)
        if sum_q2 > ZERO and sum_qx * sum_qx > best * sum_q2:
            scale = sum_qx / sum_q2
            best = scale * sum_qx
            chosen[:], on_grid[:] = trial, trial_on_grid
    if scale > ZERO and (plan.refine == REFINE_ALL or not on_grid.all()):
        if plan.refine == REFINE_OFF_GRID:
            skip[:] = on_grid
        find_numbers(x, ONE / scale, top, width, places, shifted, bits, terms, numbers)
        complete &= choose_points(
            x, roots, scale, numbers, skip, runs, points, steps, chosen, on_grid, sums
        )
        sum_qx, sum_q2 = scale_sums(products, weights, chosen, grid)
        scale = sum_qx / sum_q2 if sum_q2 > ZERO else scale
    return scale, complete


@compiled
def make_scratch(size, width, top):
    """The arrays that `search_scale` works in, for sub-blocks of `size` and runs of `width`."""
    runs = size // width
    on_grid, trial_on_grid = np.empty(runs, np.bool_), np.empty(runs, np.bool_)
    skip = np.empty(runs, np.bool_)
    trial, numbers = np.empty(runs, np.int32), np.empty(runs, np.int32)
    places = ((np.int32(top) + 1) ** (np.arange(size) % width)).astype(np.int32)
    shifted, terms = np.empty(size, np.float32), np.empty(size, np.int32)
    bits, sums = shifted.view(np.int32), np.empty(8, np.float32)
    return on_grid, trial_on_grid, skip, trial, numbers, places, shifted, bits, terms, sums


@compiled
def take_signs(x, weights, even, magnitudes, signs):
    """Splits x (S,) into magnitudes and bytes of 8 signs; returns the largest magnitude.

    even: whether the number of signs set must be even. Where it is not, the weight that matters
    least turns round, and its magnitude becomes negative.
    """
    for g in range(signs.size):
        byte, count, least, lowest = 0, 0, 0, ZERO
        for i in range(8):
            value = x[8 * g + i]
            negative = not value >= ZERO
            magnitudes[8 * g + i] = -value if negative else value
            byte |= negative << i
            count += negative
            square = weights[8 * g + i] * value * value
            if i == 0 or square < lowest:
                least, lowest = i, square
        if even and count % 2:
            magnitudes[8 * g + least] = -magnitudes[8 * g + least]
            byte ^= 1 << least
        signs[g] = byte
    largest = magnitudes[0]
    for i in range(1, magnitudes.size):
        largest = magnitudes[i] if magnitudes[i] > largest else largest
    return largest


@compiled
def first_scale(magnitudes, weights, largest, plan, codes):
    """The weight that the middle trial takes to the highest level, and the scale without trials."""
    if plan.refine != REFINE_ALL:
        return largest, largest / (TWO * plan.top + ONE)
    top = plan.top + TWO
    factor = positive_factor(magnitudes, weights, largest, top)
    scale = positive_scale(magnitudes, weights, factor, top, codes)
    return scale * (plan.top + ONE), scale


@compiled
def fit_points(x, weights, plan, near, scales, points, signs):
    """Fills scales (B, 256 / size) float32, points (B, 256 / width) uint16 and signs (B, 32) uint8.

    x, weights: (B, 256) float32. plan: `i_write.Plan`. near: `grids.Neighbours`.
    Returns how many sub-blocks have sums too large for float32.
    """
    size, width = plan.size, near.grid.shape[1]
    runs = size // width
    magnitudes, roots, products, codes = np.empty((4, size), np.float32)
    chosen, scratch = np.empty(runs, np.int32), make_scratch(size, width, plan.top)
    lost = 0
    scales[:] = ZERO
    points[:] = 0
    signs[:] = 0
    for b in range(x.shape[0]):
        for s in range(256 // size):
            part = slice(s * size, (s + 1) * size)
            sign_bytes, w = signs[b, s * size // 8 : (s + 1) * size // 8], weights[b, part]
            largest = take_signs(x[b, part], w, plan.even, magnitudes, sign_bytes)
            extreme, scale = ZERO, ZERO
            if largest >= plan.least:
                extreme, scale = first_scale(magnitudes, w, largest, plan, codes)
            if not extreme > ZERO:
                sign_bytes[:] = 0
                lost += extreme != extreme
                continue
            for i in range(size):
                roots[i], products[i] = np.sqrt(w[i]), w[i] * magnitudes[i]
            scale, complete = search_scale(
                magnitudes, w, roots, products, extreme, scale, plan, near, chosen, scratch
            )
            lost += not (complete and scale == scale)
            if scale < ZERO:
                scale = -scale
                for g in range(sign_bytes.size):
                    sign_bytes[g] = ~sign_bytes[g]
            points[b, s * runs : (s + 1) * runs] = chosen
            scales[b, s] = scale
    return lost
