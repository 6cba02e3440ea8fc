"""Policies by hand and by property; runs against caches that never had the positions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from tests.model.test_inside_architectures import model_of
from workbench import analysis
from workbench.analysis.kv_eviction import _see_all
from workbench.analysis.kv_held import HeldPositions
from workbench.analysis.kv_policies import EVICTION_POLICIES, Seen, checked_budget, eviction_policy
from workbench.errors import ParameterError, UnsupportedError
from workbench.ops import cpu

MOST = 0.85  # of tokens: tiny models' experts and float16 rounding turn an ulp into another answer
ON_F16 = (0.02, 2e-4)  # sums in another order, where what is cached is rounded to float16
POLICIES = [name for name in EVICTION_POLICIES if name != "full"]
TEXT = (
    "Once upon a time, there was a little girl named Lily. She had a red ball. One day, Lily went "
    "to the park with her mom. She saw a big dog. The dog took the red ball and ran away with it. "
)


@pytest.fixture(scope="module")
def model():
    with wb.load_model(BUILTIN_MODEL, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def ids(model):
    return model.tokenizer.encode(TEXT)


@pytest.fixture(scope="module")
def run(model, ids):
    recorder = wb.KVRecorder(model)
    recorder.forward(ids, model.new_cache(len(ids)))
    return recorder.run


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


@pytest.mark.parametrize("name", POLICIES)
def test_a_text_that_goes_on_does_not_change_what_was_decided_before(name, model, ids):
    whole = analysis.run_eviction(model, ids, name, 12)
    begun = analysis.run_eviction(model, ids[:40], name, 12)
    for long, short in zip(whole.gone_at, begun.gone_at, strict=True):
        np.testing.assert_array_equal(np.minimum(long[:, :40], 40), short)
    np.testing.assert_allclose(whole.effect.kl[:40], begun.effect.kl, *ON_F16)


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


@pytest.mark.parametrize(
    ("kind", "name"),
    [("stories", name) for name in POLICIES]
    + [(kind, "h2o") for kind in ("gpt-oss", "gemma3", "openelm", "deepseek2-lite")],
)
def test_a_run_is_what_a_model_says_that_never_scores_the_positions_gone(
    kind, name, model, ids, tmp_path
):
    if kind != "stories":
        model = model_of(kind, tmp_path)
        ids = np.random.default_rng(1).integers(0, model.config.n_vocab, 40)
    result = analysis.run_eviction(model, ids, name, 12)
    logits = without(model, np.array(ids), result.gone_at, len(ids))
    want = analysis.kl_by_position(analysis.full_logits(model, ids), logits)
    close = np.isclose(result.effect.kl, want, 2e-3, 1e-5)
    assert close.mean() >= (1 if kind == "stories" else MOST)
    assert result.effect.mean_kl > 0


@pytest.mark.parametrize("name", POLICIES)
def test_a_run_in_one_pass_is_what_a_model_says_token_by_token(name, model, ids):
    result = analysis.run_eviction(model, ids, name, 12)
    logits = without(model, np.array(ids), result.gone_at, 1)
    want = analysis.kl_by_position(analysis.full_logits(model, ids), logits)
    np.testing.assert_allclose(result.effect.kl, want, *ON_F16)


def without(model, ids, gone_at, n_piece):
    """Logits of a text in pieces, with scores of -inf where a position is gone."""
    cache, rows = model.new_cache(len(ids)), []
    for start in range(0, len(ids), n_piece):
        token, trace = np.arange(start, start + n_piece)[:, None], wb.ActivationTrace()
        for layer, gone in enumerate(gone_at):
            group = model.config.of_layer(layer).n_head // len(gone)
            hidden = np.repeat(gone[:, None, : start + n_piece] <= token, group, 0)  # (H, T, S)
            trace.edit(f"kq-{layer}", lambda kq, hidden=hidden: hide(kq, hidden))
        rows.append(model.forward(ids[start : start + n_piece], cache, trace))
    return np.concatenate(rows)


def hide(kq, hidden):
    kq[hidden[:, :, -kq.shape[2] :]] = -np.inf


@pytest.mark.parametrize("name", POLICIES)
def test_a_budget_for_the_whole_text_is_the_full_cache_to_the_bit(name, model, ids):
    result = analysis.run_eviction(model, ids, name, len(ids))
    assert result.effect.kl.max() == 0 and result.effect.top1 == 1
    assert result.effect.nbytes == model.new_cache(len(ids)).nbytes
    assert result.kept(3, len(ids) - 1).all()


def test_full_ignores_its_budget(model, ids):
    assert analysis.run_eviction(model, ids, "full", 3).effect.kl.max() == 0


def test_bytes_are_those_of_the_positions_held_and_ppl_that_of_the_text(model, ids):
    result = analysis.run_eviction(model, ids, "h2o", 16)
    cache = model.new_cache(16)
    assert result.effect.nbytes == cache.nbytes
    full = analysis.run_eviction(model, ids, "full", 16).effect
    logits = analysis.full_logits(model, ids).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    nll = -logs[np.arange(len(ids) - 1), ids[1:]]
    np.testing.assert_allclose(full.ppl, np.exp(nll.mean()), 1e-6)
    assert result.effect.ppl > full.ppl


def test_a_prompt_sees_everything_and_the_first_token_behind_it_the_budget(model, ids):
    result = analysis.run_eviction(model, ids, "snap_kv", 10, n_prompt=30)
    whole = analysis.run_eviction(model, ids, "snap_kv", 10)
    assert result.kept(2, 29).all()
    assert result.kept(2, 30).sum(1).tolist() == [10] * 4
    assert len(result.effect.kl) == len(ids) - 30 and len(whole.effect.kl) == len(ids)
    window = np.arange(25, 31)  # half of the budget, and the token itself
    assert result.kept(2, 30)[:, window].all()


def test_a_longer_text_than_one_piece_goes_on_where_the_piece_ended(model, ids, monkeypatch):
    want = analysis.run_eviction(model, ids, "h2o", 16)
    monkeypatch.setattr(model.network.ops, "TOKENS_AT_ONCE", 20)
    got = analysis.run_eviction(model, ids, "h2o", 16)
    np.testing.assert_allclose(got.effect.kl, want.effect.kl, 0.02, 1e-4)


def test_shares_too_small_for_float32_are_said_and_smallest_ones_scaled_up():
    held = HeldPositions(EVICTION_POLICIES["streaming_llm"], 5, 0, 8, 0)
    held.add_key_norms(np.ones((8, 1), np.float32))
    for n in range(6):
        held.see(np.full((1, n + 1), 1 / (n + 1), np.float32), has_sink=False)
    row = np.array([[0, 1e-42, 0, 0, 1, 0, 3e-42]], np.float32)  # 4 and 5 are gone
    assert held.see(row, has_sink=False) == 1
    np.testing.assert_allclose(row, [[0, 0.25, 0, 0, 0, 0, 0.75]], 1e-3)
    whole = np.array([[0, 0, 1, 0]], np.float32)  # what token 3 gives, all of it to position 2
    with pytest.raises(UnsupportedError, match="layer 5 at position 3 gives what is held less at"):
        see_token_3(whole, has_sink=False)
    np.testing.assert_array_equal(see_token_3(whole * 0, has_sink=True), np.zeros((1, 1, 4)))


def see_token_3(shares, has_sink):
    """What is left of a token's shares in a cache that holds it alone."""
    held = HeldPositions(EVICTION_POLICIES["key_norm"], 1, 0, 4, 0)
    held.add_key_norms(np.ones((4, 1), np.float32))
    for n in range(3):
        held.see(np.full((1, n + 1), 1 / (n + 1), np.float32), has_sink=False)
    return _see_all(held, 5, has_sink, cpu, shares[:, None].copy())


