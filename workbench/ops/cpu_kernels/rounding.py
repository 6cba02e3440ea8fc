"""Activations rounded to int8 codes, the way llama.cpp rounds them before it multiplies.

    Q8_0, Q8_1   32 codes, d = max |x| / 127 kept as float16     for types in blocks of 32
    Q8_K         256 codes, d = the largest x / −127, float32    for types in blocks of 256

Q8_1, for types with a minimum, also keeps d · (sum of the codes), as float16.

Sources: ggml-cpu/arch/x86/quants.c, `quantize_row_q8_0` and `quantize_row_q8_1`; ggml-quants.c,
`quantize_row_q8_K_ref`.
"""

import numpy as np
from numba import float32, njit

from .simd import load_f32, load_floats16, splat, store, times
from .simd_blocks import greater, greatest_lane, round_to_bytes, smaller, smallest_lane
from .simd_lanes import bits_of_float, float_of_bits

__all__ = ["KINDS", "Q8_0", "Q8_1", "Q8_K", "as_half", "round_chunk"]

activation = njit(nogil=True, error_model="numpy")

Q8_0, Q8_1, Q8_K = range(3)
KINDS = {"Q8_0": Q8_0, "Q8_1": Q8_1, "Q8_K": Q8_K}
ZERO, ONE, HALF = float32(0), float32(1), float32(0.5)
SMALLEST_HALF, LARGEST_HALF = float32(2.0**-14), float32(65520)
Q8 = float32(127)


@activation
def as_half(x):
    """The float16 nearest to a float32, as float32."""
    size = abs(x)
    if size < SMALLEST_HALF:
        rounded = (size + HALF) - HALF  # float32 between 1/2 and 1 steps like float16 near 0
    elif size < LARGEST_HALF:
        bits = bits_of_float(size)
        rounded = float_of_bits((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF)
    else:
        rounded = size * float32(np.inf)
    return -rounded if x < 0 else rounded


@activation
def _largest(x, count):
    """The first of `count` numbers, a multiple of 16, with the largest magnitude."""
    high = low = load_floats16(x)
    for i in range(16, count, 16):
        some = load_floats16(x + 4 * i)
        high, low = greater(some, high), smaller(some, low)
    top, bottom = greatest_lane(high), smallest_lane(low)
    if top != -bottom:
        return top if top > -bottom else bottom
    for i in range(count):
        if abs(load_f32(x + 4 * i)) == top:
            return load_f32(x + 4 * i)
    return top


@activation
def _round_block(x, count, keep_sign, codes):
    """Write one block's codes and return d, as kept and before that.

    d is positive and float16 unless its sign is kept.
    """
    largest = _largest(x, count)
    factor, exact, d = ZERO, ZERO, ZERO
    if largest != 0 and keep_sign:
        factor = -Q8 / largest
        exact = d = ONE / factor
    elif largest != 0:
        factor = Q8 / abs(largest)
        exact = abs(largest) / Q8
        d = as_half(exact)
    for i in range(0, count, 16):
        store(codes + i, round_to_bytes(times(load_floats16(x + 4 * i), splat(factor))))
    return d, exact


@activation
def round_chunk(kind, x, codes, scales, exact):
    """256 floats -> their codes; for each 32 their d, as kept and before that (all addresses)."""
    if kind == Q8_K:
        d, before = _round_block(x, 256, True, codes)
        for i in range(8):
            store(scales + 4 * i, d)
            store(exact + 4 * i, before)
        return
    for i in range(8):
        d, before = _round_block(x + 128 * i, 32, False, codes + 32 * i)
        store(scales + 4 * i, d)
        store(exact + 4 * i, before)
