"""The KV cache panel, driven as the next cell drives it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from workbench import KVRun, analysis
from workbench.errors import ParameterError
from workbench.panels import KVCachePanel

N = 12  # tokens
N_HEAD = np.array([2, 4, 2])


def recorded(n=N, first=0, per_head=True):
    """A run of three layers, whose heads look anywhere; two heads share a KV head."""
    rng, n_layer, most = np.random.default_rng(7), len(N_HEAD), N_HEAD.max()
    rows = N_HEAD if per_head else np.ones_like(N_HEAD)
    looks = [rng.random((h, first + step + 1)) for step in range(n) for h in rows]
    masses = [(x / x.sum(-1, keepdims=True)).astype(np.float16).ravel() for x in looks]
    by_head = np.ones((n, n_layer, most), np.float32)
    shares = by_head if per_head else by_head[:, :, :1]
    norms = rng.random((n, n_layer, most // 2), np.float32)
    pieces, kept = tuple(f" t{i}" for i in range(n)), np.zeros((n, n_layer), np.int64)
    ids, first_arrays = np.arange(n), (np.concatenate(masses), by_head, shares, shares)
    about = ("model", first, per_head, pieces, ids, N_HEAD, N_HEAD // 2)
    return KVRun(*about, *first_arrays, norms, norms, kept)


@pytest.fixture(scope="module")
def run():
    return recorded()


@pytest.fixture
def panel(run):
    return KVCachePanel(run, layer=1, head=1)


def looks(run, layer, head, step):
    return run.mass(step, layer)[head].astype(np.float32)


def test_it_begins_at_the_last_step(panel, run):
    assert panel.step.value == N - 1
    np.testing.assert_array_equal(panel.shares, looks(run, 1, 1, N - 1))
    assert bytes(panel.picture.value).startswith(b"\x89PNG") and panel.error is None


def test_each_slider_changes_shares_picture_and_summary(panel, run):
    seen = [(panel.picture.value, panel.summary())]
    for control, value in ((panel.layer, 2), (panel.head, 0), (panel.step, 5)):
        control.value = value
        at = panel.layer.value, panel.head.value, panel.step.value
        np.testing.assert_array_equal(panel.shares, looks(run, *at))
        assert panel.picture.value not in [picture for picture, _ in seen]
        assert panel.summary() not in [summary for _, summary in seen]
        seen.append((panel.picture.value, panel.summary()))


def test_a_layer_with_fewer_heads_shows_its_last(panel, run):
    panel.head.value = 3
    np.testing.assert_array_equal(panel.shares, looks(run, 1, 3, N - 1))
    panel.layer.value = 2
    assert (panel.head.value, panel.head.max, panel.error) == (1, 1, None)
    np.testing.assert_array_equal(panel.shares, looks(run, 2, 1, N - 1))
    panel.layer.value = 1
    assert panel.head.max == 3


def test_the_text_ends_with_the_token_that_looks(panel):
    panel.step.value = 4
    texts = re.findall(r"<span [^>]*>([^<]*)</span>", panel.story.value)
    assert texts == [" t0", " t1", " t2", " t3", " t4"]


def test_the_budget_crosses_out_the_tokens_that_are_gone(panel, run):
    panel.budget.value = 6
    gone = np.arange(4, N - 2)
    np.testing.assert_array_equal(np.flatnonzero(~panel.kept), gone)
    assert panel.story.value.count("line-through") == len(gone)
    lost = looks(run, 1, 1, N - 1)[gone].sum()
    assert f"attention lost: {lost:.1%} of this head's at this step" in panel.loss.value
    assert panel.lost == analysis.replay_eviction(run, "streaming_llm", 6).mean_lost > 0
    panel.budget.value = N
    assert panel.lost == 0 and "line-through" not in panel.story.value


@pytest.mark.parametrize("policy", ["h2o", "snap_kv", "tova", "key_norm", "random"])
def test_a_policy_says_which_stay_for_each_kv_head(policy, panel, run):
    panel.budget.value, panel.policy.value = 6, policy
    replay = analysis.replay_eviction(run, policy, 6)
    for head in range(4):
        panel.head.value = head
        np.testing.assert_array_equal(panel.kept, replay.kept(1, N - 1)[head // 2])
    assert panel.lost == replay.mean_lost
    assert panel.loss.value.count(f"{policy}, budget 6: 6 of 12 positions kept") == 1


def test_a_policy_of_ones_own_is_one_of_the_choices(run):
    def newest(seen, budget, rng):
        n = seen.held.shape[1]
        return seen.held & (np.arange(n) > n - budget)

    panel = KVCachePanel(run, budget=5, policy=newest)
    assert panel.policy.options[-1] == panel.policy.value == "newest"
    assert np.flatnonzero(panel.kept).tolist() == [7, 8, 9, 10, 11]


def test_a_run_without_heads_shows_their_mean():
    run = recorded(per_head=False)
    panel = KVCachePanel(run, layer=1, budget=6, policy="tova")
    np.testing.assert_array_equal(panel.shares, looks(run, 1, 0, N - 1))
    assert (panel.head.max, panel.kept.sum(), panel.error) == (0, 6, None)


def test_tokens_that_cannot_be_seen_have_signs():
    run = replace(recorded(3), pieces=("", "\n", " a"), token_ids=np.array([1, 13, 7]))
    assert re.findall(r"<span [^>]*>([^<]*)</span>", KVCachePanel(run).story.value) == [
        "&lt;1&gt;", "↵", " a"
    ]  # fmt: skip


def test_the_first_step_sees_itself_alone(panel):
    panel.step.value = 0
    assert panel.summary().endswith("0.0% of all heads' at all steps") and panel.error is None
    assert "looks at ␣t0 (0) 1.00\n" in panel.summary()


def test_summary_and_repr_are_stable_text(panel, run):
    shares = looks(run, 1, 1, N - 1)
    best = int(shares.argmax())
    first, second, third = panel.summary().splitlines()
    assert first == "layer 1, head 1, step 11: ␣t11"
    assert second.startswith(f"looks at ␣t{best} ({best}) {shares[best]:.2f}, ")
    assert third == (
        "streaming_llm, budget 12: 12 of 12 positions kept; attention lost: 0.0% of this head's "
        "at this step, 0.0% of all heads' at all steps"
    )
    choices = "layer=1, head=1, step=11, budget=12, policy='streaming_llm'"
    assert repr(panel) == f"KVCachePanel({choices})"
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)


@pytest.mark.parametrize(
    "choice, message",
    [
        ({"layer": 3}, "layer: not in this run; expected from 0 to 2, got 3"),
        ({"head": -1}, "head: not in this run; expected from 0 to 1, got -1"),
        ({"step": N}, "step: not in this run; expected from 0 to 11, got 12"),
        ({"budget": 4}, "budget: not in this run; expected from 5 to 12, got 4"),
        ({"budget": N + 1}, "budget: not in this run; expected from 5 to 12, got 13"),
        ({"policy": "snapkv"}, "policy: no such way to evict; .* did you mean 'snap_kv'"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(run, choice, message):
    with pytest.raises(ParameterError, match=message):
        KVCachePanel(run, **choice)


def test_what_is_no_run_is_refused():
    with pytest.raises(ParameterError, match="run: not a KVRun; expected one from KVRec"):
        KVCachePanel({})


def test_a_run_of_the_end_of_a_text_is_told_in_the_panel():
    panel = KVCachePanel(recorded(first=2))
    for step in (5, 6):
        panel.step.value = step
        assert panel.error.startswith("run: begins in the middle of a text")
        assert panel.shares is panel.lost is None


def test_a_text_shorter_than_the_sinks_is_shown():
    panel = KVCachePanel(recorded(2))
    assert (panel.error, panel.lost, panel.budget.value) == (None, 0, 5)


def test_an_error_in_a_callback_is_shown_escaped_and_goes_away(panel, monkeypatch):
    def fail(*args):
        raise RuntimeError("no <b>picture</b>")

    with monkeypatch.context() as patch:
        patch.setattr("workbench.panels.kv_cache.step_png", fail)
        panel.step.value = 3
    assert "&lt;b&gt;picture" in panel.message.value
    assert panel.summary().endswith("error: no <b>picture</b>")
    panel.step.value = 4
    assert (panel.error, panel.message.value) == (None, "")
