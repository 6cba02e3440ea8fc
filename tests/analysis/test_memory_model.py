"""The memory model names its terms and is held to what NumPy really allocates."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from tests.model.kv_models import write_kv_model
from tests.model.tiny import METADATA
from workbench.analysis import memory_model
from workbench.errors import ParameterError
from workbench.gguf import write_gguf
from workbench.ops.cpu import TILE_WEIGHTS
from workbench.quants.convert import core_count


@pytest.fixture(scope="module")
def model():
    with wb.load_model(BUILTIN_MODEL, device="cpu") as model:
        model.forward(range(16), model.new_cache(16))  # what a first call keeps
        yield model


def peak_of(model, n_ctx, n_batch, types, last_only):
    """Bytes at the peak of one forward pass that fills a cache, beyond what was there before."""
    cache = model.new_cache(n_ctx, *types)
    if n_ctx > n_batch:
        model.forward(np.ones(n_ctx - n_batch, int), cache, last_only=True)
    tracemalloc.start()
    logits = model.forward(np.ones(n_batch, int), cache, last_only=last_only)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert logits.shape[0] == (1 if last_only else n_batch)
    return peak


@pytest.mark.parametrize(
    ("n_ctx", "n_batch", "types"),
    [
        (64, 64, ("f16", "f16")),
        (512, 256, ("f16", "f16")),
        (512, 512, ("q8_0", "q4_0")),
        (1024, 1024, ("f32", "f32")),
        (1024, 512, ("f16", "q8_0")),
    ],
)
def test_a_prompt_takes_what_the_model_says(model, n_ctx, n_batch, types):
    predicted = memory_model(model.gguf, n_ctx, *types, n_batch)
    compute = sum(term.nbytes for term in predicted.terms if term.name.startswith("compute"))
    tiles = core_count() * 4 * TILE_WEIGHTS  # of decoded weights, which the model leaves out
    assert compute + tiles == pytest.approx(peak_of(model, n_ctx, n_batch, types, False), rel=0.25)


@pytest.mark.parametrize("types", [("q8_0", "q8_0"), ("bf16", "q4_0"), ("q4_0", "f32")])
def test_a_token_takes_what_the_model_says_where_its_cache_is_widened(model, types):
    predicted = memory_model(model.gguf, 1000, *types, 1)
    peak = peak_of(model, 1000, 1, types, True)
    assert predicted["compute: attention"] == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    "types", [("f16", "f16"), ("q8_0", "q4_0"), (["f16"] * 4 + ["q4_1"] * 4, "bf16")]
)
def test_the_cache_is_counted_to_the_byte(model, types):
    predicted = memory_model(model.gguf, 300, *types)
    cache = model.new_cache(300, *types)
    assert predicted["cached keys"] + predicted["cached values"] == cache.bytes().allocated
    assert predicted["weights"] == sum(info.nbytes for info in model.gguf.tensors.values())
    assert predicted.total == sum(term.nbytes for term in predicted.terms)


def test_every_number_names_its_key(model):
    frame = memory_model(model.gguf).to_frame().set_index("term")
    assert frame.loc["cached keys", "keys"] == (
        "llama.block_count, llama.attention.head_count_kv, llama.attention.key_length"
    )
    assert "8 layers · 4 KV heads · 32 as f16" in frame.loc["cached values", "formula"]
    assert set(frame["keys"].str.split(", ").explode()) - {""} <= {
        f"llama.{name}"
        for name in (
            *("block_count", "attention.head_count_kv", "attention.key_length", "vocab_size"),
            *("attention.value_length", "embedding_length", "feed_forward_length"),
        )
    }


def test_windows_are_counted_if_they_are_kept_alone(tmp_path):
    keys = {key.replace("llama.", "gemma3."): value for key, value in METADATA.items()}
    keys |= {"general.architecture": "gemma3", "gemma3.attention.sliding_window": 16}
    keys |= {"gemma3.block_count": 6, "gemma3.context_length": 8192}
    weights = {"token_embd.weight": np.zeros((40, 32), np.float32)}
    write_gguf(tmp_path / "model.gguf", keys, weights)
    with wb.open_gguf(tmp_path / "model.gguf") as gguf:
        whole, windows = memory_model(gguf), memory_model(gguf, swa_full=False)
    assert windows["cached keys"] == whole["cached keys"] * (5 * 768 + 8192) // (6 * 8192)
    assert "5 layers their window" in windows.terms[1].formula
    assert "gemma3.attention.sliding_window" in windows.terms[1].keys


def test_a_file_of_headers_is_enough(tmp_path):
    with wb.open_gguf(write_kv_model(tmp_path / "m.gguf", 64)) as gguf:
        model = memory_model(gguf, 100, "q8_0", "q8_0")
    assert replace(model, terms=()).total == 0 and model.cache.per_position == 2 * 2 * 2 * 68


@pytest.mark.parametrize("n_batch", [0, -1, 1.5, True, "8"])
def test_batches_that_are_none_are_refused(model, n_batch):
    with pytest.raises(ParameterError, match="n_batch: not a number of tokens"):
        memory_model(model.gguf, n_batch=n_batch)
