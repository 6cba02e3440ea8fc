"""The NumPy operations: answers worked out by hand, properties, odd shapes."""

import numpy as np
import pytest

from workbench.ops import PackedTensor, cpu
from workbench.quants import dequantize, quantize

FLOAT32_SUM = 2e-5  # float32 sums of up to 300 numbers of size 1, in another order


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(*shape, seed=0):
    return rng(seed).standard_normal(shape).astype(np.float32)


def f32(matrix):
    return PackedTensor(matrix, "F32", matrix.shape)


def packed(matrix, type):
    return PackedTensor(quantize(matrix, type), type, matrix.shape)


def test_rms_norm_of_3_4_divides_by_the_root_of_twelve_and_a_half():
    out = cpu.rms_norm(np.array([[3, 4]], np.float32), np.array([1, 10], np.float32))
    np.testing.assert_allclose(out, [[3 / 12.5**0.5, 40 / 12.5**0.5]], rtol=1e-6)


def test_rms_norm_adds_eps_to_the_mean_and_the_bias_at_the_end():
    one = np.ones(2, np.float32)
    out = cpu.rms_norm(np.zeros((1, 2), np.float32), one, 7 * one, eps=1e-5)
    np.testing.assert_array_equal(out, [[7, 7]])


def test_softmax_of_equal_scores_is_even_and_minus_infinity_gets_nothing():
    out = cpu.softmax(np.array([[5, 5, -np.inf, 5, 5]], np.float32))
    np.testing.assert_array_equal(out, [[0.25, 0.25, 0, 0.25, 0.25]])


def test_softmax_of_huge_scores_does_not_overflow():
    np.testing.assert_array_equal(cpu.softmax(np.array([[1e38, -1e38]], np.float32)), [[1, 0]])


def test_layer_norm_of_1_3_is_minus_one_and_one():
    out = cpu.layer_norm(np.array([[1, 3]], np.float32), np.array([1, 10], np.float32))
    np.testing.assert_allclose(out, [[-1, 10]], rtol=1e-6)


def test_layer_norm_without_weights_only_shifts_and_scales():
    x = normal(4, 20)
    out = cpu.layer_norm(x, eps=1e-5)
    np.testing.assert_allclose(out.mean(-1), np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(out.std(-1), np.ones(4), rtol=1e-4)


@pytest.mark.parametrize("norm", [cpu.rms_norm, cpu.layer_norm])
def test_a_norm_with_a_weight_for_each_head_is_that_of_each_head(norm):
    x, weight = normal(3, 2, 8), normal(2, 8, seed=1)
    both = norm(x, weight, None, 1e-5)
    for head in range(2):
        one = norm(np.ascontiguousarray(x[:, head]), weight[head], None, 1e-5)
        np.testing.assert_allclose(both[:, head], one, rtol=1e-6)


def test_rope_norm_by_a_right_angle_turns_neighbours():
    quarter = np.array([[1j, 1]], np.complex64)
    out = cpu.rope(np.array([[[1, 2, 3, 4]]], np.float32), quarter, "norm")
    np.testing.assert_array_equal(out, [[[-2, 1, 3, 4]]])


def test_rope_neox_by_a_right_angle_turns_halves():
    quarter = np.array([[1j, 1]], np.complex64)
    out = cpu.rope(np.array([[[1, 2, 3, 4]]], np.float32), quarter, "neox")
    np.testing.assert_array_equal(out, [[[-3, 2, 1, 4]]])


@pytest.mark.parametrize("kind", ["norm", "neox"])
def test_rope_leaves_numbers_beyond_n_rot_alone(kind):
    out = cpu.rope(np.array([[[1, 2, 3, 4]]], np.float32), np.array([[1j]], np.complex64), kind)
    np.testing.assert_array_equal(out, [[[-2, 1, 3, 4]]])


@pytest.mark.parametrize("kind", ["norm", "neox"])
def test_rope_keeps_lengths_and_does_not_touch_its_input(kind):
    x = normal(3, 2, 20)
    before = x.copy()
    out = cpu.rope(x, np.exp(1j * normal(3, 10)).astype(np.complex64), kind)
    np.testing.assert_allclose((out**2).sum(-1), (x**2).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("type", ["F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("tile", [1, 64 * 5, 1 << 17])
def test_linear_of_packed_rows_equals_the_product_with_expanded_ones(type, tile, monkeypatch):
    weight, x, bias = packed(normal(37, 64), type), normal(3, 64, seed=1), normal(37, seed=2)
    monkeypatch.setattr(cpu, "TILE_WEIGHTS", tile)
    expected = x @ dequantize(weight.raw, type).T + bias
    np.testing.assert_allclose(cpu.linear(x, weight, bias), expected, atol=FLOAT32_SUM)


def test_linear_of_float32_rows_is_the_plain_product():
    weight, x = normal(5, 7), normal(2, 7, seed=1)
    np.testing.assert_allclose(cpu.linear(x, f32(weight)), x @ weight.T, atol=1e-6)


@pytest.mark.parametrize("type", ["F16", "Q8_0"])
def test_get_rows_gives_the_rows_asked_for_in_their_order(type):
    weight = packed(normal(6, 32), type)
    rows = cpu.get_rows(weight, np.array([5, 0, 5]))
    np.testing.assert_array_equal(rows, dequantize(weight.raw, type)[[5, 0, 5]])


def test_get_rows_of_float32_is_a_copy():
    weight = f32(normal(6, 4))
    cpu.get_rows(weight, np.array([1]))[:] = 9
    assert not (weight.raw == 9).any()
