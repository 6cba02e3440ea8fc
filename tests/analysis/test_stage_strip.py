from types import SimpleNamespace

import numpy as np
import pytest

from workbench.analysis.stage_strip import stage_strip
from workbench.sampling import SamplerChain, SamplingParams, stages

LETTERS = SimpleNamespace(piece=lambda token_id: b" abc"[token_id : token_id + 1])
# probabilities 0.5, 0.25, 0.125, 0.125
LOGITS = np.log(np.array([4, 2, 1, 1], np.float32))


def strip(chain, n_removed=3):
    return stage_strip(chain.explain(LOGITS), LETTERS, n_removed)


def test_a_row_tells_who_entered_who_left_and_who_was_removed():
    cut, half = strip(SamplerChain([stages.top_k(2), stages.top_p(0.5)]))
    assert (cut.label, cut.n_before, cut.n_after) == ("top_k 2", 4, 2)
    assert (cut.removed_share, cut.removed_pieces) == (0.25, ("b", "c"))
    np.testing.assert_allclose(cut.entropy_before, 1.75 * np.log(2), rtol=1e-6)
    assert (half.n_before, half.n_after, half.removed_pieces) == (2, 1, ("a",))
    np.testing.assert_allclose(half.removed_share, 1 / 3, rtol=1e-6)
    assert (half.entropy_before, half.entropy_after) == (cut.entropy_after, 0)


def test_only_the_most_probable_removed_tokens_are_named():
    (row,) = strip(SamplerChain([stages.top_k(1)]), n_removed=1)
    assert (row.removed_pieces, row.removed_share) == (("a",), 0.5)


def test_a_stage_that_is_off_or_idle_says_so():
    rows = {row.name: row for row in strip(SamplerChain(SamplingParams(temperature=1.0)))}
    assert (rows["top_k"].active, rows["top_k"].changed) == (True, False)
    assert rows["top_k"].effect.endswith("no effect")
    assert (rows["xtc"].active, rows["xtc"].changed) == (False, False)
    assert rows["xtc"].effect == "xtc_probability 0: off"


def test_a_temperature_changes_the_entropy_and_removes_nobody():
    (row,) = strip(SamplerChain([stages.temp(2.0)]))
    assert row.changed and row.removed_pieces == () and row.removed_share == 0
    assert row.entropy_after > row.entropy_before


@pytest.mark.parametrize("chain", [SamplerChain([]), SamplerChain(SamplingParams(samplers=()))])
def test_an_empty_chain_has_no_rows(chain):
    assert strip(chain) == ()
