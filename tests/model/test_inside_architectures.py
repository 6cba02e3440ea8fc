"""Names, edits, windows and shifts in tiny random models of all architectures."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.model.parity_recipes import RECIPES
from tests.model.random_model import prompt_of, write_model
from tests.model.test_more_architectures import GOLDENS, tolerance
from workbench import analysis
from workbench.model import ActivationTrace, kv_slots, load_model, tap_names
from workbench.ops import cpu

SAME = 1e-4  # float32 sums in another order
KINDS = (  # one for each way in which layers differ
    *("llama-yarn", "gemma2", "gemma3", "gpt-oss", "deepseek2", "deepseek2-lite", "phi3-longrope"),
    *("phi2", "gpt2", "smollm3", "llama4", "arctic", "baichuan-alibi", "cohere2", "qwen3moe"),
)
TOKENIZER = SimpleNamespace(piece=lambda i: b"%d" % i, token_text=str)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("architectures")


def model_of(name, folder: Path):
    path, golden = folder / f"{name}.gguf", GOLDENS[name]
    if not path.exists():
        write_model(path, RECIPES[name], golden["seed"], golden["shapes"], golden["head_scale"])
    model = load_model(path, weights="float32")
    model.__dict__["tokenizer"] = TOKENIZER
    return model


def f32_cache(model, **arguments):
    return model.new_cache(512, "f32", "f32", **arguments)


class Visited(ActivationTrace):
    """Notes the names of all that goes past."""

    def __init__(self):
        super().__init__(["*"])
        self.visited = []

    def visit(self, name, layer, x, ops):
        self.visited.append(name if layer is None else f"{name}-{layer}")
        return super().visit(name, layer, x, ops)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_names_told_are_those_that_go_past_and_so_are_the_bytes(name, folder):
    model, trace, ids = model_of(name, folder), Visited(), prompt_of(name)[:5]
    logits = model.forward(ids, f32_cache(model), trace=trace)
    assert trace.visited == trace.names == tap_names(model)
    assert trace.sizes(model, 5) == {tap: trace[tap].nbytes for tap in trace}
    np.testing.assert_allclose(logits, model.forward(ids, f32_cache(model)), 0, SAME)


@pytest.mark.parametrize("name", KINDS)
def test_an_edit_of_everything_that_changes_nothing_changes_no_logit(name, folder):
    model, ids = model_of(name, folder), prompt_of(name)[:40]
    trace = ActivationTrace().edit("*", lambda x: None)
    expected = model.forward(ids, f32_cache(model))
    np.testing.assert_allclose(model.forward(ids, f32_cache(model), trace=trace), expected, 0, SAME)


@pytest.mark.parametrize("name", KINDS)
def test_chunks_and_kept_windows_give_the_same_logits(name, folder, monkeypatch):
    model, ids = model_of(name, folder), prompt_of(name)[:100]
    whole = model.forward(ids, f32_cache(model))
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", 16)
    monkeypatch.setattr(kv_slots, "PADDING", 4)
    caches = f32_cache(model), f32_cache(model, swa_full=False)
    full, cut = (
        np.concatenate([model.forward(ids[i : i + 37], cache) for i in range(0, 100, 37)])
        for cache in caches
    )
    np.testing.assert_allclose(full, whole, 0, tolerance(RECIPES[name]))
    np.testing.assert_array_equal(cut, full)
    windows = [model.config.kv_slots(layer)[2] for layer in range(model.config.n_layer)]
    smaller = np.less(caches[1].layer_nbytes, caches[0].layer_nbytes)
    np.testing.assert_array_equal(smaller, [0 < window < 512 for window in windows])


@pytest.mark.parametrize("name", KINDS)
def test_keys_of_the_first_layer_after_a_shift_are_those_of_a_text_without_the_gap(name, folder):
    model, ids = model_of(name, folder), prompt_of(name)[:60]
    if model.network.weights.position_embd.weight is not None:
        pytest.skip("learned positions are in the stream itself, not in the keys")
    cache, short = f32_cache(model), f32_cache(model)
    model.forward(ids, cache)
    model.forward(np.r_[ids[:4], ids[15:]], short)
    cache.shift(n_keep=4, n_discard=11)
    np.testing.assert_allclose(cache.k(0), short.k(0), 0, SAME)
    np.testing.assert_allclose(cache.v(0), short.v(0), 0, SAME)
    for layer in range(cache.n_layer):
        assert cache.k(layer).shape == short.k(layer).shape


@pytest.mark.parametrize("name", KINDS)
def test_a_logit_is_the_sum_of_its_parts_and_heads_can_be_silenced(name, folder):
    model, ids = model_of(name, folder), prompt_of(name)[:20]
    trace = ActivationTrace(analysis.stream_taps(model, heads=True))
    logits = model.forward(ids, f32_cache(model), trace=trace)
    parts = analysis.logit_attribution(model, trace)
    assert parts.total == pytest.approx(parts.logit, abs=SAME)
    lens = analysis.logit_lens(model, trace, ids)
    np.testing.assert_array_equal(lens.top_ids[-1], logits.argmax(axis=1))
    trace.ablate_heads(0, range(model.config.of_layer(0).n_head))
    model.forward(ids, f32_cache(model), trace=trace)
    np.testing.assert_allclose(analysis.logit_attribution(model, trace).heads[0], 0, atol=1e-9)
