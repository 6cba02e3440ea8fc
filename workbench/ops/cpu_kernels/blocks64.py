"""Rows of Q4_0, Q4_K and Q6_K read 64 bytes at a time, their codes left where they lie.

    lane l of 16:   bytes 4l, 4l+1, 4l+2, 4l+3  ──▶  codes of neighbours in a block

Codes are not moved to their activations: activations are laid out for the codes, once for all rows
(`activations.PIECES`). Sums of lanes that belong to one block are scaled once.

    256 weights   Q4_0   2 x (4 scales, 4 x 16 bytes)      codes: low nibbles, high nibbles
                  Q4_K   8 scales and minima, 2 x 64 bytes         the same
                  Q6_K   2 x 64 bytes, 2 x 32 bytes of high bits, 16 scales

Source: ggml-quants.c, `dequantize_row_*`; the layouts are drawn at the codecs in `quants`.
"""

from numba import njit

from .simd import (
    join_bits,
    load_bytes64,
    load_u16,
    load_u32,
    mask,
    prefetch,
    shift_right,
    stack_memory,
    store,
    store_u16,
    times,
)
from .simd_blocks import (
    as_bytes,
    as_ints,
    by_turns,
    load_f16_by_turns,
    load_twice,
    shift_ints_left,
    shift_ints_right,
)
from .simd_lanes import unsigned_to_floats
from .team import arguments, n_rows, take_rows

__all__ = ["ask_ahead", "codes_q6_k", "rest_of_q4_0", "scales_q4_k", "times_rows"]

product = njit(nogil=True, error_model="numpy")

AHEAD = 4096  # bytes; the machine's own prefetching stops at the end of a page


@product
def ask_ahead(address, start, stop):
    """Ask for the cache lines that lie so far ahead of some bytes."""
    for i in range(start, stop, 64):
        prefetch(address + AHEAD + i)


@product
def scales_q4_k(block):
    """The eight scales and minima, by turns."""
    a, b, c = load_u32(block + 4), load_u32(block + 8), load_u32(block + 12)
    sc = (a & 0x3F3F3F3F) | (c & 0x0F0F0F0F | a >> 2 & 0x30303030) << 32
    m = (b & 0x3F3F3F3F) | (c >> 4 & 0x0F0F0F0F | b >> 2 & 0x30303030) << 32
    return times(unsigned_to_floats(by_turns(sc, m)), load_f16_by_turns(block))


@product
def codes_q6_k(block, half):
    """The first and the second 64 codes of half a block, 0..63."""
    low = load_bytes64(block + 64 * half)
    high = as_ints(load_twice(block + 128 + 32 * half))
    first = mask(as_bytes(shift_ints_left(high, 4, 2)), 48)
    second = mask(as_bytes(shift_ints_right(high, 0, 2)), 48)
    return join_bits(mask(low, 15), first), join_bits(shift_right(low, 4), second)


@product
def rest_of_q4_0(row, n, scratch):
    """The blocks after the last whole 256 weights, with blocks of scale 0 up to 256."""
    count = n % 256 // 32 * 18
    for i in range(0, 144, 2):
        store_u16(scratch + i, load_u16(row + n // 256 * 144 + i) if i < count else 0)
    return scratch


@product
def times_rows(row_product, chunk_bytes, job):
    """out (T, M) = x (T, N) times rows, each by `row_product`; chunk_bytes: 256 activations."""
    weight, stride, n, x, tokens, out = arguments(job)
    rows = n_rows(job)
    x_stride = (n + 255) // 256 * chunk_bytes
    scratch = stack_memory()
    first, stop = take_rows(job)
    while first < stop:
        for row in range(first, stop):
            for t in range(tokens):
                result = row_product(weight + row * stride, x + t * x_stride, n, scratch)
                store(out + 4 * (t * rows + row), result)
        first, stop = take_rows(job)
