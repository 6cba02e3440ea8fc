"""Products of rows of Q4_0 and Q4_K with float32 activations, without a step by way of bytes.

    4 bits of an integer, or'ed into the float 2^k whose last places they are  ──▶  2^k + code

so that one subtraction gives the code as float32. For the high nibble of a byte 2^k has its last
place 16 times lower, and nothing is shifted. Sums of a block are scaled once, not weight by weight.

Same arguments and the same sharing of rows as in `products`.

Source: our own; the layouts are drawn at the codecs in `quants`.
"""

import numpy as np
from numba import njit
from numba.extending import register_jitable

from .decode import scales_and_lows
from .products import bytes_between
from .simd import (
    fetch_add,
    fused,
    load_bytes_as_ints16,
    load_f16_everywhere,
    load_f32,
    load_floats16,
    or_masked,
    plus,
    splat,
    stack_memory,
    store,
    times,
    total,
)

product = njit(nogil=True, error_model="numpy")

LOW_POWER, HIGH_POWER = 2.0**23, 2.0**19  # float32 whose last place is bit 0, and bit 4, of a byte
LOW_BITS, HIGH_BITS = 0x4B000000, 0x49000000  # the same as integers
ZERO = np.float32(0)
SCALES, LOWS = 0, 64  # places in scratch memory


@product
def _low(bytes, less):
    """Codes in the low nibbles, minus `less`."""
    return plus(or_masked(bytes, 0x0F, LOW_BITS), splat(np.float32(-LOW_POWER - less)))


@product
def _high(bytes, less):
    """Codes in the high nibbles, minus `less`."""
    return plus(or_masked(bytes, 0xF0, HIGH_BITS), splat(np.float32(-HIGH_POWER - less)))


@product
def _block_q4_0(block, x, sums):
    """Add the products of 32 weights with 32 floats."""
    codes = load_bytes_as_ints16(block + 2)
    part = times(_low(codes, 8), load_floats16(x))
    part = fused(_high(codes, 8), load_floats16(x + 64), part)
    return fused(part, load_f16_everywhere(block), sums)


@register_jitable
def row_q4_0(row, x, n, scratch):
    """The product of a row with one token's activations."""
    a = b = c = d = splat(ZERO)
    for i in range(0, n // 128):
        block, at = row + 72 * i, x + 512 * i
        a = _block_q4_0(block, at, a)
        b = _block_q4_0(block + 18, at + 128, b)
        c = _block_q4_0(block + 36, at + 256, c)
        d = _block_q4_0(block + 54, at + 384, d)
    for i in range(n // 128 * 4, n // 32):
        a = _block_q4_0(row + 18 * i, x + 128 * i, a)
    return total(plus(plus(a, b), plus(c, d)))


@product
def _scaled(part, x, y, i, scratch, sums):
    """Add the sums of block part i, scaled, less its minimum times the activations."""
    sums = fused(part, splat(load_f32(scratch + SCALES + 8 * i)), sums)
    return fused(plus(x, y), splat(-load_f32(scratch + LOWS + 8 * i)), sums)


@product
def _quarter_q4_k(codes, x, i, scratch, a, b):
    """Add the products of parts i and i + 1 of a block, 32 weights each."""
    first, second = load_bytes_as_ints16(codes), load_bytes_as_ints16(codes + 16)
    x0, x1 = load_floats16(x), load_floats16(x + 64)
    y0, y1 = load_floats16(x + 128), load_floats16(x + 192)
    low = fused(_low(second, 0), x1, times(_low(first, 0), x0))
    high = fused(_high(second, 0), y1, times(_high(first, 0), y0))
    return _scaled(low, x0, x1, i, scratch, a), _scaled(high, y0, y1, i + 1, scratch, b)


@register_jitable
def row_q4_k(row, x, n, scratch):
    """The product of a row with one token's activations."""
    a = b = c = d = splat(ZERO)
    for i in range(n // 256):
        block, at = row + 144 * i, x + 1024 * i
        scales_and_lows(block, scratch + SCALES, scratch + LOWS)
        a, b = _quarter_q4_k(block + 16, at, 0, scratch, a, b)
        c, d = _quarter_q4_k(block + 48, at + 256, 2, scratch, c, d)
        a, b = _quarter_q4_k(block + 80, at + 512, 4, scratch, a, b)
        c, d = _quarter_q4_k(block + 112, at + 768, 6, scratch, c, d)
    return total(plus(plus(a, b), plus(c, d)))


@product
def times_nibbles(row_product, weight, stride, rows, n, x, tokens, out, counter, step):
    """out (T, M) = x (T, N) float32 times rows of nibbles."""
    x_stride = bytes_between(n)
    scratch = stack_memory()
    while True:
        first = fetch_add(counter, step)
        if first >= rows:
            break
        for row in range(first, min(first + step, rows)):
            for t in range(tokens):
                result = row_product(weight + row * stride, x + t * x_stride, n, scratch)
                store(out + 4 * (t * rows + row), result)
