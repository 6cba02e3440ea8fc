"""Speculative decoding: the same text when greedy, the same distribution when sampled."""

import numpy as np
import pytest

import workbench as wb
from workbench.sampling import Candidates
from workbench.sampling.dist import Generator
from workbench.speculative import accepted_or_redrawn, drawn_from

GREEDY = wb.SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def model():
    with wb.load_model(wb.builtin_model_path(), device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def draft(tmp_path_factory):
    path = tmp_path_factory.mktemp("draft") / "q4.gguf"
    wb.quantize_file(wb.builtin_model_path(), path, "Q4_0")
    with wb.load_model(path, device="cpu") as loaded:
        yield loaded


def candidates(probs):
    probs = np.asarray(probs, np.float64)
    with np.errstate(divide="ignore"):
        return Candidates(np.arange(len(probs), dtype=np.int32), np.log(probs).astype(np.float32))


@pytest.mark.parametrize("n_draft", [1, 3, 6])
def test_greedy_text_is_that_of_plain_decoding(model, draft, n_draft):
    plain = [s.token_id for s in wb.generate(model, "Tom had a dog.", GREEDY, 60)]
    for guess in (wb.ModelDraft(draft), wb.NgramDraft()):
        steps = wb.speculate(model, guess, "Tom had a dog.", GREEDY, 60, n_draft)
        assert [s.token_id for s in steps] == plain


def test_drafts_of_the_model_itself_are_always_accepted(model):
    seen = wb.Acceptance()
    params = wb.SamplingParams(temperature=0, top_k=1)
    list(wb.speculate(model, wb.ModelDraft(model), "One day", params, 30, 4, seen))
    np.testing.assert_array_equal(seen.accepted, seen.proposed)
    assert seen.n_passes == 6 and seen.n_tokens == 30


@pytest.mark.parametrize("guess", [[0.7, 0.1, 0.1, 0.1], [0.0, 0.0, 1.0, 0.0], [0.25] * 4])
def test_kept_tokens_have_the_models_distribution(guess):
    wanted, random, n = candidates([0.1, 0.5, 0.15, 0.25]), Generator(7), 20000
    guessed = candidates(guess)
    counts = np.zeros(4)
    for _ in range(n):
        token_id, _ = accepted_or_redrawn(drawn_from(guessed, random), guessed, wanted, random)
        counts[token_id] += 1
    expected = wanted.probs.astype(np.float64) * n
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: exceeded once in a thousand


def test_whole_texts_have_the_distribution_of_plain_sampling(model, draft):
    """Second tokens after a prompt, drawn 200 times, against the model's own probabilities."""
    ids = model.tokenizer.encode("Once upon a time")
    logits = wb.to_numpy(model.forward(ids, model.new_cache(n_ctx=64)))[-1]
    params = wb.SamplingParams(temperature=1.5, top_k=4, top_p=1, min_p=0)
    first = wb.SamplerChain(params).apply(logits)
    guess, firsts, pairs = wb.ModelDraft(draft), [], []
    for seed in range(200):
        chain = wb.SamplerChain(params, seed=seed)
        a, b = (s.token_id for s in wb.speculate(model, guess, ids, chain, 2, 2))
        firsts.append(a)
        pairs.append(b)
    counts = np.array([firsts.count(i) for i in first.ids.tolist()])
    expected = first.probs.astype(np.float64) * 200
    assert ((counts - expected) ** 2 / expected).sum() < 16.3
    top = int(first.ids[0])
    seconds = np.array([b for a, b in zip(firsts, pairs, strict=True) if a == top])
    logits = wb.to_numpy(model.forward([*ids, top], model.new_cache(n_ctx=64)))[-1]
    after = wb.SamplerChain(params).apply(logits)
    expected = after.probs.astype(np.float64) * len(seconds)
    counts = np.array([(seconds == i).sum() for i in after.ids.tolist()])
    assert counts.sum() == len(seconds)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3


def test_an_ngram_draft_repeats_what_followed():
    chain, random = wb.SamplerChain(), Generator(0)
    proposed = wb.NgramDraft(2).propose([1, 2, 3, 4, 9, 1, 2], 3, chain, random)
    assert [token_id for token_id, _ in proposed] == [3, 4, 9]
    assert wb.NgramDraft(2).propose([1, 2, 3], 3, chain, random) == []


def test_what_cannot_be_speculated_is_refused(model, draft):
    with pytest.raises(wb.UnsupportedError, match=r"samplers without a memory.*mirostat_v2"):
        wb.speculate(model, wb.NgramDraft(), "a", wb.SamplingParams(mirostat=2))
    with pytest.raises(wb.ParameterError, match="n_draft: expected a whole number from 1"):
        wb.speculate(model, wb.NgramDraft(), "a", n_draft=0)
    with pytest.raises(wb.ContextFullError, match="the prompt does not fit"):
        wb.speculate(model, wb.NgramDraft(), [5] * 10**4)


def test_a_draft_of_another_vocabulary_is_refused(model, tmp_path):
    from tests.conftest import ROOT

    with wb.load_model(ROOT / "tests/data/llama-tied.gguf", device="cpu") as other:
        with pytest.raises(wb.ParameterError, match="draft: another vocabulary; expected 4096"):
            wb.speculate(model, wb.ModelDraft(other), "a")


def test_texts_end_at_the_context_and_at_max_tokens(model, draft):
    n_ctx = model.config.n_ctx_train
    ids = model.tokenizer.encode("Once upon a time " * 250)[: n_ctx - 3]
    steps = list(wb.speculate(model, wb.ModelDraft(draft), ids, GREEDY, 50))
    assert steps[-1].stop in ("n_ctx", "eog") and len(steps) <= 4
    assert list(wb.speculate(model, wb.NgramDraft(), "Hi", GREEDY, 3))[-1].stop in (
        "max_tokens",
        "eog",
    )
