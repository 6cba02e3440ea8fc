import numpy as np
import pytest

from workbench.analysis.next_token import display_piece, next_token
from workbench.errors import ParameterError
from workbench.sampling import SamplerChain, stages

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


class Tokenizer:
    pieces = (b"a", b" the", b"\n", b"\xe2", b"")

    def piece(self, token_id):
        return self.pieces[token_id]

    def token_text(self, token_id):
        return "<s>" if token_id == 4 else "?"


def analyse(chain, n_top=16):
    return next_token(LOGITS, SamplerChain(chain), Tokenizer(), n_top)


def test_tokens_come_most_probable_first_with_what_the_chain_made_of_them():
    result = analyse([stages.top_k(4), stages.min_p(0.5)])
    assert result.ids.tolist() == [1, 3, 4, 0, 2]
    np.testing.assert_allclose(result.probs_before, [0.4, 0.3, 0.15, 0.1, 0.05], rtol=1e-6)
    np.testing.assert_allclose(result.probs_after, [4 / 7, 3 / 7, 0, 0, 0], rtol=1e-6)
    assert result.removed_by == (None, None, "min_p", "min_p", "top_k")
    assert (result.n_vocab, result.n_kept) == (5, 2)


def test_the_unlisted_rest_and_the_entropies_are_told():
    result = analyse([stages.top_k(4)], n_top=3)
    np.testing.assert_allclose([result.rest_before, result.rest_after], [0.15, 0.1 / 0.95], 1e-5)
    p = np.exp(LOGITS.astype(np.float64))
    np.testing.assert_allclose(result.entropy_before, -(p * np.log(p)).sum(), rtol=1e-6)
    q = p[[0, 1, 3, 4]] / 0.95
    np.testing.assert_allclose(result.entropy_after, -(q * np.log(q)).sum(), rtol=1e-6)


def test_every_stage_has_its_sentence():
    assert analyse([stages.top_k(9), stages.temp(0)]).effects == (
        "top_k 9 on 5 tokens: no effect",
        "temp 0: kept 1 of 5 tokens, removed 60.00% of the probability",
    )


def test_without_stages_nothing_changes():
    result = analyse([])
    np.testing.assert_array_equal(result.probs_before, result.probs_after)
    assert result.n_kept == 5 and set(result.removed_by) == {None}


def test_pieces_are_shown_in_visible_characters():
    shown = [display_piece(Tokenizer(), i) for i in range(5)]
    assert shown == ["a", "␣the", "\\n", "\\xe2", "<s>"]


@pytest.mark.parametrize("n_top", [0, -1, 1.5, "3"])
def test_a_bad_n_top_is_refused(n_top):
    with pytest.raises(ParameterError, match="n_top: expected a whole number from 1 up"):
        analyse([], n_top)
