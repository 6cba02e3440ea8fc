import warnings
from dataclasses import replace

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from workbench.analysis.next_token import NextToken
from workbench.plots.glyphs import drawable
from workbench.plots.next_token import AFTER, KEPT, REMOVED, plot_next_token

RESULT = NextToken(
    ids=np.array([5, 2, 9], np.int32),
    pieces=("␣the", "$x$ and a very long piece", "你"),
    probs_before=np.array([0.5, 0.3, 0.1], np.float32),
    probs_after=np.array([0.6, 0.4, 0], np.float32),
    removed_by=(None, None, "top_p"),
    n_vocab=12,
    n_kept=2,
    rest_before=0.1,
    rest_after=0.0,
    entropy_before=1.25,
    entropy_after=0.67,
    effects=("top_p 0.8: kept 2 of 12 tokens, removed 20.00% of the probability",),
)


def draw():
    figure = Figure()
    return plot_next_token(RESULT, figure.subplots()), figure


def test_bars_are_the_probabilities_in_the_colours_of_the_legend():
    ax, _ = draw()
    widths = {}
    for bar in ax.patches:
        widths.setdefault(to_hex(bar.get_facecolor()), []).append(bar.get_width())
    np.testing.assert_allclose(widths[KEPT], [0.5, 0.3], rtol=1e-6)
    np.testing.assert_allclose(widths[REMOVED], [0.1], rtol=1e-6)
    np.testing.assert_allclose(widths[AFTER], [0.6, 0.4], rtol=1e-6)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["model: kept", "model: removed", "samplers"]


def test_the_legend_leaves_out_what_is_not_there():
    all_kept = replace(RESULT, removed_by=(None,) * 3)
    legend = plot_next_token(all_kept, Figure().subplots()).get_legend()
    colours = [to_hex(patch.get_facecolor()) for patch in legend.get_patches()]
    assert [text.get_text() for text in legend.get_texts()] == ["model: kept", "samplers"]
    assert colours == [KEPT, AFTER]


def test_rows_carry_pieces_and_the_stage_that_removed_them():
    ax, _ = draw()
    shown = [text.get_text() for text in ax.texts]
    assert shown == ["␣the", "$x$ and a very lo…", "\\u4f60", "top_p"]


def test_the_title_says_how_many_are_left():
    ax, _ = draw()
    assert ax.get_title() == "2 of 12 tokens left, entropy 1.25 → 0.67 nats"


def test_any_piece_draws_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, figure = draw()
        figure.draw_without_rendering()


def test_what_the_font_lacks_becomes_an_escape():
    assert drawable("␣é你😀") == "␣é\\u4f60\\U0001f600"
