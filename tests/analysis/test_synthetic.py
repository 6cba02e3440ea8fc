"""Random models have the sizes, types and sanity of real ones."""

import os
from collections import Counter

import numpy as np
import pytest

import workbench as wb
from workbench.analysis.synthetic import RECIPES, SHAPES, synthetic_model
from workbench.errors import ParameterError

DEVIATION_TOLERANCE = 0.15  # relative: a few hundred blocks are looked at, scales differ by half


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_of_every_recipe_are_finite_centred_and_of_a_common_size(recipe, tmp_path):
    path = tmp_path / "model.gguf"
    synthetic_model(path, f"tiny:{recipe}", progress=False)
    with wb.open_gguf(path) as gguf:
        for name in ("token_embd.weight", "blk.3.ffn_down.weight", "output.weight"):
            weights = gguf.dequantize(name, rows=slice(0, 64))
            np.testing.assert_allclose(weights.std(), 0.02, rtol=DEVIATION_TOLERANCE)
            np.testing.assert_allclose(weights.mean(), 0, atol=0.004)
        first, second = gguf.raw("blk.0.attn_q.weight"), gguf.raw("blk.1.attn_q.weight")
        assert (first != second).any()
        np.testing.assert_array_equal(gguf.dequantize("output_norm.weight"), np.ones(512))


def test_the_mixes_are_those_of_llama_cpp(tmp_path):
    path = tmp_path / "model.gguf"
    synthetic_model(path, "tiny:q4_k_m", progress=False)
    with wb.open_gguf(path) as gguf:
        types = Counter(info.type for info in gguf.tensors.values())
        assert gguf.tensors["output.weight"].type == gguf.tensors["blk.2.attn_v.weight"].type
    assert types == {"Q4_K": 25, "Q6_K": 5, "F32": 9}


@pytest.mark.parametrize("recipe", ["F16", "Q4_K_M"])
def test_a_random_model_gives_finite_logits(recipe, tmp_path):
    path = tmp_path / "model.gguf"
    synthetic_model(path, f"tiny:{recipe}", progress=False)
    with wb.load_model(path, "cpu") as model:
        logits = model.forward(np.arange(3), model.new_cache(8))
    assert logits.shape == (3, SHAPES["tiny"].n_vocab)
    assert np.isfinite(logits).all() and logits.std() > 0.1


def test_the_same_spec_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        synthetic_model(tmp_path / name, "tiny:Q3_K_M", progress=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("9b:Q4_0", "no such shape; expected .* 8b, 7b, 1b, tiny"),
        ("8b:Q4_9", "no such recipe; expected .* MXFP4, got '8b:Q4_9'"),
        ("8b", "no such recipe"),
        (8, "no such shape"),
    ],
)
def test_unknown_shapes_and_recipes_are_named(spec, message, tmp_path):
    with pytest.raises(ParameterError, match=message):
        synthetic_model(tmp_path / "model.gguf", spec)
    assert not os.listdir(tmp_path)


def test_only_durable_files_wait_for_the_disk(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(os, "fsync", waited.append)
    wb.write_gguf(tmp_path / "a", {}, {}, durable=False)
    assert not waited
    wb.write_gguf(tmp_path / "b", {}, {})
    assert len(waited) == 1
