"""Compiled searches for a scale and a minimum, q d + m, and for the scale of scales.

Source: ggml-quants.c, `make_qkx2_quants`, `make_qkx3_quants` (the same search, for our finite
numbers) and `make_qp_quants`; see `lanes` for the layout, `search` for the arguments.
"""

import numpy as np

from .lanes import LANES, NO_SCALE_BELOW, ONE, TENTH, ZERO, clamp, compiled, gather, nearest

# --- q d + m ---------------------------------------------------------------------------------


@compiled
def affine_error(xs, ws, qs, scale, low, absolute, error):
    """The weighted sum of the squared (or absolute) differences between scale q + low and x."""
    error[:] = ZERO
    for i in range(xs.shape[0]):
        for b in range(LANES):
            difference = scale[b] * qs[i, b] + low[b] - xs[i, b]
            size = abs(difference) if absolute else difference * difference
            error[b] += ws[i, b] * size


@compiled
def affine_codes(xs, factor, low, top, qs):
    """The codes of factor (x - low) in qs (n, 64), rounded and cut to 0..top.

    A low close to the maximum makes numbers too large for `nearest`; ggml takes what it gives.
    """
    for i in range(xs.shape[0]):
        for b in range(LANES):
            qs[i, b] = clamp(nearest(factor[b] * (xs[i, b] - low[b])), ZERO, top)


@compiled
def affine_sums(xs, ws, qs, sum_l, sum_l2, sum_xl):
    """The sums of w q, w q q and w q x."""
    sum_l[:] = ZERO
    sum_l2[:] = ZERO
    sum_xl[:] = ZERO
    for i in range(xs.shape[0]):
        for b in range(LANES):
            wl = ws[i, b] * qs[i, b]
            sum_l[b] += wl
            sum_l2[b] += wl * qs[i, b]
            sum_xl[b] += wl * xs[i, b]


@compiled
def affine_start(xs, ws, low, high, sum_w, sum_x):
    """The smallest number, at most 0, and the largest; the sums of w and of w x."""
    for b in range(LANES):
        low[b] = high[b] = xs[0, b]
        sum_w[b] = ws[0, b]
        sum_x[b] = ws[0, b] * xs[0, b]
    for i in range(1, xs.shape[0]):
        for b in range(LANES):
            x = xs[i, b]
            low[b] = x if x < low[b] else low[b]
            high[b] = x if x > high[b] else high[b]
            sum_w[b] += ws[i, b]
            sum_x[b] += ws[i, b] * x
    for b in range(LANES):
        low[b] = ZERO if low[b] > ZERO else low[b]


@compiled
def solve_affine(sums, new_scale, new_low):
    """Scale and minimum (at most 0) that fit given codes best; returns the determinants in sums[5].

    sums (6, 64): w, w x, w q, w q q, w q x.
    """
    for b in range(LANES):
        sum_w, sum_x = sums[0, b], sums[1, b]
        sum_l, sum_l2, sum_xl = sums[2, b], sums[3, b], sums[4, b]
        determinant = sum_w * sum_l2 - sum_l * sum_l
        scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
        low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        new_scale[b] = sum_xl / sum_l2 if low > ZERO else scale
        new_low[b] = ZERO if low > ZERO else low
        sums[5, b] = determinant


@compiled
def affine_lanes(xs, ws, qs, top, first, delta, steps, absolute, lanes, sums):
    """The search of `fit_affine` in 64 lanes.

    lanes (11, 64): 0 scale, 1 low; 2 factor and 3 origin of the best codes; 4 spread; scratch.
    """
    scale, low, best_factor, origin, spread = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]
    factor, error, new_scale = lanes[5], lanes[6], lanes[7]
    new_low, new_error, high = lanes[8], lanes[9], lanes[10]
    affine_start(xs, ws, low, high, sums[0], sums[1])
    for b in range(LANES):
        spread[b] = high[b] - low[b]
        best_factor[b] = top / spread[b]
        origin[b] = low[b]
        scale[b] = ONE / best_factor[b]
    affine_codes(xs, best_factor, low, top, qs)
    affine_error(xs, ws, qs, scale, low, absolute, error)
    for step in range(steps + 1):
        for b in range(LANES):  # low: the best one found so far
            factor[b] = (first + delta * np.float32(step) + top) / (high[b] - low[b])
        affine_codes(xs, factor, low, top, qs)
        affine_sums(xs, ws, qs, sums[2], sums[3], sums[4])
        solve_affine(sums, new_scale, new_low)
        affine_error(xs, ws, qs, new_scale, new_low, absolute, new_error)
        for b in range(LANES):
            better = (sums[5, b] > ZERO) & (new_error[b] < error[b])
            error[b] = new_error[b] if better else error[b]
            scale[b] = new_scale[b] if better else scale[b]
            best_factor[b] = factor[b] if better else best_factor[b]
            origin[b] = low[b] if better else origin[b]
            low[b] = new_low[b] if better else low[b]


