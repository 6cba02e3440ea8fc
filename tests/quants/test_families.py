"""Blocks small enough to check by eye, and the bits that every family must get right."""

import numpy as np
import pytest

from workbench.quants import CODECS, dequantize, quantize
from workbench.quants.block_math import nearest_int, round_half_away, signed_extreme, smallest
from workbench.quants.mx import E8M0, UE4M3, e8m0_scale
from workbench.quants.packing import join_fields, split_fields

HALF_ONE = [0x00, 0x3C]  # float16 1.0


def test_q4_0_by_hand():
    x = np.tile(np.arange(-8, 8, dtype=np.float32), 2)  # codes 0..15 twice, d = 1
    expected = HALF_ONE + [code | code << 4 for code in range(16)]
    np.testing.assert_array_equal(quantize(x, "Q4_0"), np.array(expected, np.uint8))
    np.testing.assert_array_equal(dequantize(quantize(x, "Q4_0"), "Q4_0"), x)


def test_q4_1_by_hand():
    x = np.tile(np.arange(3, 19, dtype=np.float32), 2)  # codes 0..15 twice, d = 1, m = 3
    expected = [*HALF_ONE, 0x00, 0x42] + [code | code << 4 for code in range(16)]
    np.testing.assert_array_equal(quantize(x, "Q4_1"), np.array(expected, np.uint8))


def test_q5_0_by_hand():
    x = np.arange(-16, 16, dtype=np.float32)  # codes 0..31; the upper 16 have the fifth bit
    expected = [*HALF_ONE, 0, 0, 0xFF, 0xFF] + [code | code << 4 for code in range(16)]
    np.testing.assert_array_equal(quantize(x, "Q5_0"), np.array(expected, np.uint8))
    np.testing.assert_array_equal(dequantize(quantize(x, "Q5_0"), "Q5_0"), x)


def test_q8_0_rounds_half_away_from_zero():
    x = np.zeros(32, np.float32)
    x[:5] = 127, 0.5, -0.5, 1.5, -2.5  # d = 1
    codes = quantize(x, "Q8_0")[2:].view(np.int8)
    np.testing.assert_array_equal(codes[:5], [127, 1, -1, 2, -3])


def test_q1_0_keeps_signs_and_mean_magnitude():
    x = np.where(np.arange(128) % 8 == 0, 3, -1).astype(np.float32)
    q = quantize(x, "Q1_0")
    np.testing.assert_array_equal(q[2:], 1)
    np.testing.assert_array_equal(np.unique(dequantize(q, "Q1_0")), [-1.25, 1.25])


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0", "Q2_0"])
def test_ternary_weights_survive(name):
    x = (np.random.default_rng(0).integers(-1, 2, 512) * 0.75).astype(np.float32)
    np.testing.assert_array_equal(dequantize(quantize(x, name), name), x)


