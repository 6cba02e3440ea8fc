"""A grammar beside the chain: what it refuses is drawn again, among what it allows."""

import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.sampling import SamplerChain, SamplingParams, stages

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


class Only:
    """Allows some tokens, whatever came before."""

    is_finished = False

    def __init__(self, allowed, n_vocab=5):
        self.allowed, self.n_vocab, self.accepted = set(allowed), n_vocab, []

    def allows(self, token_id):
        return token_id in self.allowed

    def mask(self):
        return np.isin(np.arange(self.n_vocab), list(self.allowed))

    def accept(self, token_id):
        self.accepted.append(token_id)

    def fork(self):
        twin = Only(self.allowed, self.n_vocab)
        twin.accepted = list(self.accepted)
        return twin

    def reset(self):
        self.accepted = []


def test_only_allowed_tokens_are_drawn_and_all_are_accepted():
    chain = SamplerChain([], seed=3, grammar=Only({0, 2}))
    drawn = [chain.sample(LOGITS)[0] for _ in range(50)]
    assert set(drawn) == {0, 2} and chain.grammar.accepted == drawn
    # what is left of the distribution: 0.1 and 0.05, and a token drawn at once stays
    assert drawn.count(0) > drawn.count(2)


def test_an_allowed_token_is_taken_without_looking_at_the_others():
    chain, twin = SamplerChain([], seed=3, grammar=Only(range(5))), SamplerChain([], seed=3)
    assert [chain.sample(LOGITS)[0] for _ in range(9)] == [twin.sample(LOGITS)[0] for _ in range(9)]


def test_the_second_try_begins_with_all_tokens():
    chain = SamplerChain([stages.top_k(1)], grammar=Only({2}))
    token_id, left = chain.sample(LOGITS)  # the best token is refused, and top_k left only it
    assert token_id == 2 and left.ids.tolist() == [2]


def test_each_try_uses_up_a_random_number():
    chain, twin = SamplerChain([], seed=3, grammar=Only({2})), SamplerChain([], seed=3)
    assert twin.sample(LOGITS)[0] != 2
    twin.skip()
    chain.sample(LOGITS)
    np.testing.assert_array_equal(chain.generator_state()[1], twin.generator_state()[1])


def test_a_fork_has_a_grammar_of_its_own():
    chain = SamplerChain(SamplingParams(), grammar=Only({0}))
    chain.sample(LOGITS)
    fork = chain.fork()
    fork.accept(0)
    assert (chain.grammar.accepted, fork.grammar.accepted) == ([0], [0, 0])
    fork.reset()
    assert (chain.grammar.accepted, fork.grammar.accepted) == ([0], [])


def test_explain_ends_with_what_the_grammar_removes():
    report = SamplerChain([stages.top_k(3)], grammar=Only({1, 2})).explain(LOGITS)[-1]
    assert (report.name, report.kept.tolist(), report.removed.tolist()) == ("grammar", [1], [3, 4])
    assert report.effect.startswith("grammar: kept 1 of 3 tokens, removed 52.94%")
    second = SamplerChain([stages.top_k(1)], grammar=Only({2})).explain(LOGITS)[-1]
    assert second.after.ids.tolist() == [2]


@pytest.mark.parametrize("method", ["sample", "explain"])
def test_a_grammar_that_allows_nothing_is_one_sentence(method):
    chain = SamplerChain(grammar=Only(set()))
    with pytest.raises(ParameterError, match="grammar: no token of this vocabulary may come next"):
        getattr(chain, method)(LOGITS)


def test_a_grammar_of_another_vocabulary_is_refused():
    chain = SamplerChain(grammar=Only({6}, n_vocab=7))
    with pytest.raises(ParameterError, match=r"another vocabulary; expected a mask of 5 tokens"):
        chain.sample(LOGITS)
