from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from workbench.analysis.generated_text import GeneratedText
from workbench.errors import ParameterError
from workbench.plots.generated_text import (
    generated_text_html,
    place_tokens,
    plot_generated_text,
    probability_colours,
)
from workbench.plots.token_colours import COLOURS

RESULT = GeneratedText(
    prompt="Hi <b>",
    texts=(" you", "\n", "<script>", ""),
    token_ids=np.array([1, 2, 3, 4], np.int32),
    probs=np.array([0.9, 0.5, 0.02, 1.0]),
    stop="eog",
)


def test_html_escapes_all_that_the_model_and_the_user_wrote():
    html = generated_text_html(RESULT)
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "Hi &lt;b&gt;" in html and "<br>" in html


def test_html_shows_each_probability_as_colour_and_tooltip():
    html = generated_text_html(RESULT)
    for token_id, p in zip(RESULT.token_ids, RESULT.probs, strict=True):
        assert f"token {token_id}, probability {p:.3f}" in html
        assert f"background:{to_hex(COLOURS(p))}" in html
    assert "end of text" in html and "linear-gradient" in html


def test_text_is_readable_on_every_colour():
    for p in np.linspace(0, 1, 50):
        back, fore = (to_luminance(colour) for colour in probability_colours(p))
        assert (max(back, fore) + 0.05) / (min(back, fore) + 0.05) > 4.4  # WCAG 2 asks for 4.5


def to_luminance(colour):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def test_tokens_stand_one_after_another_and_lines_break():
    parts = place_tokens(RESULT, width=12)
    assert [(part.text, part.column, part.row) for part in parts] == [
        ("Hi ", 0, 0),
        ("<b>", 3, 0),
        (" you", 6, 0),
        ("<script>", 0, 1),
    ]


def test_a_token_that_does_not_fit_starts_a_line_and_a_longer_one_is_cut():
    long = GeneratedText("", ("abc", "def", "x" * 9), np.arange(3), np.ones(3), None)
    assert [(part.text, part.column, part.row) for part in place_tokens(long, 4)] == [
        ("abc", 0, 0),
        ("def", 0, 1),
        ("xxxx", 0, 2),
        ("xxxx", 0, 3),
        ("x", 0, 4),
    ]


def test_the_picture_has_one_coloured_box_for_each_token():
    ax = plot_generated_text(RESULT, Figure(figsize=(8, 1)).subplots(), width=12)
    boxes = [(box.get_x(), box.get_y(), box.get_width()) for box in ax.patches]
    assert boxes == [(0, 0, 3), (3, 0, 3), (6, 0, 4), (0, 1, 8)]
    assert to_hex(ax.patches[2].get_facecolor()) == to_hex(COLOURS(0.9))
    assert [text.get_text() for text in ax.texts] == ["Hi ", "<b>", " you", "<script>"]


def test_colours_can_say_the_rank_of_each_token():
    judged = replace(RESULT, ranks=np.array([0, 9, 99, 500]), entropies=np.zeros(4))
    ax = plot_generated_text(judged, Figure(figsize=(8, 1)).subplots(), 12, colour="rank")
    found = [to_hex(box.get_facecolor()) for box in ax.patches[2:]]
    assert found == [to_hex(COLOURS(0.0)), to_hex(COLOURS(1.0))]  # ranks 1 and 100 of 1 to 100
    with pytest.raises(ParameterError, match="expected one of prob, rank, entropy, surprise"):
        plot_generated_text(RESULT, Figure().subplots(), colour="hue")


def test_an_empty_text_is_an_empty_picture():
    empty = GeneratedText("", (), np.array([], np.int32), np.array([]), None)
    assert not plot_generated_text(empty, Figure().subplots()).texts
    assert "0 <span" in generated_text_html(empty)
