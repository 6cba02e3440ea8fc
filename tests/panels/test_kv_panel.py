"""The KV cache panel, driven as the next cell drives it."""

import re

import numpy as np
import pytest

from workbench import analysis
from workbench.errors import ParameterError
from workbench.panels import KVCachePanel

N = 12  # tokens
PIECES = [f"␣t{i}" for i in range(N)]


def attention(n_layer=3, n_head=2, n_rows=N):
    rng = np.random.default_rng(7)
    mass = rng.random((n_layer, n_head, n_rows, N)) * np.tri(n_rows, N, N - n_rows)
    mass /= mass.sum(-1, keepdims=True)
    return {f"kq_soft_max-{i}": layer.astype(np.float32) for i, layer in enumerate(mass)}


@pytest.fixture
def maps():
    return analysis.attention_maps(attention(), PIECES)


@pytest.fixture
def panel(maps):
    return KVCachePanel(maps, layer=1, head=1)


def test_it_begins_at_the_last_step(panel, maps):
    assert panel.step.value == N - 1
    np.testing.assert_array_equal(panel.shares, maps.maps[1][1, N - 1])
    assert bytes(panel.picture.value).startswith(b"\x89PNG") and panel.error is None


def test_each_slider_changes_shares_picture_and_summary(panel, maps):
    seen = [(panel.picture.value, panel.summary())]
    for control, value in ((panel.layer, 2), (panel.head, 0), (panel.step, 5)):
        control.value = value
        layer, head, step = panel.layer.value, panel.head.value, panel.step.value
        np.testing.assert_array_equal(panel.shares, maps.maps[layer][head, step, : step + 1])
        assert panel.picture.value not in [picture for picture, _ in seen]
        assert panel.summary() not in [summary for _, summary in seen]
        seen.append((panel.picture.value, panel.summary()))


def test_the_text_ends_with_the_token_that_looks(panel):
    panel.step.value = 4
    texts = re.findall(r"<span [^>]*>([^<]*)</span>", panel.story.value)
    assert texts == [" t0", " t1", " t2", " t3", " t4"]


def test_the_budget_crosses_out_the_tokens_that_are_gone(panel, maps):
    panel.budget.value = 6
    gone = np.arange(4, N - 2)
    np.testing.assert_array_equal(np.flatnonzero(~panel.kept), gone)
    assert panel.story.value.count("line-through") == len(gone)
    lost = maps.maps[1][1, N - 1, gone].sum()
    assert f"attention lost: {lost:.1%} of this head's at this step" in panel.loss.value
    assert panel.lost == analysis.attention_lost(maps, 6) > 0
    panel.budget.value = N
    assert panel.lost == 0 and "line-through" not in panel.story.value


def test_a_layer_without_attention_is_told_in_the_panel():
    maps = {name: x for name, x in attention().items() if name != "kq_soft_max-1"}
    panel = KVCachePanel(analysis.attention_maps(maps, PIECES))
    panel.layer.value = 1
    assert panel.error == (
        "layer: no attention in layer 1; expected one of [0, 2], got 1; choose another"
    )
    panel.layer.value = 2
    assert panel.error is None


def test_the_first_step_sees_itself_alone(panel):
    panel.step.value = 0
    assert panel.summary().endswith("0.0% of all heads' at all steps") and panel.error is None
    assert "looks at ␣t0 (0) 1.00\n" in panel.summary()


def test_summary_and_repr_are_stable_text(panel, maps):
    shares = maps.maps[1][1, N - 1]
    best = int(shares.argmax())
    first, second, third = panel.summary().splitlines()
    assert first == "layer 1, head 1, step 11: ␣t11"
    assert second.startswith(f"looks at ␣t{best} ({best}) {shares[best]:.2f}, ")
    assert third == (
        "budget 12: 12 of 12 positions kept; attention lost: 0.0% of this head's at this step, "
        "0.0% of all heads' at all steps"
    )
    assert repr(panel) == "KVCachePanel(layer=1, head=1, step=11, budget=12)"
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)


@pytest.mark.parametrize(
    "choice, message",
    [
        ({"layer": 3}, "layer: not in this run; expected from 0 to 2, got 3"),
        ({"head": -1}, "head: not in this run; expected from 0 to 1, got -1"),
        ({"step": N}, "step: not in this run; expected from 0 to 11, got 12"),
        ({"budget": 4}, "budget: not in this run; expected from 5 to 12, got 4"),
        ({"budget": N + 1}, "budget: not in this run; expected from 5 to 12, got 13"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(maps, choice, message):
    with pytest.raises(ParameterError, match=message):
        KVCachePanel(maps, **choice)


def test_maps_of_the_end_of_a_text_are_told_in_the_panel():
    panel = KVCachePanel(analysis.attention_maps(attention(n_rows=N - 2), PIECES))
    assert panel.error.startswith("maps: only the end of the text looks") and panel.shares is None


def test_a_text_shorter_than_the_sinks_is_shown():
    maps = {name: x[:, :2, :2] for name, x in attention().items()}
    panel = KVCachePanel(analysis.attention_maps(maps, PIECES[:2]))
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
