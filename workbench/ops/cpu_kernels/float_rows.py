"""Products of rows of Q4_0, Q4_K and Q6_K with float32 activations in the order of the codes.

Nibbles become floats by one look-up in 16 of them. Codes of 6 bits:

    or'ed into the float 2^k whose last places they are  ──▶  2^k + code

so that one subtraction is left; for byte 1 of a lane 2^k is 2^8 times smaller, and so on.

Source: our own; the layouts are drawn at the codecs in `quants`.
"""

import numpy as np
from numba import njit
from numba.extending import register_jitable

from .blocks64 import ask_ahead, codes_q6_k, rest_of_q4_0, scales_q4_k
from .simd import (
    fused,
    load_bytes16,
    load_bytes64,
    load_f16_everywhere,
    load_floats16,
    or_masked,
    plus,
    splat,
    times,
)
from .simd_blocks import (
    as_ints,
    load_four,
    load_four_halves,
    nibbles_to_floats,
    parts0,
    parts2,
    parts8,
    parts10,
    shift_ints_right,
)
from .simd_lanes import float_of_bits, quarter0, quarter1, quarter2, quarter3, to_floats, total

__all__ = ["row_q4_0", "row_q4_k", "row_q6_k"]

product = njit(nogil=True, error_model="numpy")

ZERO = np.float32(0)
X_BYTES = 1088  # from one chunk of activations to the next; minus their sums are at 1024


@product
def _nibbles(ints, place, less, x, sums):
    """Add the products of 16 lanes' nibble at bit `place` with 16 floats."""
    codes = nibbles_to_floats(shift_ints_right(ints, place, place), less)
    return fused(codes, load_floats16(x), sums)


@product
def _four_nibbles(ints, place, less, x):
    """The products of 64 low nibbles (place 0), or high ones (4), with 64 floats, in lanes."""
    first = nibbles_to_floats(shift_ints_right(ints, place, place), less)
    sums = times(first, load_floats16(x))
    sums = _nibbles(ints, place + 8, less, x + 64, sums)
    sums = _nibbles(ints, place + 16, less, x + 128, sums)
    return _nibbles(ints, place + 24, less, x + 192, sums)


@product
def _four_q4_0(blocks, x, sums):
    """Add the products of four blocks."""
    ints = as_ints(load_four(blocks + 2, 18))
    part = plus(_four_nibbles(ints, 0, 8, x), _four_nibbles(ints, 4, 8, x + 256))
    return fused(part, load_four_halves(blocks, 18), sums)


@register_jitable
def row_q4_0(row, x, n, scratch):
    """The product of a row with one token's activations."""
    a = b = splat(ZERO)
    for i in range(n // 256):
        ask_ahead(row, 128 * i, 128 * i + 128)
        a = _four_q4_0(row + 144 * i, x + X_BYTES * i, a)
        b = _four_q4_0(row + 144 * i + 72, x + X_BYTES * i + 512, b)
    ask_ahead(row, n // 256 * 128, n // 32 * 18)
    if n % 256:
        rest, at = rest_of_q4_0(row, n, scratch), x + n // 256 * X_BYTES
        a = _four_q4_0(rest, at, a)
        b = _four_q4_0(rest + 72, at + 512, b)
    return total(plus(a, b))


@product
def _block_q4_k(block, x, sums):
    """Add the products of a block; the minima's are by the sums of activations."""
    scales = scales_q4_k(block)
    sums = fused(scales, load_floats16(x + 1024), sums)
    ints = as_ints(load_bytes64(block + 16))
    sums = fused(_four_nibbles(ints, 0, 0, x), parts0(scales), sums)
    sums = fused(_four_nibbles(ints, 4, 0, x + 256), parts2(scales), sums)
    ints = as_ints(load_bytes64(block + 80))
    sums = fused(_four_nibbles(ints, 0, 0, x + 512), parts8(scales), sums)
    return fused(_four_nibbles(ints, 4, 0, x + 768), parts10(scales), sums)


@register_jitable
def row_q4_k(row, x, n, scratch):
    """The product of a row with one token's activations."""
    sums = splat(ZERO)
    for i in range(n // 256):
        ask_ahead(row, 128 * i, 128 * i + 128)
        sums = _block_q4_k(row + 144 * i, x + X_BYTES * i, sums)
    ask_ahead(row, n // 256 * 128, n // 256 * 144)
    return total(sums)


@product
def _code(ints, bits, power):
    """Codes less 32. bits: where in the integer; power: the float whose last places they are."""
    return plus(or_masked(ints, bits, power), splat(-float_of_bits(power) - np.float32(32)))


@product
def _sixty_four(codes, x):
    """The products of 64 codes with 64 floats, in lanes."""
    ints = as_ints(codes)
    sums = times(_code(ints, 0x3F, 0x4B000000), load_floats16(x))
    sums = fused(_code(ints, 0x3F00, 0x47000000), load_floats16(x + 64), sums)
    sums = fused(_code(ints, 0x3F0000, 0x43000000), load_floats16(x + 128), sums)
    ints = shift_ints_right(ints, 8, 8)
    return fused(_code(ints, 0x3F0000, 0x43000000), load_floats16(x + 192), sums)


@product
def _block_q6_k(block, x, sums):
    """Add the products of a block."""
    scales = times(to_floats(load_bytes16(block + 192)), load_f16_everywhere(block + 208))
    first, second = codes_q6_k(block, 0)
    sums = fused(_sixty_four(first, x), quarter0(scales), sums)
    sums = fused(_sixty_four(second, x + 256), quarter1(scales), sums)
    first, second = codes_q6_k(block, 1)
    sums = fused(_sixty_four(first, x + 512), quarter2(scales), sums)
    return fused(_sixty_four(second, x + 768), quarter3(scales), sums)


@register_jitable
def row_q6_k(row, x, n, scratch):
    """The product of a row with one token's activations."""
    sums = splat(ZERO)
    for i in range(n // 256):
        ask_ahead(row, 192 * i, 192 * i + 192)
        sums = _block_q6_k(row + 210 * i, x + X_BYTES * i, sums)
    ask_ahead(row, n // 256 * 192, n // 256 * 210)
    return total(sums)
