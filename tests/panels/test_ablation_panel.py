"""The ablation panel, driven as the next cell drives it."""

import numpy as np
import pytest

from tests.conftest import BUILTIN_MODEL
from workbench import analysis
from workbench.model import load_model
from workbench.panels import AblationPanel

PROMPT = "Tom and Lily"


@pytest.fixture(scope="module")
def model():
    with load_model(BUILTIN_MODEL, weights="float32") as model:
        yield model


@pytest.fixture
def panel(model):
    return AblationPanel(model, PROMPT, layer=6, head=2)


def expected_kl(model, layer, heads, to="zero", prompt=PROMPT):
    ids = model.tokenizer.encode(prompt)
    logits = [analysis.logits_without(model, ids, *which) for which in ((), (layer, heads, to))]
    return analysis.kl_by_position(logits[0][None], logits[1][None])[0]


def test_it_shows_what_the_first_choice_changes(panel, model):
    assert panel.change.kl == pytest.approx(expected_kl(model, 6, [2]), abs=1e-6)
    assert bytes(panel.picture.value).startswith(b"\x89PNG") and panel.error is None
    assert panel.summary().startswith("'Tom and Lily' without head 2 of layer 6\nKL ")
    assert repr(panel) == "AblationPanel(prompt='Tom and Lily', layer=6, head=2)"
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)


def test_each_control_changes_it(panel, model):
    seen = [panel.picture.value]
    for control, value, kl in (
        (panel.head, 5, expected_kl(model, 6, [5])),
        (panel.layer, 1, expected_kl(model, 1, [5])),
        (panel.to, "mean", expected_kl(model, 1, [5], "mean")),
        (panel.all_heads, True, expected_kl(model, 1, list(range(8)), "mean")),
    ):
        control.value = value
        assert panel.change.kl == pytest.approx(kl, abs=1e-6)
        assert panel.picture.value not in seen
        seen.append(panel.picture.value)
    assert "without all heads of layer 1 (mean)" in panel.summary()


def test_another_prompt_is_read_and_mapped(panel, model):
    panel.prompt.value = "The cat sat"
    assert panel.maps.pieces[1:] == ("The", "␣cat", "␣sat")
    assert panel.change.kl == pytest.approx(expected_kl(model, 6, [2], prompt="The cat sat"))


def test_a_prompt_that_cannot_be_read_is_told_in_the_panel(panel):
    panel.prompt.value = "word " * 150
    assert panel.change is None and "error: prompt: too long for a map" in panel.summary()
    assert "ParameterError" in panel.message.value
    panel.prompt.value = PROMPT
    assert panel.error is None and panel.message.value == ""
    assert np.isfinite(panel.change.kl)
