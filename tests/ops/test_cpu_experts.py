"""Mixtures of experts, step by step: probabilities, choice, shares, the sum."""

import numpy as np
import pytest

from workbench.ops import PackedTensor, cpu

FLOAT32_SUM = 2e-5  # float32 sums of a few numbers of size 1, in another order


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def f32(matrix):
    return PackedTensor(matrix, "F32", matrix.shape)


def test_the_best_two_are_taken_and_share_one_between_them():
    logits = np.log(np.array([[1, 4, 2, 1]], np.float32))
    probs = cpu.expert_probs(logits, "softmax")
    np.testing.assert_allclose(probs, [[0.125, 0.5, 0.25, 0.125]], rtol=1e-6)
    ids = cpu.choose_experts(probs, 2)
    np.testing.assert_array_equal(ids, [[1, 2]])
    shares = cpu.shares_of_experts(probs, ids)
    np.testing.assert_allclose(shares, [[0.5, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(cpu.normalized_shares(shares), [[2 / 3, 1 / 3]], rtol=1e-6)


def test_sigmoid_gating_looks_at_each_expert_alone():
    np.testing.assert_allclose(cpu.expert_probs(np.zeros((1, 3), np.float32), "sigmoid"), 0.5)


def test_softmax_weight_gating_leaves_the_scores_until_experts_are_chosen():
    logits = normal(2, 4)
    np.testing.assert_array_equal(cpu.expert_probs(logits, "softmax_weight"), logits)


def test_equal_experts_are_taken_in_their_order():
    np.testing.assert_array_equal(cpu.choose_experts(np.ones((1, 4), np.float32), 3), [[0, 1, 2]])


def test_a_bias_changes_the_choice_only():
    probs, bias = np.array([[0.4, 0.3, 0.2]], np.float32), np.array([0, 0, 1], np.float32)
    ids = cpu.choose_experts(probs, 1, bias)
    np.testing.assert_array_equal(ids, [[2]])
    np.testing.assert_allclose(cpu.shares_of_experts(probs, ids), [[0.2]])


def test_only_experts_of_the_best_groups_are_chosen():
    # Groups (0 1) (2 3) (4 5) count by their best two: 10, 9, 8. Expert 4 is best but in the last.
    probs = np.array([[5, 5, 4, 5, 8, 0]], np.float32)
    np.testing.assert_array_equal(cpu.choose_experts(probs, 2, None, 3, 2), [[0, 1]])
    np.testing.assert_array_equal(cpu.choose_experts(probs, 3, None, 3, 2), [[0, 1, 3]])


def test_a_sum_of_shares_near_zero_is_not_divided_by():
    shares = cpu.normalized_shares(np.full((1, 2), 1e-9, np.float32))
    np.testing.assert_allclose(shares, 1e-9 / 2**-14, rtol=1e-5)


@pytest.mark.parametrize("weigh_first", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_sum_equals_all_experts_run_one_by_one(weigh_first, has_bias):
    n_expert, n_ff, n_embd = 4, 6, 5
    shapes = ((n_ff, n_embd), (n_ff, n_embd), (n_embd, n_ff))
    gate, up, down = (normal(n_expert, *shape, seed=i) for i, shape in enumerate(shapes))
    biases = [normal(n_expert, shape[0], seed=9 + i) * has_bias for i, shape in enumerate(shapes)]
    x, probs = normal(7, n_embd, seed=5), cpu.expert_probs(normal(7, n_expert, seed=6), "softmax")
    ids = cpu.choose_experts(probs, 2)
    shares = cpu.shares_of_experts(probs, ids)
    expected = np.zeros((7, n_embd))
    for t in range(7):
        for expert, share in zip(ids[t], shares[t], strict=True):
            given = x[t] * share if weigh_first else x[t]
            hidden = cpu.swiglu(
                gate[expert] @ given + biases[0][expert], up[expert] @ given + biases[1][expert]
            )
            made = down[expert] @ hidden + biases[2][expert]
            expected[t] += made if weigh_first else made * share
    parts = tuple(
        (f32(weight), bias if has_bias else None)
        for weight, bias in zip((gate, up, down), biases, strict=True)
    )
    mixed = cpu.mix_experts(x, ids, shares, parts, cpu.swiglu, cpu.linear, weigh_first)
    np.testing.assert_allclose(mixed, expected, atol=FLOAT32_SUM)


def test_experts_without_a_gate_go_through_the_plain_activation():
    up, down, x = normal(2, 6, 5, seed=1), normal(2, 5, 6, seed=2), normal(3, 5)
    ids, shares = np.zeros((3, 1), int), np.ones((3, 1), np.float32)
    parts = ((None, None), (f32(up), None), (f32(down), None))
    mixed = cpu.mix_experts(x, ids, shares, parts, cpu.relu_squared, cpu.linear)
    expected = cpu.relu_squared(x @ up[0].T) @ down[0].T
    np.testing.assert_allclose(mixed, expected, atol=FLOAT32_SUM)
