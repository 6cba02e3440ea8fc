import numpy as np
import pytest

from tests.conftest import BUILTIN_MODEL
from workbench.analysis.generated_text import generated_text, judged_text
from workbench.analysis.token_tree import TokenTree
from workbench.errors import ParameterError
from workbench.generate import Step, generate
from workbench.model import load_model
from workbench.sampling import Candidates, SamplingParams

LEFT = Candidates(np.array([7], np.int32), np.zeros(1, np.float32))


def step(token_id, text, p, stop=None):
    return Step(token_id, text, float(np.log(p)), LEFT, 0, stop)


def test_steps_become_one_text_with_probabilities():
    result = generated_text([step(7, " a", 0.5), step(8, "b", 0.125, "eog")], prompt="Hi")
    assert (result.prompt, result.text, result.n_tokens) == ("Hi", " ab", 2)
    assert (result.token_ids.tolist(), result.stop) == ([7, 8], "eog")
    np.testing.assert_allclose(result.probs, [0.5, 0.125])
    np.testing.assert_allclose(result.mean_logprob, np.log(0.25))


def test_no_steps_are_an_empty_text():
    result = generated_text(iter(()))
    assert (result.text, result.n_tokens, result.stop) == ("", 0, None)
    assert np.isnan(result.mean_logprob)


@pytest.fixture(scope="module")
def model():
    with load_model(BUILTIN_MODEL, device="cpu") as opened:
        yield opened


def test_a_model_judges_its_own_text_as_it_did_while_writing(model):
    tree = TokenTree(model, "Once upon a time", SamplingParams(seed=3))
    path = tree.path(tree.generate(12))[1:]
    steps = list(generate(model, "Once upon a time", SamplingParams(seed=3), max_tokens=12))
    text = generated_text(steps, "Once upon a time")
    judged = judged_text(model, text)
    assert judged.text == text.text and [n.token_id for n in path] == text.token_ids.tolist()
    np.testing.assert_allclose(judged.probs, text.probs, rtol=1e-3)
    assert judged.ranks.tolist() == [node.rank for node in path]
    np.testing.assert_allclose(judged.entropies, [node.entropy for node in path], rtol=1e-3)
    assert judged.measure("rank").min() >= 1
    np.testing.assert_allclose(judged.measure("surprise"), -np.log(judged.probs))


def test_a_text_that_nobody_judged_has_no_ranks(model):
    text = generated_text([step(7, " a", 0.5)])
    with pytest.raises(ParameterError, match=r"no rank in this text; .*call analysis.judged_text"):
        text.measure("rank")
    with pytest.raises(ParameterError, match="expected prob, rank, entropy or surprise, got 'x'"):
        text.measure("x")
    assert judged_text(model, generated_text([], "Hi")).ranks.shape == (0,)
