"""One block of each type, as signed codes, scales and minima: what all products are made of.

    weight i = scale[i // 16] · code[i] − low[i // 16]

    decode_TYPE(block, codes, scales, lows)

block: address of the packed block; codes: address of 32 or 256 int8; scales, lows: addresses of
one float32 for each 16 weights (lows stay unwritten where a type has none; `kernels` says which).

Source: ggml-quants.c, `dequantize_row_*`; the layouts are drawn at the codecs in `quants`.
Left out: F16 and BF16, which need no codes, and the types over grids.
"""

from numba import float32
from numba.extending import register_jitable

from ...quants.iq4 import LEVELS as IQ4_LEVELS
from ...quants.mx import LEVELS as MX_LEVELS
from .simd import (
    join_bits,
    load_bytes16,
    load_bytes32,
    load_f16,
    load_u8,
    load_u16,
    load_u32,
    mask,
    minus,
    shift_left,
    shift_right,
    splat,
    store,
    times,
)
from .simd_lanes import (
    bits_to_bytes,
    each_twice,
    float_of_bits,
    from_words,
    look_up,
    lower,
    to_floats,
    unsigned_to_floats,
    upper,
)

# Not njit: what passes an njit function as an argument cannot be cached on disk.
decoder = register_jitable(error_model="numpy")


def _words(levels):
    """16 levels of int8 as four integers."""
    packed = bytes(level & 255 for level in levels)
    return tuple(int.from_bytes(packed[i : i + 4], "little") for i in range(0, 16, 4))


IQ4_WORDS = _words(IQ4_LEVELS)
MX_WORDS = _words(MX_LEVELS)


# --- blocks of 32: a scale, perhaps a minimum, 16 bytes of codes -------------------------------


@decoder
def _store_twice(address, number):
    """Blocks of 32 have the same scale for both halves."""
    store(address, number)
    store(address + 4, number)


@decoder
def decode_q8_0(block, codes, scales, lows):
    """d (f16), 32 codes of int8."""
    store(codes, load_bytes32(block + 2))
    _store_twice(scales, load_f16(block))


@decoder
def decode_q4_0(block, codes, scales, lows):
    """d (f16), byte j = code[j] | code[j + 16] << 4; codes less 8."""
    qs = load_bytes16(block + 2)
    store(codes, minus(mask(qs, 15), 8))
    store(codes + 16, minus(shift_right(qs, 4), 8))
    _store_twice(scales, load_f16(block))


@decoder
def decode_q4_1(block, codes, scales, lows):
    """d, m (f16), codes as in Q4_0 but not less 8."""
    qs = load_bytes16(block + 4)
    store(codes, mask(qs, 15))
    store(codes + 16, shift_right(qs, 4))
    _store_twice(scales, load_f16(block))
    _store_twice(lows, -load_f16(block + 2))


@decoder
def _five_bits(qs, high, codes):
    """Nibbles as in Q4_0, and bit i of `high` as the fifth bit of code i."""
    fifth = shift_left(bits_to_bytes(high), 4)
    store(codes, join_bits(mask(qs, 15), lower(fifth)))
    store(codes + 16, join_bits(shift_right(qs, 4), upper(fifth)))


@decoder
def decode_q5_0(block, codes, scales, lows):
    """d (f16), 32 fifth bits, nibbles; codes less 16."""
    _five_bits(load_bytes16(block + 6), load_u32(block + 2), codes)
    store(codes, minus(load_bytes32(codes), 16))
    _store_twice(scales, load_f16(block))


@decoder
def decode_q5_1(block, codes, scales, lows):
    """d, m (f16), 32 fifth bits, nibbles."""
    _five_bits(load_bytes16(block + 8), load_u32(block + 4), codes)
    _store_twice(scales, load_f16(block))
    _store_twice(lows, -load_f16(block + 2))


@decoder
def decode_iq4_nl(block, codes, scales, lows):
    """d (f16), nibbles that name levels."""
    levels = from_words(IQ4_WORDS[0], IQ4_WORDS[1], IQ4_WORDS[2], IQ4_WORDS[3])
    qs = load_bytes16(block + 2)
    store(codes, look_up(levels, mask(qs, 15)))
    store(codes + 16, look_up(levels, shift_right(qs, 4)))
    _store_twice(scales, load_f16(block))


@decoder
def _half_power(e):
    """Half the E8M0 number e, 2^(e - 128), below float32's normal numbers too."""
    return float_of_bits((e - 1) << 23 if e >= 2 else 0x200000 << e)


@decoder
def decode_mxfp4(block, codes, scales, lows):
    """An exponent e, nibbles that name twice the levels of E2M1: the scale is 2^(e - 128)."""
    levels = from_words(MX_WORDS[0], MX_WORDS[1], MX_WORDS[2], MX_WORDS[3])
    qs = load_bytes16(block + 1)
    store(codes, look_up(levels, mask(qs, 15)))
    store(codes + 16, look_up(levels, shift_right(qs, 4)))
    _store_twice(scales, _half_power(load_u8(block)))


# --- blocks of 256: scales of scales -----------------------------------------------------------


@decoder
def decode_q2_k(block, codes, scales, lows):
    """16 bytes sc | m << 4, 64 bytes of codes, d, dmin (f16).

    Byte 32 h + j holds codes 128 h + j, + 32, + 64, + 96 in bits 1..0, 3..2, 5..4, 7..6.
    """
    packed = load_bytes16(block)
    for half in range(2):
        qs = load_bytes32(block + 16 + 32 * half)
        to = codes + 128 * half
        store(to, mask(qs, 3))
        store(to + 32, mask(shift_right(qs, 2), 3))
        store(to + 64, mask(shift_right(qs, 4), 3))
        store(to + 96, shift_right(qs, 6))
    d, dmin = splat(load_f16(block + 80)), splat(load_f16(block + 82))
    store(scales, times(unsigned_to_floats(mask(packed, 15)), d))
    store(lows, times(unsigned_to_floats(shift_right(packed, 4)), dmin))


