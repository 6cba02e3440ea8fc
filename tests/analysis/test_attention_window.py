"""What a window with sinks keeps and loses, counted by hand."""

import numpy as np
import pytest

from workbench import analysis
from workbench.errors import ParameterError


def looking_alike(n, last=None):
    """Maps of one head that gives every position up to itself the same share."""
    equal = np.tri(n, dtype=np.float32) / np.arange(1, n + 1, dtype=np.float32)[:, None]
    return analysis.attention_maps({"kq_soft_max-0": equal[None, -(last or n) :]})


def test_the_first_four_positions_and_the_last_ones_stay():
    assert np.flatnonzero(~analysis.kept_positions(9, 6)).tolist() == [4, 5, 6]
    kept = [int(analysis.kept_positions(n, 6).sum()) for n in (1, 4, 6, 7, 30)]
    assert kept == [1, 4, 6, 6, 6]


def test_the_lost_share_of_equal_attention_is_that_of_the_positions_gone():
    maps = looking_alike(7)
    assert analysis.attention_lost(maps, 7) == 0
    assert analysis.attention_lost(maps, 6) == pytest.approx(1 / 7 / 7)  # one, for the last token
    assert analysis.attention_lost(maps, 5) == pytest.approx((1 / 6 + 2 / 7) / 7)


@pytest.mark.parametrize("budget", [0, 4, -1, 5.5, None])
def test_a_budget_without_room_behind_the_sinks_is_refused(budget):
    with pytest.raises(ParameterError, match=r"budget: no room .* at least 5 positions, got"):
        analysis.attention_lost(looking_alike(7), budget)


def test_maps_of_the_end_of_a_text_are_refused():
    with pytest.raises(ParameterError, match="maps: only the end of the text looks"):
        analysis.attention_lost(looking_alike(7, last=5), 6)
