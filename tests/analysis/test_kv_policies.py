"""Policies by hand and by property, without a model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analysis.kv_held import HeldPositions
from workbench.analysis.kv_policies import EVICTION_POLICIES, Seen, checked_budget, eviction_policy
from workbench.errors import ParameterError

POLICIES = [name for name in EVICTION_POLICIES if name != "full"]


def kept(name, held=None, total=(0,) * 8, last=((0,) * 8,), key_norm=(0,) * 8, budget=5):
    """Which of 8 positions a policy keeps, in one KV head."""
    arrays = (np.array(x, np.float32)[..., None, :] for x in (total, last, key_norm))
    total, last, key_norm = arrays
    held = np.ones((1, 8), bool) if held is None else np.isin(np.arange(8), held)[None]
    seen = Seen(held, total, last, key_norm)
    choice = EVICTION_POLICIES[name](seen, budget, np.random.default_rng(0))
    return np.flatnonzero(choice[0]).tolist()


def test_streaming_llm_keeps_the_sinks_and_the_last_ones():
    assert kept("streaming_llm", budget=7) == [0, 1, 2, 3, 6, 7]  # and the token that comes
    assert kept("streaming_llm", budget=5) == [0, 1, 2, 3]


def test_h2o_keeps_what_got_most_for_half_of_the_budget_and_the_last_ones():
    total = (1, 9, 2, 8, 3, 0, 99, 0)
    assert kept("h2o", total=total, budget=6) == [1, 3, 4, 6, 7]
    assert kept("h2o", total=total, held=[0, 2, 4, 5, 6, 7], budget=6) == [0, 2, 4, 6, 7]
    assert kept("h2o", total=total, budget=1) == []


def test_tova_keeps_what_the_last_token_looks_at_whatever_came_before():
    last = [(9, 9, 9, 9, 0, 0, 0, 0), (0, 5, 0, 7, 0, 6, 0, 8)]
    assert kept("tova", last=last) == [1, 3, 5, 7]
    assert kept("tova", last=last, held=[0, 1, 3, 5, 7], budget=4) == [3, 5, 7]


def test_tova_decides_once_for_all_heads_of_a_layer():
    last = np.array([[[1, 0, 3, 0], [0, 0, 3, 9]]], np.float32)  # two KV heads
    seen = Seen(np.ones((2, 4), bool), last[0], last, last[0])
    choice = EVICTION_POLICIES["tova"](seen, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(choice, [[False, False, True, True]] * 2)


def test_snap_kv_keeps_its_window_and_the_neighbourhood_that_it_votes_for():
    last = [(0,) * 8, (0, 0, 1, 0, 0, 0, 0, 50), (0, 0, 1, 0, 0, 0, 0, 50)]
    assert kept("snap_kv", last=last, budget=4) == [0, 6, 7]  # votes for 0 … 4 alike: the first
    assert kept("snap_kv", last=last, held=[2, 5, 6, 7], budget=4) == [2, 6, 7]
    last = [(0,) * 8, (0, 0, 0, 0, 0, 0, 0, 9), (0, 0, 0, 4, 0, 0, 0, 0)]
    assert kept("snap_kv", last=last, budget=6) == [1, 2, 5, 6, 7]  # 1 … 4 got the same


def test_key_norm_keeps_the_shortest_keys():
    assert kept("key_norm", key_norm=(8, 1, 7, 2, 6, 3, 5, 4)) == [1, 3, 5, 7]


def test_random_keeps_other_positions_for_other_seeds_and_the_same_for_the_same():
    seen = Seen(np.ones((2, 200), bool), None, None, None)
    pick = EVICTION_POLICIES["random"]
    a, b, c = (pick(seen, 101, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any() and (a[0] != a[1]).any()
    assert a.sum(1).tolist() == [100, 100]


def looks(seed, n, n_head=4, n_kv=2):
    """Random shares of n tokens (n, H, n), and norms of keys (n, K)."""
    rng = np.random.default_rng(seed)
    scores = np.exp(2 * rng.standard_normal((n, n_head, n)))
    scores *= np.tri(n)[:, None]
    shares = (scores / scores.sum(2, keepdims=True)).astype(np.float32)
    return shares, rng.random((n, n_kv)).astype(np.float32)


def through(name, budget, shares, norms, n=None, n_prompt=0):
    """The positions that each token saw, (K, n, n), and what all tokens gave them (n, H, n)."""
    n = len(shares) if n is None else n
    held = HeldPositions(EVICTION_POLICIES[name], budget, n_prompt, n, 3)
    held.add_key_norms(norms[:n])
    given = np.zeros((n, shares.shape[1], n), np.float32)
    for token in range(n):
        row = shares[token, :, : token + 1].copy()
        held.see(row, has_sink=False)
        given[token, :, : token + 1] = row
    token = np.arange(n)[:, None]
    saw = (held.gone_at[:, None] > token) & (np.arange(n) <= token)
    return saw, given


@pytest.mark.parametrize("name", POLICIES)
@given(seed=st.integers(0, 10**6), budget=st.integers(1, 50), n_prompt=st.integers(0, 20))
@settings(max_examples=8, deadline=None)
def test_no_token_sees_more_than_the_budget_nor_what_is_gone(name, seed, budget, n_prompt):
    if name == "streaming_llm":
        budget += 4
    shares, norms = looks(seed, 48)
    saw, given = through(name, budget, shares, norms, n_prompt=n_prompt)
    n_seen = saw.sum(2)
    positions = np.arange(1, 49)
    np.testing.assert_array_equal(n_seen[:, :n_prompt], [positions[:n_prompt]] * 2)
    np.testing.assert_array_equal(
        n_seen[:, n_prompt:], [np.minimum(positions, budget)[n_prompt:]] * 2
    )
    assert saw[:, np.arange(48), np.arange(48)].all()  # itself
    came_back = ~saw[:, :-1] & saw[:, 1:] & (np.arange(48) <= np.arange(47)[:, None])
    assert not came_back.any()
    np.testing.assert_allclose(given.sum(2), 1, 1e-5)
    np.testing.assert_array_equal(given > 0, np.repeat(saw, 2, 0).transpose(1, 0, 2))
    if name == "streaming_llm":
        assert saw[:, 4:, :4].all()


@pytest.mark.parametrize("name", POLICIES)
def test_decisions_do_not_depend_on_what_comes_later(name):
    shares, norms = looks(5, 48)
    whole, _ = through(name, 9, shares, norms)
    begun, _ = through(name, 9, shares, norms, n=30)
    np.testing.assert_array_equal(whole[:, :30, :30], begun)


def test_a_budget_below_the_sinks_is_refused():
    with pytest.raises(ParameterError, match=r"at least 5 positions \(4 sinks and .* got 4"):
        checked_budget("streaming_llm", 4)


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(ParameterError, match=r"expected one of streaming_llm, .* mean 'snap_kv'"):
        eviction_policy("snapkv")
    with pytest.raises(ParameterError, match=r"or a function .* got 7$"):
        eviction_policy(7)
