"""Distances between logits, by hand."""

import numpy as np
import pytest

from workbench.analysis import divergence
from workbench.analysis.divergence import compare_logits, kl_by_position, log_softmax, nmse
from workbench.errors import ParameterError

P = np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).astype(np.float32)


def test_kl_is_zero_for_the_same_distribution_and_right_by_hand():
    np.testing.assert_allclose(kl_by_position(P, P + 3), 0, atol=1e-12)
    expected = (np.exp(P) * (P + np.log(3))).sum(axis=1)
    np.testing.assert_allclose(kl_by_position(P, np.zeros((2, 3))), expected, 1e-6)


def test_kl_does_not_depend_on_how_rows_are_taken_together(monkeypatch):
    x, y = np.random.default_rng(0).standard_normal((2, 7, 50)).astype(np.float32)
    whole = kl_by_position(x, y)
    monkeypatch.setattr(divergence, "NUMBERS_PER_TILE", 100)
    np.testing.assert_allclose(kl_by_position(x, y), whole)


def test_very_unlikely_tokens_do_no_harm():
    far = np.array([[0, -200.0]]), np.array([[-200.0, 0]])
    assert kl_by_position(*far)[0] == pytest.approx(200)
    np.testing.assert_allclose(np.exp(log_softmax(np.array([1e4, 1e4]))), 0.5)


def test_nmse_is_a_share_of_the_base():
    assert nmse(np.array([3.0, 4.0]), np.array([3.0, 5.0])) == pytest.approx(1 / 25)
    assert np.isnan(nmse(np.zeros(2), np.ones(2)))


def test_logits_are_compared_in_all_ways():
    other = P + np.float32([[0, 0, 0], [3, 0, 0]])
    result = compare_logits(P, other)
    assert (result.n_tokens, result.top1) == (2, 0.5)
    assert result.max_abs == pytest.approx(3)
    assert result.nmse == pytest.approx(9 / (P.astype(np.float64) ** 2).sum())
    kl = kl_by_position(P, other)
    assert (result.kl_mean, result.kl_max) == (kl.mean(), kl.max())
    assert list(result.to_frame()["top1"]) == [0.5]


@pytest.mark.parametrize(
    ("base", "other", "message"),
    [
        (P, P[:1], r"expected the shape of the base \(2, 3\), got \(1, 3\)"),
        (P[0], P[0], r"expected \(T, n_vocab\) numbers, got an array of shape \(3,\)"),
        (P, [["a"]], "not logits of tokens"),
        (np.empty((0, 3)), np.empty((0, 3)), "not logits of tokens"),
    ],
)
def test_what_cannot_be_compared_is_refused(base, other, message):
    with pytest.raises(ParameterError, match=message):
        compare_logits(base, other)
