"""Float arithmetic over a tile of blocks, each operation rounded to float32 as ggml's C code does.

Sources: the row functions of ggml-quants.c; ISO C for `roundf`.
Conversions of NaN and infinity to integers are undefined in C; where ggml's formulas meet them
(scales so small that their reciprocal overflows), `settle` gives what x86 gives: zero.
Left out: the searches for a best scale (`search`).
"""

import numpy as np

# The largest float32 below 1/2: adding it instead of 1/2 keeps 0.49999997 from rounding up to 1.
BELOW_HALF_BITS = np.array([np.nextafter(np.float32(0.5), np.float32(0))]).view(np.int32)[0]
SIGN_BIT = np.int32(-(2**31))


def scale_codes(codes: np.ndarray, scales: np.ndarray, out: np.ndarray) -> None:
    """out = codes * scales: codes (B, n) of an integer type, scales (B, g) for runs of n / g.

    Repeating the scales and multiplying long rows is faster than broadcasting over short ones.
    """
    flat = out.reshape(-1)
    np.copyto(flat, codes.reshape(-1))
    flat *= spread(scales, out.size)


def spread(values: np.ndarray, size: int) -> np.ndarray:
    """Each of the values repeated, in order, so that `size` float32 result."""
    return values.repeat(size // values.size) if values.size else np.empty(0, np.float32)


def fold(x: np.ndarray, pick: np.ufunc) -> np.ndarray:
    """(B, 2**k) -> (B,): `pick` (np.maximum or np.minimum) over each row, by halving k times."""
    folded, width = x.reshape(-1), x.shape[1]
    while width > 1:
        folded = pick(folded[0::2], folded[1::2])
        width //= 2
    return folded


def largest_magnitude(x: np.ndarray) -> np.ndarray:
    """(B, n) -> (B,): max |x| of each block."""
    return fold(np.abs(x), np.maximum)


def signed_extreme(x: np.ndarray) -> np.ndarray:
    """(B, n) -> (B,): the first x of the largest magnitude, with its sign; +0 for a zero block."""
    high, low = fold(x, np.maximum), fold(x, np.minimum)
    extreme = np.where(high >= -low, high, low)
    ties = np.flatnonzero(high == -low)  # both signs reach it: the first one counts
    if ties.size:
        first = np.abs(x[ties]).argmax(axis=1)
        extreme[ties] = x[ties, first]
    extreme += np.float32(0)  # -0 + 0 = +0
    return extreme


def lead_scale(scales: np.ndarray) -> np.ndarray:
    """(B, g) -> (B,): `signed_extreme` that passes over NaN, the scales of sums beyond float32."""
    return signed_extreme(np.where(np.isnan(scales), np.float32(0), scales))


def smallest(x: np.ndarray) -> np.ndarray:
    """(B, n) -> (B,): the minimum of each block; among zeros of both signs, the first one."""
    low = fold(x, np.minimum) if x.flags.c_contiguous else x.min(axis=1)
    zero = np.flatnonzero(low == 0)
    if zero.size:
        first = (x[zero] == 0).argmax(axis=1)
        low[zero] = x[zero, first]
    return low


def reciprocal(d: np.ndarray) -> np.ndarray:
    """1 / d, and 0 where d is 0."""
    inverse = np.float32(1) / d
    inverse[d == 0] = 0
    return inverse


def round_half_away(x: np.ndarray) -> np.ndarray:
    """Adds to x (float32, in place) what makes truncation round as C's `roundf`, and returns x."""
    bits = x.view(np.int32) & SIGN_BIT
    bits |= BELOW_HALF_BITS
    x += bits.view(np.float32)
    return x


def nearest_int(x: np.ndarray) -> np.ndarray:
    """Rounds to int32, ties to even, by ggml's trick of adding 1.5 * 2**23.

    The integer then stands in the low 23 bits; NaN gives 0 and infinities give -2**22.
    """
    bits = (x + np.float32(12582912)).view(np.int32)
    bits &= 0x007FFFFF
    bits -= 0x00400000
    return bits


def settle(scaled: np.ndarray, *factors: np.ndarray) -> np.ndarray:
    """Zeroes, in place, the NaN and infinities of the rows whose factors are not finite."""
    odd = np.zeros(len(scaled), dtype=bool)
    for factor in factors:
        odd |= ~np.isfinite(factor)
    if odd.any():
        rows = scaled[odd]
        rows[~np.isfinite(rows)] = 0
        scaled[odd] = rows
    return scaled


def ordered_sum(terms: np.ndarray) -> np.ndarray:
    """(n, B) -> (B,): 0 + terms[0] + terms[1] + ... in that order, rounded after each addition."""
    total = np.zeros(terms.shape[1:], dtype=np.float32)
    for row in terms:
        total += row
    return total


def importance(x: np.ndarray, squares: np.ndarray, imatrix: np.ndarray) -> np.ndarray:
    """What multiplies the squared errors of x (R, n): imatrix (n,) * sqrt(squares (B,) + x * x).

    squares: what ggml adds for each block, some multiple of its mean square. Returns (B, R n / B).
    """
    weights = x.reshape(len(squares), -1) ** 2
    weights += squares[:, None]
    np.sqrt(weights, out=weights)
    by_row = weights.reshape(x.shape)
    by_row *= imatrix
    return weights
