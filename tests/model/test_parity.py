"""Logits and greedy continuations equal to llama.cpp's, on its own goldens."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REFERENCE, needs_reference
from tests.model.tiny import f32_cache
from workbench.model import load_model

DATA = Path(__file__).resolve().parents[1] / "data"
# Two float32 sums in different order; measured: at most 2.9e-5 in all files below.
TOLERANCE = 5e-5
# llama.cpp's CPU GELU is a table of float16 numbers: where an input rounds to the neighbour, the
# last bit of 11 moves the logits. Measured: at most 2.4e-3, where an exact GELU is off by 8e-3.
GELU_TOLERANCE = 5e-3
GELU_NAMES = ("gemma2", "gemma3", "gpt2", "starcoder2")
NAMES = sorted(path.stem for path in (REFERENCE / "logits").glob("*.gguf")) or ["none"]


def continue_greedily(model, cache, logits, n_tokens):
    """Token ids, and the logits each was picked from."""
    ids, rows = [], []
    for _ in range(n_tokens):
        ids.append(int(logits.argmax()))
        rows.append(logits)
        logits = model.forward(ids[-1:], cache)[0]
    return ids, np.array(rows)


@pytest.mark.parametrize("name", ["llama-tied", "llama-gqa-Q4_0"])
@pytest.mark.parametrize("form", ["packed", "float32"])
def test_carried_goldens_agree_with_llama_cpp(name, form):
    golden, model = np.load(DATA / f"{name}.npz"), load_model(DATA / f"{name}.gguf", weights=form)
    cache = f32_cache(model)
    logits = model.forward(golden["tokens"], cache)
    np.testing.assert_allclose(logits[golden["positions"]], golden["logits"], 0, TOLERANCE)
    ids, rows = continue_greedily(model, cache, logits[-1], 24)
    np.testing.assert_array_equal(ids, golden["greedy_tokens"])
    np.testing.assert_allclose(rows[-1], golden["greedy_logits_last"], 0, TOLERANCE)


@needs_reference
@pytest.mark.parametrize("name", NAMES)
def test_every_position_and_step_agrees_with_llama_cpp(name):
    golden = np.load(REFERENCE / "logits" / f"{name}.npz")
    suffix = "_dequant" if "logits_dequant" in golden else ""
    tolerance = GELU_TOLERANCE if name in GELU_NAMES else TOLERANCE
    model = load_model(REFERENCE / "logits" / f"{name}.gguf")
    cache = f32_cache(model)
    logits = model.forward(golden["tokens"], cache)
    np.testing.assert_allclose(logits, golden["logits" + suffix], 0, tolerance)
    ids, rows = continue_greedily(model, cache, logits[-1], 24)
    np.testing.assert_array_equal(ids, golden["greedy_tokens" + suffix])
    np.testing.assert_allclose(rows, golden["greedy_logits" + suffix], 0, tolerance)


@needs_reference
@pytest.mark.parametrize("name", ["f32", "q8_0", "q4_0"])
def test_stories_continue_as_in_llama_cpp(name):
    key = name if name == "f32" else f"{name}_dequant"
    results = json.loads((REFERENCE / "models" / "stories260K-greedy.json").read_text())["results"]
    golden = np.load(REFERENCE / "models" / "stories260K-logits.npz")
    model = load_model(REFERENCE / "models" / f"stories260K-{name}.gguf", weights="float32")
    stories = [story for story in results if story["model"] == key]
    assert len(stories) == 5
    for index, story in enumerate(stories):
        cache = f32_cache(model)
        logits = model.forward(story["prompt_tokens"], cache)
        ids, rows = continue_greedily(model, cache, logits[-1], 80)
        assert ids == story["tokens"]
        if f"{key}_prompt{index}_logits" in golden:
            ours = np.concatenate([logits, rows[1:]])
            np.testing.assert_allclose(ours, golden[f"{key}_prompt{index}_logits"], 0, TOLERANCE)
