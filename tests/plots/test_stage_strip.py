import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from workbench.analysis.stage_strip import StageRow
from workbench.plots.stage_strip import (
    GREY,
    plot_stage_strip,
    share_of_log,
    stage_strip_html,
    what_it_did,
)

CUT = StageRow(
    "top_k", "top_k 2", True, True, 100, 10, 2.5, 1.25, 0.125, ("␣<b>", "$你$"),
    "top_k 2: kept 10 of 100 tokens, removed 12.50% of the probability",
)  # fmt: skip
OFF = StageRow("xtc", "xtc", False, False, 10, 10, 1.25, 1.25, 0, (), "xtc_probability 0: off")
FLAT = StageRow(
    "temp", "temp 2", True, True, 10, 10, 1.25, 1.75, 0, (),
    "temp 2: kept all 10 tokens, entropy 1.250 -> 1.750 nats",
)  # fmt: skip


def test_html_has_a_row_a_stage_escaped_and_grey_where_it_is_off():
    html = stage_strip_html([CUT, OFF, FLAT])
    assert html.count("<tr") == 4  # with the heading
    assert "100 → 10" in html and "2.50 → 1.25" in html
    assert "removed 12.50% of the probability: ␣&lt;b&gt; $你$ …" in html and "<b>" not in html
    off = html.split("<tr")[3]
    assert GREY in off and "xtc_probability 0: off" in off and "→" not in off
    assert GREY not in html.split("<tr")[2]


def test_words_are_short_where_the_columns_tell_the_numbers():
    assert what_it_did(FLAT) == "kept all 10 tokens, entropy 1.250 -> 1.750 nats"
    assert what_it_did(OFF) == "xtc_probability 0: off"


def test_bars_end_at_the_number_of_tokens_that_entered_and_left():
    ax = plot_stage_strip([CUT, OFF, FLAT], Figure().subplots())
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(ends, [100, 10, 10, 10])
    assert ax.get_xscale() == "log"
    assert [t.get_text() for t in ax.texts][2:4] == ["xtc", "off"]


def test_any_piece_draws_without_a_warning():
    figure = Figure()
    plot_stage_strip([CUT], figure.subplots())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()


@pytest.mark.parametrize(("n", "most", "share"), [(1, 100, 0), (100, 100, 1), (10, 100, 0.5)])
def test_bars_in_html_are_logarithmic(n, most, share):
    np.testing.assert_allclose(share_of_log(n, most), share)


def test_no_stage_is_an_empty_strip():
    assert stage_strip_html([]).count("<tr") == 1
    assert len(plot_stage_strip([], Figure().subplots()).patches) == 0