def test_random_runs_differ_by_seed_and_repeat(model, ids):
    a, b, c = (analysis.run_eviction(model, ids, "random", 16, seed=s).effect.kl for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_a_policy_of_ones_own_is_run_and_held_to_the_budget(model, ids):
    def last_ones(seen, budget, rng):
        return seen.held & (np.arange(seen.held.shape[1]) > seen.held.shape[1] - budget)

    result = analysis.run_eviction(model, ids, last_ones, 8)
    assert result.policy == "last_ones"
    assert np.flatnonzero(result.kept(0, 40)[0]).tolist() == list(range(33, 41))
    with pytest.raises(ParameterError, match=r"^policy: keeps what it may not; expected at most 7"):
        analysis.run_eviction(model, ids, lambda seen, budget, rng: seen.held, 8)
    with pytest.raises(
        ParameterError, match=r"^policy: returned no choice; expected \(4, 8\) bool"
    ):
        analysis.run_eviction(model, ids, lambda seen, budget, rng: [1, 2], 8)


@pytest.mark.parametrize("name", ["streaming_llm", "h2o", "random", "snap_kv"])
def test_a_replay_decides_in_the_first_layer_as_the_real_run_does(name, model, ids, run):
    replay = analysis.replay_eviction(run, name, 16)
    result = analysis.run_eviction(model, ids, name, 16)
    np.testing.assert_array_equal(replay.gone_at[0], result.gone_at[0])


def test_a_replayed_window_loses_what_maps_say_and_more_of_a_smaller_one(model, ids, run):
    trace = wb.ActivationTrace(["kq_soft_max-*"])
    model.forward(ids, model.new_cache(len(ids)), trace=trace)
    maps = [trace[f"kq_soft_max-{layer}"] for layer in range(8)]
    for budget in (8, 20, len(ids)):
        replay = analysis.replay_eviction(run, "streaming_llm", budget)
        gone = [~replay.kept(0, step)[0] for step in range(len(ids))]
        shares = [[x[:, i, : i + 1][:, gone[i]].sum(-1) for i in range(len(ids))] for x in maps]
        want = np.mean(shares)
        np.testing.assert_allclose(replay.mean_lost, want, 0, 1e-4)
    assert replay.lost.max() == 0


def test_a_run_without_heads_is_replayed_as_one_head(model, ids, run):
    recorder = wb.KVRecorder(model, per_head=False)
    recorder.forward(ids, model.new_cache(len(ids)))
    got = analysis.replay_eviction(recorder.run, "streaming_llm", 16)
    want = analysis.replay_eviction(run, "streaming_llm", 16)
    assert [gone.shape for gone in got.gone_at] == [(1, len(ids))] * 8
    np.testing.assert_allclose(got.mean_lost, want.mean_lost, 0, 1e-4)


@pytest.mark.parametrize("budget", [0, -3, 2.5, True, None, "8"])
def test_a_budget_that_is_none_is_refused(budget, model, ids, run):
    with pytest.raises(ParameterError, match=r"budget: no cache for h2o; expected at least 1 pos"):
        analysis.run_eviction(model, ids, "h2o", budget)
    with pytest.raises(ParameterError, match="budget: no cache for h2o"):
        analysis.replay_eviction(run, "h2o", budget)


def test_a_budget_below_the_sinks_is_refused():
    with pytest.raises(ParameterError, match=r"at least 5 positions \(4 sinks and .* got 4"):
        checked_budget("streaming_llm", 4)


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(ParameterError, match=r"expected one of streaming_llm, .* mean 'snap_kv'"):
        eviction_policy("snapkv")
    with pytest.raises(ParameterError, match=r"or a function .* got 7$"):
        eviction_policy(7)


def test_texts_prompts_bases_and_runs_that_do_not_fit_are_refused(model, ids, run):
    with pytest.raises(ParameterError, match=r"ids: no text to measure on; .* got 1 tokens"):
        analysis.run_eviction(model, ids[:1], "h2o", 8)
    with pytest.raises(ParameterError, match=r"n_prompt: leaves no token to measure"):
        analysis.run_eviction(model, ids, "h2o", 8, n_prompt=len(ids))
    with pytest.raises(ParameterError, match=r"base: not this text's logits; expected \(\d+, 4096"):
        analysis.run_eviction(model, ids, "h2o", 8, base=np.zeros((3, 4096), np.float32))
    recorder, cache = wb.KVRecorder(model), model.new_cache(len(ids))
    model.forward(ids[:5], cache)
    recorder.forward(ids[5:], cache)
    with pytest.raises(ParameterError, match="run: begins in the middle of a text"):
        analysis.replay_eviction(recorder.run, "h2o", 8)
