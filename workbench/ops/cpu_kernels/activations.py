"""Activations as int8 codes, the way llama.cpp rounds them before it multiplies.

    Q8_0, Q8_1   32 codes, d = max |x| / 127 kept as float16     for types in blocks of 32
    Q8_K         256 codes, d = the largest x / −127, float32    for types in blocks of 256

Q8_1, for types with a minimum, also keeps d · (sum of the codes), as float16.

Sources: ggml-cpu/arch/x86/quants.c, `quantize_row_q8_0` and `quantize_row_q8_1`; ggml-quants.c,
`quantize_row_q8_K_ref`.
"""

import numpy as np
from numba import float32, int8, int32, njit

from .entry import entry
from .simd import bits_of_float, float_of_bits

Q8_0, Q8_1, Q8_K = 0, 1, 2
CHUNK = 256
HALF, SMALLEST_HALF, LARGEST_HALF = float32(0.5), float32(2.0**-14), float32(65520)
Q8 = float32(127)

# One record for 256 activations: codes; −128 times the sum of each four of them, which takes off
# what `products` adds to the weights' codes; scale, and scale times sum, for each 16.
RECORD = np.dtype(
    [("codes", "i1", 256), ("base", "i4", 64), ("scales", "f4", 16), ("sums", "f4", 16)]
)

activation = njit(nogil=True, error_model="numpy")


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
def round_chunk(kind, x, codes, scales, sums):
    """256 floats -> their codes; scales and sums, d and d · (sum), for each 16 of them."""
    if kind == Q8_K:
        _round_block(x, codes, scales, sums, _largest(x), True)
        return
    for i in range(8):
        part, at = x[32 * i : 32 * i + 32], slice(2 * i, 2 * i + 2)
        _round_block(part, codes[32 * i : 32 * i + 32], scales[at], sums[at], _largest(part), False)
        if kind == Q8_1:
            total = as_half(sums[2 * i] + sums[2 * i + 1])
            sums[2 * i], sums[2 * i + 1] = total, float32(0)


@activation
def _largest(x):
    """The first of the numbers with the largest magnitude."""
    largest = float32(0)
    for value in x:
        if abs(value) > largest:
            largest = abs(value)
    for value in x:
        if abs(value) == largest:
            return value
    return largest


@activation
def _round_block(x, codes, scales, sums, largest, keep_sign):
    """One block; d is positive and float16 unless its sign is kept."""
    if largest == 0:
        codes[:], scales[:], sums[:] = int8(0), float32(0), float32(0)
        return
    if keep_sign:
        factor = -Q8 / largest
        exact = d = float32(1) / factor
    else:
        factor = Q8 / abs(largest)
        exact = abs(largest) / Q8
        d = as_half(exact)
    for i in range(len(x)):
        codes[i] = int8(min(float32(127), np.rint(x[i] * factor)))
    for i in range(len(scales)):
        total = int32(0)
        for code in codes[16 * i : 16 * i + 16]:
            total += int32(code)
        scales[i] = d
        sums[i] = exact * float32(total)


@entry
def round_to_records(kind, x, codes, base, scales, sums):
    """x (T, C, 256) float32 -> the fields of (T, C) records."""
    for t in range(x.shape[0]):
        for c in range(x.shape[1]):
            round_chunk(kind, x[t, c], codes[t, c], scales[t, c], sums[t, c])
            for i in range(64):
                total = int32(0)
                for code in codes[t, c, 4 * i : 4 * i + 4]:
                    total += int32(code)
                base[t, c, i] = int32(-128) * total


@entry
def round_floats(kind, x, out):
    """x (T, C, 256) float32 -> out of the same shape: codes times scales."""
    codes = np.empty(CHUNK, np.int8)
    scales, sums = np.empty(16, np.float32), np.empty(16, np.float32)
    for t in range(x.shape[0]):
        for c in range(x.shape[1]):
            round_chunk(kind, x[t, c], codes, scales, sums)
            for i in range(CHUNK):
                out[t, c, i] = float32(codes[i]) * scales[i // 16]
