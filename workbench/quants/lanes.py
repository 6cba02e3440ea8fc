"""What the compiled searches share: 64 blocks side by side, one float32 lane each.

ggml adds up a block's terms one after the other, and a sum in another order would end in other
bits. So these loops never vectorise within a block: they copy 64 blocks into columns,

    x (B, n)   block 0: x0 x1 x2 …         xs (n, 64)   x0 of 64 blocks
               block 1: x0 x1 x2 …     ->               x1 of 64 blocks
               …                                        …

and the inner loop runs along the 64 lanes, where the compiler uses the machine's vector units.
What is an `if` of one block in ggml is a choice in each lane here. A lane that has no block left
computes on stale numbers, which nobody reads.

All numbers are float32 and all constants are made so, because numba would go on in float64 else.
Without fastmath: no reordering, no fused multiply-add. Division by zero follows IEEE, as in C.
Compiled code is kept beside the source, and renewed when the file of the calling loop changes:
after an edit of this file, the files that import it need a new time stamp (`touch`).
Left out: the searches themselves (`signed_kernels`, `affine_kernels`), and what calls them
(`search`). numba takes half a second to import: `search` imports these modules at first use.
"""

import numpy as np
from numba import njit

LANES = 64
ZERO, ONE, TENTH = np.float32(0), np.float32(1), np.float32(0.1)
ROUNDER = np.float32(12582912)  # 1.5 * 2**23
NO_SCALE_BELOW = np.float32(1e-15)  # GROUP_MAX_EPS: a smaller block is written as zeros

compiled = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def nearest(value):
    """`block_math.nearest_int` of one float32, as a float32."""
    bits = np.int32(np.float32(value + ROUNDER).view(np.int32) & np.int32(0x007FFFFF))
    return np.float32(np.int32(bits - np.int32(0x00400000)))


@compiled
def clamp(value, low, high):
    """value, no less than low and no more than high."""
    value = low if value < low else value
    return high if value > high else value


@compiled
def gather(x, start, columns):
    """Copies the blocks from `start` on, at most 64, into columns (n, 64)."""
    count = min(LANES, x.shape[0] - start)
    for b in range(count):
        for i in range(x.shape[1]):
            columns[i, b] = x[start + b, i]
    return count


@compiled
def find_extremes(xs, largest, extreme):
    """The largest magnitude of each lane, and the first number that has it."""
    largest[:] = ZERO
    extreme[:] = ZERO
    for i in range(xs.shape[0]):
        for b in range(LANES):
            magnitude = abs(xs[i, b])
            more = magnitude > largest[b]
            largest[b] = magnitude if more else largest[b]
            extreme[b] = xs[i, b] if more else extreme[b]


@compiled
def sum_squares(x, sums):
    """Fills sums (B,): see `search.square_sums`."""
    for b in range(x.shape[0]):
        total = ZERO
        for i in range(x.shape[1]):
            total += x[b, i] * x[b, i]
        sums[b] = total
