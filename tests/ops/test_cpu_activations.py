"""Activations: values worked out by hand, limits, and ggml's float16 table for GELU."""

import math

import numpy as np
import pytest

from workbench.ops import cpu

GATED = {"swiglu": cpu.silu, "geglu": cpu.gelu, "reglu": lambda x: np.maximum(x, 0)}
FAR = np.array([0, 100, -100, 3e38, -3e38], np.float32)


def column(*numbers):
    return np.array([numbers], np.float32)


def test_silu_at_zero_and_far_out():
    np.testing.assert_allclose(cpu.silu(FAR), [0, 100, 0, 3e38, 0], atol=1e-30)


def test_sigmoid_at_zero_and_far_out():
    np.testing.assert_allclose(cpu.sigmoid(FAR), [0.5, 1, 0, 1, 0], atol=1e-30)


def test_swiglu_multiplies_silu_of_the_gate_with_up():
    np.testing.assert_allclose(cpu.swiglu(column(1), column(2)), [[2 / (1 + math.exp(-1))]], 1e-6)


@pytest.mark.parametrize("name", GATED)
def test_a_gated_activation_is_the_plain_one_times_up(name):
    gate, up = (
        np.random.default_rng(seed).normal(0, 3, (5, 7)).astype(np.float32) for seed in (1, 2)
    )
    np.testing.assert_allclose(getattr(cpu, name)(gate, up), GATED[name](gate) * up, 1e-6)


def test_gpt_oss_clamps_both_sides_at_seven_and_moves_up_by_one():
    gate, up = column(9, -9, 1, 1), column(1, 1, 9, -9)
    kept_gate, kept_up = np.array([7, -9, 1, 1]), np.array([1, 1, 7, -7])
    expected = kept_gate / (1 + np.exp(-1.702 * kept_gate)) * (kept_up + 1)
    np.testing.assert_allclose(cpu.swiglu_oai(gate, up), [expected], 1e-5)


def test_relu_squared_is_zero_below_zero():
    np.testing.assert_array_equal(cpu.relu_squared(column(-3, 0, 3)), [[0, 0, 9]])


def test_gelu_is_a_table_over_float16():
    x = np.linspace(-9, 9, 1001, dtype=np.float32)
    halves = x.astype(np.float16).astype(np.float64)
    inner = math.sqrt(2 / math.pi) * halves * (1 + 0.044715 * halves**2)
    exact = 0.5 * halves * (1 + np.tanh(inner))
    rounded = np.spacing(abs(exact).astype(np.float16)).astype(np.float64)  # the last float16 bit
    cancelled = 1e-7 * abs(halves)  # 1 + tanh near -1, in float32
    assert (abs(cpu.gelu(x) - exact) <= rounded + cancelled).all()
    np.testing.assert_array_equal(cpu.gelu(x).astype(np.float16).astype(np.float32), cpu.gelu(x))


def test_gelu_beyond_ten_is_x_or_zero():
    np.testing.assert_array_equal(cpu.gelu(column(10, 70000, -10, -70000)), [[10, 70000, 0, 0]])


def test_a_soft_cap_changes_small_numbers_little_and_caps_large_ones():
    np.testing.assert_allclose(cpu.soft_cap(column(0.01, 1e9, -1e9), 30), [[0.01, 30, -30]], 1e-6)


def test_xielu_is_a_parabola_above_zero_and_an_exponential_below():
    alpha_n, alpha_p, beta, eps = 0.3, 0.8, 0.5, -1e-6
    curve, slope = math.log1p(math.exp(alpha_p)), beta + math.log1p(math.exp(alpha_n))
    above, below = curve * 4 + beta * 2, (math.expm1(-2) + 2) * slope - beta * 2
    out = cpu.xielu(column(2, -2, 0), alpha_n, alpha_p, beta, eps)
    np.testing.assert_allclose(out, [[above, below, 0]], 1e-5, 2e-6)
