"""Parity with llama.cpp, on tiny random models of all architectures made again from seeds."""

import json

import numpy as np
import pytest

import workbench as wb
from tests.conftest import ROOT
from tests.model.parity_recipes import RECIPES
from tests.model.random_model import prompt_of, write_model
from workbench.model.architectures import ARCHITECTURES

GOLDEN = ROOT / "tests" / "data" / "parity.npz"  # made by tests/data/make_parity.py
EXACT = 1e-4  # float32 sums in another order
DEEP = 1e-3  # more than 20 layers: llama.cpp's own batch and token by token differ by 1.3e-4
TABULATED = 2e-2  # llama.cpp's CPU GELU is a table of float16 numbers


def load_goldens():
    with np.load(GOLDEN) as arrays:
        entries = json.loads(arrays["entries"].tobytes())
        positions = arrays["positions"]
        columns = zip(entries, arrays["logits"], arrays["greedy"], strict=True)
        return positions, {
            name: entries[name] | {"logits": logits, "greedy": greedy.tolist()}
            for name, logits, greedy in columns
        }


POSITIONS, GOLDENS = load_goldens()


def tolerance(recipe):
    if ARCHITECTURES[recipe.architecture].activation in ("gelu", "geglu"):
        return TABULATED
    return DEEP if recipe.numbers.get("block_count", 0) > 20 else EXACT


def test_every_architecture_has_a_golden_and_every_golden_a_recipe():
    assert {RECIPES[name].architecture for name in GOLDENS} == set(ARCHITECTURES)
    assert list(GOLDENS) == list(RECIPES)


@pytest.mark.parametrize("name", GOLDENS)
def test_logits_and_greedy_tokens_are_those_of_llama_cpp(name, tmp_path):
    golden, recipe = GOLDENS[name], RECIPES[name]
    path = tmp_path / "model.gguf"
    write_model(path, recipe, golden["seed"], golden["shapes"], golden["head_scale"])
    with wb.load_model(path) as model:
        prompt = prompt_of(name)
        n_ctx = len(prompt) + len(golden["greedy"])
        cache = model.new_cache(n_ctx, "f32", "f32")
        logits = wb.to_numpy(model.forward(prompt, cache))
        bar = tolerance(recipe)
        np.testing.assert_allclose(logits[POSITIONS], golden["logits"], rtol=0, atol=bar)
        row, greedy = logits[-1], []
        while True:
            greedy.append(int(row.argmax()))
            if len(greedy) == len(golden["greedy"]):
                break
            row = wb.to_numpy(model.forward(greedy[-1:], cache))[0]
    assert greedy == golden["greedy"]