@decoder
def decode_q3_k(block, codes, scales, lows):
    """32 bytes of high bits, 64 bytes of low bits as in Q2_K, 12 bytes of scales, d (f16).

    Bit k of high byte j belongs to code 32 k + j; without it the code is less 4.
    """
    high = load_bytes32(block)
    for half in range(2):
        qs = load_bytes32(block + 32 + 32 * half)
        bits = shift_right(high, 4 * half)
        to = codes + 128 * half
        _three_bits(to, qs, shift_left(mask(bits, 1), 2))
        _three_bits(to + 32, shift_right(qs, 2), shift_left(mask(bits, 2), 1))
        _three_bits(to + 64, shift_right(qs, 4), mask(bits, 4))
        _three_bits(to + 96, shift_right(qs, 6), shift_right(mask(bits, 8), 1))
    a, b, c = load_u32(block + 96), load_u32(block + 100), load_u32(block + 104)
    low = from_words(a, b, a >> 4, b >> 4)
    top = from_words(c, c >> 2, c >> 4, c >> 6)
    packed = join_bits(mask(low, 15), shift_left(mask(top, 3), 4))
    d = splat(load_f16(block + 108))
    store(scales, times(to_floats(minus(packed, 32)), d))


@decoder
def _three_bits(codes, low, high):
    store(codes, minus(join_bits(mask(low, 3), high), 4))


@decoder
def scales_and_lows(block, scales, lows):
    """d, dmin (f16) and the 12 bytes of 6-bit sc and m that Q4_K and Q5_K begin with."""
    a, b, c = load_u32(block + 4), load_u32(block + 8), load_u32(block + 12)
    sc = c & 0x0F0F0F0F | a >> 2 & 0x30303030
    m = c >> 4 & 0x0F0F0F0F | b >> 2 & 0x30303030
    sub = from_words(a & 0x3F3F3F3F, sc, 0, 0)
    low = from_words(b & 0x3F3F3F3F, m, 0, 0)
    store(scales, times(unsigned_to_floats(each_twice(sub)), splat(load_f16(block))))
    store(lows, times(unsigned_to_floats(each_twice(low)), splat(load_f16(block + 2))))


@decoder
def decode_q4_k(block, codes, scales, lows):
    """Byte 32 c + j of the codes holds code 64 c + j and, in its high nibble, 64 c + 32 + j."""
    scales_and_lows(block, scales, lows)
    for c in range(4):
        qs = load_bytes32(block + 16 + 32 * c)
        store(codes + 64 * c, mask(qs, 15))
        store(codes + 64 * c + 32, shift_right(qs, 4))


@decoder
def decode_q5_k(block, codes, scales, lows):
    """Nibbles as in Q4_K after 32 bytes of fifth bits: bit k of byte j for code 32 k + j."""
    scales_and_lows(block, scales, lows)
    high = load_bytes32(block + 16)
    for c in range(4):
        qs = load_bytes32(block + 48 + 32 * c)
        bits = shift_right(high, 2 * c)
        fifth = shift_left(mask(bits, 1), 4)
        store(codes + 64 * c, join_bits(mask(qs, 15), fifth))
        fifth = shift_left(mask(bits, 2), 3)
        store(codes + 64 * c + 32, join_bits(shift_right(qs, 4), fifth))


@decoder
def decode_q6_k(block, codes, scales, lows):
    """128 bytes of low nibbles, 64 of high bits, 16 int8 scales, d (f16); codes less 32.

    Half h, j < 32: low[64 h + j] has codes 128 h + j and + 64, low[64 h + 32 + j] has + 32 and
    + 96; high[32 h + j] has the upper two bits of j, + 32, + 64, + 96, lowest first.
    """
    for half in range(2):
        first = load_bytes32(block + 64 * half)
        second = load_bytes32(block + 64 * half + 32)
        high = load_bytes32(block + 128 + 32 * half)
        to = codes + 128 * half
        _six_bits(to, mask(first, 15), shift_left(mask(high, 3), 4))
        _six_bits(to + 32, mask(second, 15), shift_left(mask(high, 12), 2))
        _six_bits(to + 64, shift_right(first, 4), mask(high, 48))
        _six_bits(to + 96, shift_right(second, 4), shift_right(mask(high, 192), 2))
    d = splat(load_f16(block + 208))
    store(scales, times(to_floats(load_bytes16(block + 192)), d))


@decoder
def _six_bits(codes, low, high):
    store(codes, minus(join_bits(low, high), 32))


@decoder
def decode_iq4_xs(block, codes, scales, lows):
    """d (f16), high bits of 8 scales (u16), their low nibbles (4 bytes), nibbles naming levels."""
    levels = from_words(IQ4_WORDS[0], IQ4_WORDS[1], IQ4_WORDS[2], IQ4_WORDS[3])
    for k in range(8):
        qs = load_bytes16(block + 8 + 16 * k)
        store(codes + 32 * k, look_up(levels, mask(qs, 15)))
        store(codes + 32 * k + 16, look_up(levels, shift_right(qs, 4)))
    high, low, d = load_u16(block + 2), load_u32(block + 4), load_f16(block)
    for k in range(8):
        scale = (low >> 4 * k & 15) | (high >> 2 * k & 3) << 4
        _store_twice(scales + 8 * k, d * float32(scale - 32))
