import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from tests.tokenizer.vocabularies import bpe, ladder_spm
from workbench.errors import ParameterError
from workbench.plots.token_trace import (
    FRESH,
    PLAIN,
    SPECIAL,
    TINTS,
    pieces_html,
    place_pieces,
    place_tree,
    plot_merge_ranks,
    plot_merge_tree,
    plot_pieces,
)
from workbench.tokenizer import load_tokenizer

HELLO = load_tokenizer(
    bpe(
        [*"helo<>script/", "ll", "lo", "he", "llo", "hello"],
        ["l l", "ll o", "l o", "h e", "he llo"],
        pre="gpt-2",
    )
)
LADDER = load_tokenizer(ladder_spm())


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_pieces_stand_one_after_another_and_lines_break():
    placed = place_pieces(LADDER.trace("abcd ab").snapshot(), width=6)
    assert [(part.text, part.column, part.row) for part in placed] == [
        ("<s>", 0, 0), ("▁ab", 3, 0), ("cd", 0, 1), ("▁ab", 2, 1)
    ]  # fmt: skip


def test_a_piece_longer_than_a_line_is_cut():
    placed = place_pieces(LADDER.trace("<tool>", add_special=False).snapshot(), width=4)
    assert [(part.text, part.column, part.row) for part in placed] == [
        ("<too", 0, 0), ("l>", 0, 1)
    ]  # fmt: skip


def test_neighbours_have_different_tints_and_special_tokens_their_own():
    ax = plot_pieces(LADDER.trace("abcd").snapshot(), Figure(figsize=(8, 1)).subplots())
    assert texts(ax) == ["<s>", "▁ab", "cd"]
    colours = [to_hex(box.get_facecolor()) for box in ax.patches]
    assert colours == [SPECIAL, TINTS[1], TINTS[0]]


def test_a_step_shows_plain_symbols_and_frames_what_it_made():
    ax = plot_pieces(HELLO.trace("hello").snapshot(2), Figure().subplots())
    assert texts(ax) == ["h", "e", "llo"]
    assert {to_hex(box.get_facecolor()) for box in ax.patches} == {PLAIN}
    assert [to_hex(box.get_edgecolor()) == FRESH for box in ax.patches] == [False, False, True]


def test_text_is_readable_on_every_tint():
    for back, fore in ((SPECIAL, "white"), *((tint, "black") for tint in (*TINTS, PLAIN))):
        one, other = luminance(back), luminance(fore)
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) > 4.5  # WCAG 2


def luminance(colour):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_html_escapes_the_text_and_shows_the_ids():
    html = pieces_html(HELLO.trace("<script>hello").snapshot())
    assert "<script" not in html and "&lt;" in html
    assert f">{HELLO.encode('hello')[0]}&nbsp;" in html
    assert "ids none yet" in pieces_html(HELLO.trace("hello").snapshot(1))


def test_a_piece_without_ids_says_so():
    assert ">—&nbsp;" in pieces_html(HELLO.trace("h!").snapshot())


def test_leaves_stand_in_a_row_and_parents_above_the_middle():
    placed = place_tree(HELLO.trace("hello").words[0].tree())
    at = {(node.node.symbol, node.node.start): (node.x, node.y) for node in placed}
    assert [at[leaf][1] for leaf in (("h", 0), ("e", 1), ("l", 2), ("l", 3), ("o", 4))] == [0] * 5
    assert (at["ll", 2][1], at["llo", 2][1], at["hello", 0][1]) == (1, 2, 3)
    assert at["ll", 2][0] == (at["l", 2][0] + at["l", 3][0]) / 2


def test_the_tree_names_steps_ranks_and_ids():
    (word,) = HELLO.trace("hello").words
    ax = plot_merge_tree(word.tree(), Figure().subplots())
    drawn = texts(ax)
    assert {"h", "llo", "hello", "0: rank 0", "3: rank 4", f"#{word.token_ids[0]}"} <= set(drawn)
    assert len(ax.lines) == 8  # two below each of the four merges


def test_merges_of_later_steps_are_pale():
    tree = HELLO.trace("hello").words[0].tree()
    ax = plot_merge_tree(tree, Figure().subplots(), n_steps=1)
    colours = {text.get_text(): text.get_color() for text in ax.texts}
    assert colours["ll"] == "#000000" != colours["llo"]


def test_a_word_left_in_parts_has_several_trees():
    ax = plot_merge_tree(LADDER.trace("abcd").words[0].tree(), Figure().subplots())
    assert sum(text.startswith("#") for text in texts(ax)) == 2


def test_a_tree_too_wide_to_read_is_refused():
    tree = HELLO.trace("l" * 121).words[0].tree()
    with pytest.raises(ParameterError, match="at most 120, got 121; print it"):
        plot_merge_tree(tree, Figure().subplots())


def test_ranks_of_winners_and_losers():
    (word,) = HELLO.trace("hello").words
    ax = plot_merge_ranks(word, Figure().subplots())
    lost, won = (line.get_xydata().tolist() for line in ax.lines)
    assert won == [[0, 0], [1, 1], [2, 3], [3, 4]]
    assert lost == [[0, 2], [0, 3], [1, 3]]
    assert texts(ax) == ["ll", "llo", "he", "hello"] and ax.get_ylabel() == "rank of the merge"


def test_scores_where_the_vocabulary_has_scores():
    ax = plot_merge_ranks(LADDER.trace("abcd").words[0], Figure().subplots())
    assert ax.get_ylabel() == "score"
    assert ax.lines[1].get_ydata()[0] == -1.0


def test_nothing_to_draw_is_an_empty_picture_or_says_so():
    assert not texts(plot_pieces(HELLO.trace("").snapshot(), Figure().subplots()))
    (word,) = HELLO.trace("h").words
    assert texts(plot_merge_ranks(word, Figure().subplots())) == ["no merges in this word"]


def test_without_an_ax_the_figure_fits_what_is_drawn():
    trace = HELLO.trace("hello hello hello")
    one, three = (plot_pieces(trace.snapshot(0), width=width).figure for width in (80, 5))
    assert three.get_size_inches()[1] > 2 * one.get_size_inches()[1]
    assert texts(plot_merge_tree(trace.words[0].tree())) and texts(plot_merge_ranks(trace.words[0]))
    plt.close("all")


def test_snapshots_end_with_the_ids():
    trace = LADDER.trace("abcd<tool>a")
    assert [i for piece in trace.snapshot().pieces for i in piece.token_ids] == trace.ids
    start = trace.snapshot(0)
    assert (start.last, start.word, start.step_in_word) == (None, 0, 0)
    assert [piece.symbol for piece in start.pieces] == [
        "<s>", "▁", "a", "b", "c", "d", "<tool>", "▁", "a"
    ]  # fmt: skip
    end = trace.snapshot(trace.snapshot().n_steps)
    assert (end.word, end.last.result) == (1, "▁a")


@pytest.mark.parametrize("step", [-1, 10, 0.5, "1"])
def test_a_step_outside_the_trace_is_refused(step):
    with pytest.raises(ParameterError, match="step: outside the trace; expected 0 to 4"):
        HELLO.trace("hello").snapshot(step)
