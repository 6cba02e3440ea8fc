"""Perplexity and KL divergence of a text: by definition on tiny models, and as llama.cpp has it."""

import json
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from tests.analysis.inside import models
from tests.conftest import REFERENCE, needs_reference
from tests.model.tiny import f32_cache, load, metadata, tensors
from workbench.analysis import kl_divergence, perplexity
from workbench.analysis.perplexity import LOGITS_AT_ONCE
from workbench.errors import ParameterError
from workbench.model import load_model

IDS = np.random.default_rng(8).integers(0, 40, 75)
PRINTED = 6e-5  # four decimals, rounded
BOS = 1


@pytest.fixture
def pair(monkeypatch):
    tokenizer = SimpleNamespace(add_bos=True, bos_id=BOS)
    for model in models():
        monkeypatch.setitem(model.__dict__, "tokenizer", tokenizer)
    return models()


def log_probs(model, chunk):
    logits = model.forward([BOS, *chunk[1:]], f32_cache(model)).astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_the_second_half_of_each_chunk_is_scored(pair):
    result = perplexity(pair[0], IDS, n_ctx=20)
    expected = []
    for start in (0, 20, 40):  # the last 15 tokens fill no chunk
        chunk = IDS[start : start + 20]
        logs = log_probs(pair[0], chunk)
        expected.append([-logs[i, chunk[i + 1]] for i in range(10, 19)])
    np.testing.assert_allclose(result.nll, expected, 1e-5)
    assert (result.n_ctx, result.n_scored) == (20, 27)
    assert float(result) == result.ppl == pytest.approx(np.exp(np.mean(expected)), rel=1e-5)
    np.testing.assert_allclose(result.running[1], np.exp(np.mean(expected[:2])), 1e-5)
    assert result.running[-1] == pytest.approx(result.ppl)
    assert list(result.to_frame()["chunk"]) == [0, 1, 2]


def test_an_odd_chunk_and_one_chunk_are_whole_chunks(pair):
    assert perplexity(pair[0], IDS, n_ctx=25).nll.shape == (3, 12)
    assert perplexity(pair[0], IDS[:3], n_ctx=3).nll.shape == (1, 1)


def test_long_vocabularies_go_in_pieces_that_change_nothing(pair, monkeypatch):
    whole = perplexity(pair[0], np.tile(IDS, 2), n_ctx=64)
    assert LOGITS_AT_ONCE > 64 * 40
    module = import_module("workbench.analysis.perplexity")  # its function has the same name
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 1)  # 32 tokens at least
    monkeypatch.setattr(module, "NUMBERS_PER_TILE", 100)
    np.testing.assert_allclose(perplexity(pair[0], np.tile(IDS, 2), n_ctx=64).nll, whole.nll, 1e-5)


def test_divergence_is_of_the_same_tokens(pair):
    result = kl_divergence(*pair, IDS, n_ctx=20)
    chunk = IDS[20:40]
    p, q = (log_probs(model, chunk)[10:19] for model in pair)
    true = np.arange(9), chunk[11:]
    np.testing.assert_allclose(result.kl[1], (np.exp(p) * (p - q)).sum(axis=1), 1e-3)
    np.testing.assert_allclose(result.p_diff[1], (np.exp(q) - np.exp(p))[true], atol=1e-6)
    np.testing.assert_array_equal(result.same_top[1], p.argmax(axis=1) == q.argmax(axis=1))
    for one, model in zip((result.base, result.other), pair, strict=True):
        np.testing.assert_allclose(one.nll, perplexity(model, IDS, n_ctx=20).nll, 1e-6)
    assert float(result) == result.mean == result.kl.mean()
    statistics = result.statistics()
    assert statistics["Median KLD"][0] == pytest.approx(np.median(result.kl))
    assert list(result.to_frame()["statistic"]) == list(statistics)


def test_a_model_beside_itself_diverges_nowhere(pair):
    result = kl_divergence(pair[0], pair[0], IDS, n_ctx=20)
    assert result.mean == 0 and result.same_top_share == 1 and result.rms_p_diff == 0
    assert result.statistics()["Mean PPL(Q)/PPL(base)"][0] == 1


def test_progress_counts_chunks(pair):
    seen = []
    perplexity(pair[0], IDS, 20, progress=lambda *x: seen.append(x))
    kl_divergence(*pair, IDS, 30, progress=lambda *x: seen.append(x))
    assert seen == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]


@pytest.mark.parametrize("n_ctx", [2, 65, 2.5, "20", True])
def test_an_impossible_chunk_is_refused(pair, n_ctx):
    with pytest.raises(ParameterError, match="expected an integer from 3 to the 64"):
        perplexity(pair[0], IDS, n_ctx)


def test_a_text_that_fills_no_chunk_is_refused(pair):
    with pytest.raises(ParameterError, match="at least one chunk of 64 tokens, got 30"):
        perplexity(pair[0], IDS[:30])


def test_models_of_other_vocabularies_are_refused(pair, tmp_path):
    weights = tensors() | {"token_embd.weight": np.zeros((41, 32), np.float32)}
    other = load(tmp_path, metadata(vocab_size=41), weights)
    with pytest.raises(ParameterError, match="expected the base's 40 tokens, got 41"):
        kl_divergence(pair[0], other, IDS, 20)


@needs_reference
@pytest.mark.parametrize("n_ctx", [128, 256])
@pytest.mark.parametrize("name", ["f32", "q8_0", "q4_0"])
def test_every_number_of_llama_perplexity_comes_out(name, n_ctx):
    folder = REFERENCE / "models"
    golden = json.loads((folder / "stories260K-perplexity.json").read_text())
    wanted = name if name == "f32" else f"{name}_dequant"
    run = next(r for r in golden["runs"] if (r["model"], r["ctx"]) == (wanted, n_ctx))
    base, model = (
        load_model(folder / f"stories260K-{n}.gguf", weights="float32") for n in ("f32", name)
    )
    text = (folder / golden["text"]).read_text()
    assert model.tokenizer.encode(text) == golden["tokens"]
    result = perplexity(model, text, n_ctx)
    assert result.ppl == pytest.approx(run["ppl"], abs=PRINTED)
    assert result.ppl_error == pytest.approx(run["ppl_error"], abs=PRINTED)
    np.testing.assert_allclose(result.running, run["running_ppl_per_chunk"], 0, PRINTED)
    ours = kl_divergence(base, model, text, n_ctx).statistics()
    for statistic, numbers in run["kl_divergence_to_f32"]["statistics"].items():
        # llama.cpp stores the base's log-probabilities in 16 bits; percent are printed with 3
        # decimals. Measured: KL off by at most 6e-5, percent by 5e-3.
        limit = 1e-2 if "Δp" in statistic or "Cor" in statistic or "top" in statistic else 1e-4
        limit = 2e-6 if statistic == "Mean KLD" else limit
        mine = ours[statistic][: len(numbers)]  # where llama.cpp prints an error, too
        np.testing.assert_allclose(mine, numbers, 0, limit, err_msg=statistic)
