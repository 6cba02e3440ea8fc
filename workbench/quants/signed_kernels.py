"""Compiled searches for a scale d without a minimum: codes q d with signs, and levels v[q] d.

Source: ggml-quants.c, `make_qx_quants` (rmse_type 1), `make_q3_quants` (do_rmse) and
`quantize_row_iq4_nl_impl`; see `lanes` for the layout, `search` for the arguments.
"""

import numpy as np

from .lanes import (
    LANES,
    NO_SCALE_BELOW,
    ONE,
    TENTH,
    ZERO,
    clamp,
    compiled,
    find_extremes,
    gather,
    nearest,
)

TWO, HALVES = np.float32(2), np.float32(256)

# --- q d -------------------------------------------------------------------------------------


@compiled
def signed_sums(xs, ws, factor, offset, sum_lx, sum_l2):
    """The sums of w x q and of w q q for q = factor x, rounded and cut to -offset..offset - 1."""
    sum_lx[:] = ZERO
    sum_l2[:] = ZERO
    for i in range(xs.shape[0]):
        for b in range(LANES):
            q = clamp(nearest(factor[b] * xs[i, b]), -offset, offset - ONE)
            sum_lx[b] += ws[i, b] * xs[i, b] * q
            sum_l2[b] += ws[i, b] * q * q


@compiled
def signed_lanes(xs, ws, offset, scale, best_factor, lanes):
    """The search of `fit_signed` in 64 lanes: best scales, and the factors that gave their codes.

    lanes (6, 64): 0 the largest magnitude; scratch.
    """
    largest, extreme, factor = lanes[0], lanes[1], lanes[2]
    best, sum_lx, sum_l2 = lanes[3], lanes[4], lanes[5]
    find_extremes(xs, largest, extreme)
    for b in range(LANES):
        factor[b] = -offset / extreme[b]
    signed_sums(xs, ws, factor, offset, sum_lx, sum_l2)
    for b in range(LANES):
        scale[b] = sum_lx[b] / sum_l2[b] if sum_l2[b] != ZERO else ZERO
        best[b] = scale[b] * sum_lx[b]
        best_factor[b] = factor[b]
    for step in range(-9, 10):
        if step == 0:
            continue
        for b in range(LANES):
            factor[b] = -(offset + TENTH * np.float32(step)) / extreme[b]
        signed_sums(xs, ws, factor, offset, sum_lx, sum_l2)
        for b in range(LANES):
            beats = sum_lx[b] * sum_lx[b] > best[b] * sum_l2[b]
            better = (sum_l2[b] > ZERO) & beats
            scale[b] = sum_lx[b] / sum_l2[b] if better else scale[b]
            best[b] = scale[b] * sum_lx[b] if better else best[b]
            best_factor[b] = factor[b] if better else best_factor[b]


@compiled
def fit_signed(x, weights, offset, scales, codes):
    """Fills scales (B,) and codes (B, n) uint8: see `search.signed_fit`."""
    n = x.shape[1]
    xs, ws = np.zeros((n, LANES), np.float32), np.zeros((n, LANES), np.float32)
    scale, factor = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    lanes = np.zeros((6, LANES), np.float32)
    for start in range(0, x.shape[0], LANES):
        count = gather(x, start, xs)
        gather(weights, start, ws)
        signed_lanes(xs, ws, offset, scale, factor, lanes)
        for b in range(count):
            empty = lanes[0, b] < NO_SCALE_BELOW
            scales[start + b] = ZERO if empty else scale[b]
            for i in range(n):
                q = clamp(nearest(factor[b] * x[start + b, i]), -offset, offset - ONE)
                codes[start + b, i] = 0 if empty else np.uint8(np.int32(q + offset))


# --- q d, a code at a time -------------------------------------------------------------------


@compiled
def first_codes(xs, factor, offset, qs, sum_lx, sum_l2):
    """The plain codes in qs (n, 64), and their sums with the weights x x."""
    sum_lx[:] = ZERO
    sum_l2[:] = ZERO
    for i in range(xs.shape[0]):
        for b in range(LANES):
            q = clamp(nearest(factor[b] * xs[i, b]), -offset, offset - ONE)
            w = xs[i, b] * xs[i, b]
            sum_lx[b] += w * xs[i, b] * q
            sum_l2[b] += w * q * q
            qs[i, b] = q


