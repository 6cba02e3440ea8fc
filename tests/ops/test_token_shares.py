"""What a token's heads saw, made of their scores: the kernel by fibers, its twin, its memory."""

import numpy as np
import pytest

from tests.ops.fibers import needs_compiler
from tests.ops.shares_cases import CASES, assert_close, buffers_of, kernel_shares
from workbench.ops.token_shares import SharesLayout, token_shares


@needs_compiler
@pytest.mark.parametrize("type", [np.float16, np.float32])
@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_leaves_what_numpy_makes_of_the_scores(name, per_head, type):
    layout, n_rows, n_seen = CASES[name]
    buffers = buffers_of(layout, n_rows, n_seen)
    found = kernel_shares(layout, buffers, n_seen, per_head, type)
    assert_close(found, token_shares(layout, buffers, n_seen, per_head, type))


@needs_compiler
def test_the_order_of_threads_changes_no_bit():
    layout, n_rows, n_seen = CASES["windows"]
    buffers = buffers_of(layout, n_rows, n_seen)
    first, second = (kernel_shares(layout, buffers, n_seen, False, order=i) for i in (0, 5))
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, getattr(second, name))


def test_shares_and_sums_of_scores_made_by_hand():
    """Powers 4, 1, 1, 2 of a head and 2, 2, 2, 2 of another, which both see the last three."""
    layout = SharesLayout((3,), 2, 1, n_first=2, n_last=1)
    buffers = {
        "scores": np.float32([[2, 0, 0, 1, 99], [1, 1, 1, 1, 99]]),
        "ends": np.float32([[1, 2], [1, 3]]),  # 2^(0-1) + 2^(0-1) + 2^(1-1)
        "norms": np.float32([5, 6]),
    }
    found = token_shares(layout, buffers, 4)
    np.testing.assert_allclose(found.shares[0], [[0, 1 / 4, 1 / 4, 1 / 2], [0, *[1 / 3] * 3]])
    np.testing.assert_allclose(found.entropy[0], np.log([8**0.5, 3]), 1e-6)
    np.testing.assert_allclose([found.first[0], found.last[0]], [[1 / 4, 1 / 3], [1 / 2, 1 / 3]])
    assert (found.k_norm.item(), found.v_norm.item()) == (5, 6)
    mean = token_shares(layout, buffers, 4, per_head=False)
    np.testing.assert_allclose(mean.shares, found.shares.mean(1, keepdims=True), 1e-6)
    np.testing.assert_allclose(mean.first, [[7 / 24]], 1e-6)


@needs_compiler
def test_shares_of_a_sink_add_up_to_less_than_one():
    layout = SharesLayout((0,), 3, 1, 4, 16)
    buffers = buffers_of(layout, 40, 33)
    buffers["ends"][..., 1] *= 2  # as much again fell on what is no position
    found = kernel_shares(layout, buffers, 33, True, np.float32)
    np.testing.assert_allclose(found.shares.sum(axis=2), 0.5, 1e-5)
    assert_close(found, token_shares(layout, buffers, 33))
