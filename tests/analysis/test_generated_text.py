import numpy as np

from workbench.analysis.generated_text import generated_text
from workbench.generate import Step
from workbench.sampling import Candidates

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
