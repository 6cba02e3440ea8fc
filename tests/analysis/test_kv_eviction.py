"""Caches that forget, against caches that never had the positions."""

import numpy as np
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from tests.model.test_inside_architectures import model_of
from workbench import analysis
from workbench.analysis.kv_eviction import _see_all
from workbench.analysis.kv_held import HeldPositions
from workbench.analysis.kv_policies import EVICTION_POLICIES
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


@pytest.mark.parametrize("name", POLICIES)
def test_a_text_that_goes_on_does_not_change_what_was_decided_before(name, model, ids):
    whole = analysis.run_eviction(model, ids, name, 12)
    begun = analysis.run_eviction(model, ids[:40], name, 12)
    for long, short in zip(whole.gone_at, begun.gone_at, strict=True):
        np.testing.assert_array_equal(np.minimum(long[:, :40], 40), short)
    np.testing.assert_allclose(whole.effect.kl[:40], begun.effect.kl, *ON_F16)


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


def test_a_policy_of_ones_own_that_fails_is_named_with_the_place_and_the_reason(model, ids, run):
    def mistaken(seen, budget, rng):
        return seen.heldd

    message = r"^policy: mistaken failed at position 8; expected \(4, 8\) bool, got AttributeError"
    with pytest.raises(ParameterError, match=message):
        analysis.run_eviction(model, ids, mistaken, 8)
    with pytest.raises(ParameterError, match=message):
        analysis.replay_eviction(run, mistaken, 8)


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


@pytest.mark.parametrize("seed", [-1, 1.5, "3", None, True])
def test_a_seed_that_is_none_is_refused(seed, model, ids, run):
    with pytest.raises(ParameterError, match="seed: none; expected an integer from 0 up"):
        analysis.run_eviction(model, ids, "random", 8, seed=seed)
    with pytest.raises(ParameterError, match="seed: none; expected an integer from 0 up"):
        analysis.replay_eviction(run, "random", 8, seed=seed)


@pytest.mark.parametrize("ids", [[1, [2]], [True, False], ["Once", "upon"], [2**63, 1], None])
def test_texts_that_are_no_token_ids_are_refused(ids, model):
    with pytest.raises(ParameterError, match="ids: not token ids; expected a one-dimensional seq"):
        analysis.full_logits(model, ids)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda base: base * np.nan, "float32 with NaN or inf"),
        (lambda base: base.astype(int), "int64"),
        (lambda base: base.astype(object), "object"),
    ],
)
def test_logits_that_are_no_finite_floats_are_refused(change, got, model, ids):
    base = change(np.ones((len(ids), 4096), np.float32))
    with pytest.raises(ParameterError, match=f"base: no logits; expected finite floats, got {got}"):
        analysis.run_eviction(model, ids, "h2o", 8, base=base)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((8, 0), "layer: not in this result; expected from 0 to 7, got 8"),
        ((-1, 0), "layer: not in this result"),
        ((1.0, 0), "layer: not in this result"),
        ((0, 10**6), "position: not in this result; expected from 0 to "),
        ((0, True), "position: not in this result"),
    ],
)
def test_places_that_a_replay_has_not_are_refused(place, message, run):
    with pytest.raises(ParameterError, match=message):
        analysis.replay_eviction(run, "h2o", 8).kept(*place)


def test_texts_prompts_bases_and_runs_that_do_not_fit_are_refused(model, ids, run):
    with pytest.raises(ParameterError, match=r"ids: no text to measure on; .* got 1 tokens"):
        analysis.run_eviction(model, ids[:1], "h2o", 8)
    with pytest.raises(ParameterError, match=r"n_prompt: leaves no token to measure"):
        analysis.run_eviction(model, ids, "h2o", 8, n_prompt=len(ids))
    with pytest.raises(ParameterError, match=r"base: not this text's logits; expected \(\d+, 4096"):
        analysis.run_eviction(model, ids, "h2o", 8, base=np.zeros((3, 4096), np.float32))
    with pytest.raises(ParameterError, match="run: not a KVRun; expected one from KVRecorder"):
        analysis.replay_eviction(None, "h2o", 8)
    recorder, cache = wb.KVRecorder(model), model.new_cache(len(ids))
    model.forward(ids[:5], cache)
    recorder.forward(ids[5:], cache)
    with pytest.raises(ParameterError, match="run: begins in the middle of a text"):
        analysis.replay_eviction(recorder.run, "h2o", 8)