@compiled
def refine_codes(xs, offset, qs, sum_lx, sum_l2, changed):
    """One round of `fit_refined`: each code moves to where the scale of the others wants it."""
    changed[:] = ZERO
    for i in range(xs.shape[0]):
        for b in range(LANES):
            x, old = xs[i, b], qs[i, b]
            w = x * x
            lx = sum_lx[b] - w * x * old
            l2 = sum_l2[b] - w * old * old
            new = clamp(nearest(x * l2 / lx), -offset, offset - ONE)
            new_lx, new_l2 = lx + w * x * new, l2 + w * new * new
            beats = new_lx * new_lx * sum_l2[b] > sum_lx[b] * sum_lx[b] * new_l2
            move = (lx > ZERO) & (new != old) & (new_l2 > ZERO) & beats
            qs[i, b] = new if move else old
            sum_lx[b] = new_lx if move else sum_lx[b]
            sum_l2[b] = new_l2 if move else sum_l2[b]
            changed[b] = ONE if move else changed[b]


@compiled
def fit_refined(x, offset, scales, codes):
    """Fills scales (B,) and codes (B, n) uint8: see `search.refined_fit`."""
    n = x.shape[1]
    xs, qs = np.zeros((n, LANES), np.float32), np.zeros((n, LANES), np.float32)
    lanes = np.zeros((6, LANES), np.float32)
    factor, sum_lx, sum_l2, changed = lanes[0], lanes[1], lanes[2], lanes[3]
    largest, extreme = lanes[4], lanes[5]
    for start in range(0, x.shape[0], LANES):
        count = gather(x, start, xs)
        find_extremes(xs, largest, extreme)
        for b in range(LANES):
            factor[b] = -offset / extreme[b]
        first_codes(xs, factor, offset, qs, sum_lx, sum_l2)
        for _ in range(5):
            refine_codes(xs, offset, qs, sum_lx, sum_l2, changed)
            if changed.max() == ZERO:  # nothing would change in further rounds either
                break
        for b in range(count):
            empty = largest[b] < NO_SCALE_BELOW
            some = (sum_l2[b] > ZERO) & (not empty)
            scales[start + b] = sum_lx[b] / sum_l2[b] if some else ZERO
            for i in range(n):
                codes[start + b, i] = 0 if empty else np.uint8(np.int32(qs[i, b] + offset))


# --- level[q] d ------------------------------------------------------------------------------


@compiled
def level_sums(xs, ws, factor, levels, sum_lx, sum_l2):
    """The sums of w v x and of w v v for v, the level nearest to factor x.

    levels (512,) float32: the one nearest to the numbers from i / 2 - 128 on, below the next half.
    """
    sum_lx[:] = ZERO
    sum_l2[:] = ZERO
    for i in range(xs.shape[0]):
        for b in range(LANES):
            halves = np.floor(TWO * factor[b] * xs[i, b])
            halves = halves if halves > -HALVES else -HALVES  # NaN, of idle lanes, as well
            v = levels[np.int32(min(halves, HALVES - ONE) + HALVES)]
            sum_lx[b] += ws[i, b] * v * xs[i, b]
            sum_l2[b] += ws[i, b] * v * v


@compiled
def fit_levels(x, weights, levels, scales):
    """Fills scales (B,): see `search.level_fit`."""
    n = x.shape[1]
    lowest = levels[0]
    xs, ws = np.zeros((n, LANES), np.float32), np.zeros((n, LANES), np.float32)
    lanes = np.zeros((7, LANES), np.float32)
    factor, best, sum_lx, sum_l2, scale = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]
    largest, extreme = lanes[5], lanes[6]
    for start in range(0, x.shape[0], LANES):
        count = gather(x, start, xs)
        gather(weights, start, ws)
        find_extremes(xs, largest, extreme)
        for b in range(LANES):
            factor[b] = ONE / (-extreme[b] / lowest)
        level_sums(xs, ws, factor, levels, sum_lx, sum_l2)
        for b in range(LANES):
            scale[b] = sum_lx[b] / sum_l2[b] if sum_l2[b] > ZERO else ZERO
            best[b] = scale[b] * sum_lx[b]
        for step in range(-7, 8):
            for b in range(LANES):
                factor[b] = (np.float32(step) + lowest) / extreme[b]
            level_sums(xs, ws, factor, levels, sum_lx, sum_l2)
            for b in range(LANES):
                beats = sum_lx[b] * sum_lx[b] > best[b] * sum_l2[b]
                better = (sum_l2[b] > ZERO) & beats
                scale[b] = sum_lx[b] / sum_l2[b] if better else scale[b]
                best[b] = scale[b] * sum_lx[b] if better else best[b]
        for b in range(count):
            scales[start + b] = ZERO if largest[b] < NO_SCALE_BELOW else scale[b]