@compiled
def fit_affine(x, weights, top, first, delta, steps, absolute, scales, lows, codes):
    """Fills scales (B,), lows (B,) and codes (B, n) uint8: see `search.affine_fit`."""
    n = x.shape[1]
    xs, ws = np.zeros((n, LANES), np.float32), np.zeros((n, LANES), np.float32)
    qs = np.zeros((n, LANES), np.float32)
    lanes, sums = np.zeros((11, LANES), np.float32), np.zeros((6, LANES), np.float32)
    for start in range(0, x.shape[0], LANES):
        count = gather(x, start, xs)
        gather(weights, start, ws)
        affine_lanes(xs, ws, qs, top, first, delta, steps, absolute, lanes, sums)
        scale, low, factor, origin, spread = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]
        affine_codes(xs, factor, origin, top, qs)
        for b in range(count):
            empty = spread[b] <= ZERO  # its error was 0, so that low is still the first one
            scales[start + b] = ZERO if empty else scale[b]
            lows[start + b] = low[b]
            for i in range(n):
                codes[start + b, i] = 0 if empty else np.uint8(np.int32(qs[i, b]))


# --- q d for scales, which are not negative --------------------------------------------------


@compiled
def as_byte(value):
    """What ggml's uint8 keeps of a code: one below 0, which a scale below 0 gives, wraps round."""
    return np.float32(np.uint8(np.int32(value)))


@compiled
def positive_code(value, top):
    """value rounded, and not above top."""
    code = nearest(value)
    return top if code > top else code


@compiled
def positive_error(x, weights, factor, scale, top, stored):
    """The weighted squared error of one block; stored: with its codes as ggml stores them."""
    error = ZERO
    for i in range(x.size):
        code = positive_code(factor * x[i], top)
        code = as_byte(code) if stored else code
        difference = x[i] - scale * code
        error += weights[i] * difference * difference
    return error


@compiled
def positive_factor(x, weights, largest, top):
    """The best of nine factors about top / largest."""
    best_factor = top / largest
    best = positive_error(x, weights, best_factor, ONE / best_factor, top, True)
    for step in range(-4, 5):
        if step == 0:
            continue
        factor = (TENTH * np.float32(step) + top) / largest
        error = positive_error(x, weights, factor, ONE / factor, top, False)
        if error < best:
            best, best_factor = error, factor
    return best_factor


@compiled
def positive_scale(x, weights, factor, top, q):
    """Fills q (n,) float32 from factor x, moves them to a better scale in five rounds; returns it.

    Source: the second half of `make_qp_quants`.
    """
    sum_lx, sum_l2 = ZERO, ZERO
    for i in range(x.size):
        code = positive_code(factor * x[i], top)
        sum_lx += weights[i] * x[i] * code
        sum_l2 += weights[i] * code * code
        q[i] = as_byte(code)
    for _ in range(5):
        changed = False
        for i in range(x.size):
            w = weights[i]
            lx = sum_lx - w * x[i] * q[i]
            l2 = sum_l2 - w * q[i] * q[i]
            if not (lx > ZERO and l2 > ZERO):
                continue
            new = positive_code(x[i] * l2 / lx, top)
            if new == q[i]:
                continue
            lx += w * x[i] * new
            l2 += w * new * new
            if lx * lx * sum_l2 > sum_lx * sum_lx * l2:
                q[i], sum_lx, sum_l2, changed = as_byte(new), lx, l2, True
        if not changed:
            break
    return sum_lx / sum_l2 if sum_l2 > ZERO else ZERO


@compiled
def fit_positive(x, weights, top, scales, codes):
    """Fills scales (B,) and codes (B, n) uint8: see `search.positive_fit`."""
    q = np.zeros(x.shape[1], np.float32)
    for b in range(x.shape[0]):
        largest = ZERO
        for i in range(q.size):
            largest = x[b, i] if x[b, i] > largest else largest
        scales[b] = ZERO
        q[:] = ZERO
        if largest >= NO_SCALE_BELOW:
            factor = positive_factor(x[b], weights[b], largest, top)
            scales[b] = positive_scale(x[b], weights[b], factor, top, q)
        for i in range(q.size):
            codes[b, i] = np.uint8(np.int32(q[i]))
