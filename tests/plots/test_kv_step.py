"""Pictures of one step of a KV cache, read back."""

import re

import numpy as np
from matplotlib.figure import Figure

from workbench import plots
from workbench.plots.kv_story import MOST_TOKENS, story_html

SHARES = np.array([0.1, 0.6, 0.1, 0.2])
KEPT = np.array([True, False, True, True])


def axes():
    return Figure().add_subplot()


def test_the_map_shows_every_layer_and_frames_one():
    layers = np.stack([SHARES, SHARES[::-1], np.full(4, 0.25)])
    ax = axes()
    image = plots.plot_layer_shares(layers, ax, mark=1)
    np.testing.assert_array_equal(image.get_array(), layers)
    frame = ax.patches[0]
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((-0.5, 0.5), 4, 1)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("position looked at", "layer")


def test_bars_of_kept_and_evicted_positions_have_colours_of_their_own():
    ax = plots.plot_head_shares(SHARES, KEPT, axes())
    bars = {patch.get_label(): patch for patch in ax.patches}
    np.testing.assert_array_equal(bars["kept"].get_data().values, [0.1, 0, 0.1, 0.2])
    np.testing.assert_array_equal(bars["evicted"].get_data().values, [0, 0.6, 0, 0])
    assert bars["kept"].get_facecolor() != bars["evicted"].get_facecolor()
    all_kept = plots.plot_head_shares(SHARES, np.ones(4, bool), axes())
    assert [patch.get_label() for patch in all_kept.patches] == ["kept"]


def test_the_text_tells_each_share_crosses_out_the_evicted_and_escapes_pieces():
    html = story_html(["<b>", "␣a", "\\n", "&"], SHARES, KEPT)
    spans = re.findall(r'<span title="([^"]*)" style="([^"]*)">([^<]*)</span>', html)
    assert [text for *_, text in spans] == ["&lt;b&gt;", " a", "↵", "&amp;"]
    assert [title for title, *_ in spans][:2] == [
        "position 0, share 0.100",
        "position 1, share 0.600, evicted",
    ]
    assert ["line-through" in style for _, style, _ in spans] == [False, True, False, False]


def test_a_larger_share_is_darker():
    html = story_html(list("abcd"), SHARES, np.ones(4, bool))
    reds = [int(c, 16) for c in re.findall(r"background:#(..)", html)]
    assert reds[1] < reds[3] < reds[0] == reds[2]


def test_of_a_long_text_the_end_is_shown():
    n = MOST_TOKENS + 5
    html = story_html(["x"] * n, np.full(n, 1 / n), np.ones(n, bool))
    assert "5 tokens before" in html and html.count("<span") == MOST_TOKENS
