"""Products of rows of Q4_0, Q4_K and Q6_K with int8 activations in the order of the codes.

Codes stay as they are stored, unsigned; what they are too large by is in the activations' records.

Source: ggml-cpu's `ggml_vec_dot_*`; the layouts are drawn at the codecs in `quants`.
"""

import numpy as np
from numba import njit
from numba.extending import register_jitable

from .activations import BASE, RECORD_BYTES, SCALES, SUMS
from .blocks64 import ask_ahead, codes_q6_k, rest_of_q4_0, scales_q4_k
from .simd import (
    fused,
    load_bytes16,
    load_bytes64,
    load_f16_everywhere,
    load_f32,
    load_floats16,
    load_ints16,
    mask,
    plus,
    shift_right,
    splat,
    times,
)
from .simd_blocks import load_four, load_four_halves, parts0, parts2, parts8, parts10
from .simd_lanes import (
    add_products,
    ints_to_floats,
    quarter0,
    quarter1,
    quarter2,
    quarter3,
    to_floats,
    total,
)

__all__ = ["row_q4_0", "row_q4_k", "row_q6_k"]

product = njit(nogil=True, error_model="numpy")

ZERO = np.float32(0)


@product
def _four_q4_0(blocks, x, half, sums):
    """Add the products of four blocks with half a record."""
    bytes, codes = load_four(blocks + 2, 18), x + 128 * half
    ints = load_ints16(x + BASE + 64 * half)
    ints = add_products(ints, mask(bytes, 15), load_bytes64(codes))
    ints = add_products(ints, shift_right(bytes, 4), load_bytes64(codes + 64))
    scales = times(load_four_halves(blocks, 18), load_floats16(x + SCALES + 64 * half))
    return fused(ints_to_floats(ints), scales, sums)


@register_jitable
def row_q4_0(row, x, n, scratch):
    """The product of a row with one token's activations."""
    a = b = splat(ZERO)
    for i in range(n // 256):
        ask_ahead(row, 128 * i, 128 * i + 128)
        a = _four_q4_0(row + 144 * i, x + RECORD_BYTES * i, 0, a)
        b = _four_q4_0(row + 144 * i + 72, x + RECORD_BYTES * i, 1, b)
    ask_ahead(row, n // 256 * 128, n // 32 * 18)
    if n % 256:
        rest, at = rest_of_q4_0(row, n, scratch), x + n // 256 * RECORD_BYTES
        a = _four_q4_0(rest, at, 0, a)
        b = _four_q4_0(rest + 72, at, 1, b)
    return total(plus(a, b))


@product
def _sixty_four(codes, x, i):
    """The products of 64 codes with the i-th 64 of a record, four by four."""
    base, bytes = load_ints16(x + BASE + 64 * i), load_bytes64(x + 64 * i)
    return ints_to_floats(add_products(base, codes, bytes))


@product
def _block_q4_k(block, x, sums):
    """Add the products of a block; the minima's are by the sums of activations."""
    scales = times(scales_q4_k(block), splat(load_f32(x + SCALES)))
    sums = fused(scales, load_floats16(x + SUMS), sums)
    bytes = load_bytes64(block + 16)
    sums = fused(_sixty_four(mask(bytes, 15), x, 0), parts0(scales), sums)
    sums = fused(_sixty_four(shift_right(bytes, 4), x, 1), parts2(scales), sums)
    bytes = load_bytes64(block + 80)
    sums = fused(_sixty_four(mask(bytes, 15), x, 2), parts8(scales), sums)
    return fused(_sixty_four(shift_right(bytes, 4), x, 3), parts10(scales), sums)


@register_jitable
def row_q4_k(row, x, n, scratch):
    """The product of a row with one token's activations."""
    sums = splat(ZERO)
    for i in range(n // 256):
        ask_ahead(row, 128 * i, 128 * i + 128)
        sums = _block_q4_k(row + 144 * i, x + RECORD_BYTES * i, sums)
    ask_ahead(row, n // 256 * 128, n // 256 * 144)
    return total(sums)


@product
def _block_q6_k(block, x, sums):
    """Add the products of a block."""
    scale = times(load_f16_everywhere(block + 208), splat(load_f32(x + SCALES)))
    scales = times(to_floats(load_bytes16(block + 192)), scale)
    first, second = codes_q6_k(block, 0)
    sums = fused(_sixty_four(first, x, 0), quarter0(scales), sums)
    sums = fused(_sixty_four(second, x, 1), quarter1(scales), sums)
    first, second = codes_q6_k(block, 1)
    sums = fused(_sixty_four(first, x, 2), quarter2(scales), sums)
    return fused(_sixty_four(second, x, 3), quarter3(scales), sums)


@register_jitable
def row_q6_k(row, x, n, scratch):
    """The product of a row with one token's activations."""
    sums = splat(ZERO)
    for i in range(n // 256):
        ask_ahead(row, 192 * i, 192 * i + 192)
        sums = _block_q6_k(row + 210 * i, x + RECORD_BYTES * i, sums)
    ask_ahead(row, n // 256 * 192, n // 256 * 210)
    return total(sums)