def test_tq1_0_first_byte_holds_five_digits():
    x = np.full(256, -1, np.float32)
    x[[0, 32, 64, 96, 128]] = [1, 0, -1, 0, 1]  # digits 2 1 0 1 2 = 194 in base 3
    assert quantize(x, "TQ1_0")[0] == -(-194 * 256 // 243)


def test_mxfp4_keeps_its_levels_and_breaks_ties_towards_zero():
    levels = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    x = np.concatenate([levels, -levels, levels, [5, -5, 0.25, -0.25, 0.75, 2.5, 3.5, 1.25]])
    y = dequantize(quantize(x.astype(np.float32), "MXFP4"), "MXFP4")
    np.testing.assert_array_equal(y[:24], x[:24])
    np.testing.assert_array_equal(y[24:], [4, -4, 0, 0, 0.5, 2, 3, 1])


def test_scales_of_the_four_bit_floats():
    np.testing.assert_array_equal(E8M0[[0, 127, 128, 255]], [2.0**-128, 0.5, 1, 2.0**127])
    np.testing.assert_array_equal(
        UE4M3[[0, 1, 0x38, 0x7E, 0x7F, 0x80]], [0, 2**-10, 0.5, 224, 0, 0]
    )
    powers = np.ldexp(np.float32(1), np.arange(-120, 128))
    np.testing.assert_array_equal(e8m0_scale(powers), np.arange(-120, 128) + 125)


def test_q6_k_by_hand():
    block = np.zeros(1, CODECS["Q6_K"].dtype)
    block["d"], block["scales"] = 1, np.arange(16)
    y = dequantize(block.view(np.uint8), "Q6_K")
    np.testing.assert_array_equal(y, -32.0 * np.repeat(np.arange(16), 16))
    block["ql"][0, 64 + 5], block["qh"][0, 5] = 0xA3, 0b11_00_00_01  # weights 133, 197; 5, 101
    y = dequantize(block.view(np.uint8), "Q6_K")
    np.testing.assert_array_equal(y[[133, 197]], [8 * (3 - 32), 12 * (10 - 32)])
    np.testing.assert_array_equal(y[[5, 101]], [0 * (16 - 32), 6 * (48 - 32)])


def test_q8_1_and_q8_k_keep_the_sums_that_dot_products_need():
    x = np.arange(-127, 129, dtype=np.float32).clip(-127, 127)
    blocks = quantize(x, "Q8_1").view(CODECS["Q8_1"].dtype)
    sums = blocks["qs"].sum(axis=1, dtype=np.int32)
    np.testing.assert_array_equal(blocks["s"], (sums * blocks["d"].astype("f4")).astype("f2"))
    block = quantize(x, "Q8_K").view(CODECS["Q8_K"].dtype)
    np.testing.assert_array_equal(block["bsums"][0], block["qs"].reshape(16, 16).sum(axis=1))
    np.testing.assert_array_equal(dequantize(block.view(np.uint8), "Q8_K"), x)


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_every_sixteen_bit_pattern_reads_as_its_number(name):
    bits = np.arange(65536, dtype=np.uint16)
    expected = bits.view(np.float16).astype(np.float32)
    if name == "BF16":
        expected = (bits.astype(np.uint32) << 16).view(np.float32)
    y = dequantize(bits.view(np.uint8), name)
    finite = ~np.isnan(expected)
    np.testing.assert_array_equal(y[finite].view(np.uint32), expected[finite].view(np.uint32))
    np.testing.assert_array_equal(np.isnan(y), ~finite)


def test_float_types_keep_nan_and_infinity():
    x = np.array([np.nan, np.inf, -np.inf, 1e-45, -0.0], np.float32)
    for name in ("F32", "F64"):
        np.testing.assert_array_equal(dequantize(quantize(x, name), name), x)
    np.testing.assert_array_equal(np.isnan(dequantize(quantize(x, "BF16"), "BF16"))[:3], [1, 0, 0])


def test_integers_are_read_as_numbers():
    for name in ("I8", "I16", "I32", "I64"):
        values = np.array([-3, 0, 7], CODECS[name].dtype)
        np.testing.assert_array_equal(dequantize(values.view(np.uint8), name), [-3, 0, 7])


def test_negative_zeros_give_the_negative_scale_that_ggml_gives():
    assert quantize(np.full(32, -0.0, np.float32), "Q4_0")[:2].tolist() == [0x00, 0x80]
    x = np.abs(np.arange(32, dtype=np.float32))
    x[0] = -0.0  # the minimum is the first zero, sign and all
    assert quantize(x, "Q4_1")[2:4].tolist() == [0x00, 0x80]


def test_scales_too_small_for_a_reciprocal_give_zero_codes():
    x = np.full(32, 1e-42, np.float32)
    np.testing.assert_array_equal(quantize(x, "Q8_0"), np.zeros(34, np.uint8))


def test_scales_beyond_float16_become_infinite_as_in_ggml():
    q = quantize(np.full(32, 3e38, np.float32), "Q8_0")
    assert q[:2].view(np.float16)[0] == np.inf


def test_round_half_away_is_roundf_next_to_every_half():
    halves = np.arange(0.5, 128, dtype=np.float32)
    for x, up in ((halves, 1), (np.nextafter(halves, np.float32(0)), 0)):
        for sign in (1, -1):
            rounded = np.trunc(round_half_away(x * np.float32(sign)))
            np.testing.assert_array_equal(rounded, sign * (np.floor(x) + up))


def test_nearest_int_rounds_ties_to_even_and_has_an_answer_for_everything():
    x = np.array([0.5, 1.5, -2.5, 7.49, np.nan, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(nearest_int(x), [0, 2, -2, 7, 0, -(2**22), -(2**22)])


def test_extremes_take_the_first_of_equals():
    x = np.array([[1, -2, 2, 0], [1, 2, -2, 0], [-0.0, 0, 0, -0.0]], np.float32)
    np.testing.assert_array_equal(signed_extreme(x), [-2, 2, 0])
    np.testing.assert_array_equal(np.signbit(signed_extreme(x)), [True, False, False])
    np.testing.assert_array_equal(np.signbit(smallest(x)), [True, True, True])
    assert not np.signbit(smallest(-x[2:]))[0]


@pytest.mark.parametrize(("bits", "run"), [(1, 32), (2, 32), (4, 16), (4, 8), (2, 1)])
def test_fields_joined_are_fields_split(bits, run):
    packed = np.random.default_rng(bits).integers(0, 256, (3, 64), dtype=np.uint8)
    codes = split_fields(packed, bits, run)
    assert codes.shape == (3, 64 * 8 // bits)
    np.testing.assert_array_equal(join_fields(codes, bits, run), packed)
