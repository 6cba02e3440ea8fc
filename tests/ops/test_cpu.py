"""The NumPy operations: answers worked out by hand, properties, odd shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def plain_attention(q, k, v, scale):
    """Attention in float64, one query and head at a time, with K and V repeated."""
    n_tokens, n_head, _ = q.shape
    n_seen, n_head_kv, _ = k.shape
    k, v = (np.repeat(x.astype(np.float64), n_head // n_head_kv, axis=1) for x in (k, v))
    out = np.zeros((n_tokens, n_head, v.shape[2]))
    for t in range(n_tokens):
        last = n_seen - n_tokens + t + 1
        for h in range(n_head):
            scores = k[:last, h] @ q[t, h].astype(np.float64) * scale
            weights = np.exp(scores - scores.max())
            out[t, h] = (weights / weights.sum()) @ v[:last, h]
    return out.reshape(n_tokens, -1)


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


def test_silu_at_zero_and_far_out():
    out = cpu.silu(np.array([0, 100, -100, -3e38], np.float32))
    np.testing.assert_allclose(out, [0, 100, 0, 0], atol=1e-30)


def test_swiglu_multiplies_silu_of_the_gate_with_up():
    out = cpu.swiglu(np.array([[1.0]], np.float32), np.array([[2.0]], np.float32))
    np.testing.assert_allclose(out, [[2 / (1 + np.exp(-1))]], rtol=1e-6)


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


def test_attention_of_two_positions_by_hand():
    # The second query scores ln 3 with the first key and 0 with itself: shares 3/4 and 1/4.
    q = np.array([[[5.0]], [[1.0]]], np.float32)
    k = np.array([[[np.log(3)]], [[0.0]]], np.float32)
    v = np.array([[[4.0]], [[8.0]]], np.float32)
    np.testing.assert_allclose(cpu.attention(q, k, v, 1.0), [[4], [5]], rtol=1e-6)


def test_attention_with_shared_kv_heads_equals_repeated_ones():
    q, k, v = normal(5, 6, 8), normal(9, 2, 8, seed=1), normal(9, 2, 8, seed=2)
    repeated = cpu.attention(q, np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1), 0.3)
    np.testing.assert_allclose(cpu.attention(q, k, v, 0.3), repeated, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_attention_in_any_tiling_equals_the_plain_sum(data):
    n_tokens, n_past = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 9))
    n_head_kv, group = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    head_dim, head_dim_v = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    q = normal(n_tokens, n_head_kv * group, head_dim)
    k = normal(n_past + n_tokens, n_head_kv, head_dim, seed=1)
    v = normal(n_past + n_tokens, n_head_kv, head_dim_v, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "SCORES_PER_TILE", data.draw(st.integers(1, 300)))
        patch.setattr(cpu, "HISTORY_PER_TILE", data.draw(st.integers(1, 300)))
        out = cpu.attention(q, k, v, 0.5)
    np.testing.assert_allclose(out, plain_attention(q, k, v, 0.5), atol=FLOAT32_SUM)


def test_attention_over_a_float16_history_equals_its_widened_numbers():
    q, k, v = normal(2, 4, 8), normal(7, 2, 8, seed=1), normal(7, 2, 8, seed=2)
    k, v = k.astype(np.float16), v.astype(np.float16)
    wide = cpu.attention(q, k.astype(np.float32), v.astype(np.float32), 0.3)
    np.testing.assert_array_equal(cpu.attention(q, k, v, 0.3), wide)


def test_attention_shows_scores_and_probabilities_without_changing_the_result(monkeypatch):
    q, k, v = normal(6, 4, 8), normal(9, 2, 8, seed=1), normal(9, 2, 8, seed=2)
    kq, probs = np.zeros((4, 6, 9), np.float32), np.zeros((4, 6, 9), np.float32)
    plain = cpu.attention(q, k, v, 0.3)
    monkeypatch.setattr(cpu, "SCORES_PER_TILE", 100)
    shown = cpu.attention(q, k, v, 0.3, kq, probs)
    np.testing.assert_allclose(shown, plain, atol=1e-6)
    every_score = np.einsum("thd,shd->hts", q, np.repeat(k, 2, axis=1))
    np.testing.assert_allclose(kq, every_score, atol=FLOAT32_SUM)  # the future too, as llama.cpp
    np.testing.assert_allclose(probs.sum(-1), np.ones((4, 6)), atol=1e-6)
    future = np.arange(9) > 3 + np.arange(6)[:, None]
    np.testing.assert_array_equal(probs[:, future], np.zeros((4, future.sum())))
    again = np.einsum("hts,shd->thd", probs, np.repeat(v, 2, axis=1)).reshape(6, -1)
    np.testing.assert_allclose(again, plain, atol=FLOAT32_SUM)


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


def test_route_experts_takes_the_best_and_shares_one_among_them():
    logits = np.log(np.array([[1, 4, 2, 1]], np.float32))
    probs, ids, shares, shares_norm = cpu.route_experts(logits, 2)
    np.testing.assert_allclose(probs, [[0.125, 0.5, 0.25, 0.125]], rtol=1e-6)
    np.testing.assert_array_equal(ids, [[1, 2]])
    np.testing.assert_allclose(shares, [[0.5, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(shares_norm, [[2 / 3, 1 / 3]], rtol=1e-6)


def test_mix_experts_equals_all_experts_run_one_by_one():
    n_expert, n_ff, n_embd = 4, 6, 5
    gate, up = normal(n_expert, n_ff, n_embd, seed=1), normal(n_expert, n_ff, n_embd, seed=2)
    down, x = normal(n_expert, n_embd, n_ff, seed=3), normal(7, n_embd)
    _, ids, _, shares = cpu.route_experts(normal(7, n_expert, seed=4), 2)
    expected = np.zeros((7, n_embd))
    for t in range(7):
        for expert, share in zip(ids[t], shares[t], strict=True):
            hidden = cpu.swiglu(gate[expert] @ x[t], up[expert] @ x[t])
            expected[t] += share * (down[expert] @ hidden)
    mixed = cpu.mix_experts(x, ids, shares, (f32(gate), f32(up), f32(down)), cpu.swiglu)
    np.testing.assert_allclose(mixed, expected, atol=FLOAT32_SUM)
