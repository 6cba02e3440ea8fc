import io
from dataclasses import replace

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.plots.test_next_token import RESULT
from workbench.plots.next_token import AFTER, KEPT, REMOVED
from workbench.plots.next_token_picture import NextTokenPicture, moving_artists


def pixels(png):
    return imread(io.BytesIO(png), format="png")[..., :3]


def colours(png):
    rounded = np.unique((pixels(png) * 255).round().astype(int).reshape(-1, 3), axis=0)
    return {to_hex(rgb / 255) for rgb in rounded}


def test_bars_carry_probabilities_colours_and_removers():
    ax = Figure().subplots()
    artists = moving_artists(RESULT, ax)
    bars = [(to_hex(a.get_facecolor()), round(a.get_width(), 6)) for a in artists
            if hasattr(a, "get_width")]  # fmt: skip
    assert bars == [(KEPT, 0.5), (AFTER, 0.6), (KEPT, 0.3), (AFTER, 0.4), (REMOVED, 0.1)]
    texts = [a.get_text() for a in artists if hasattr(a, "get_text")]
    assert texts == ["top_p", "2 of 12 tokens left, entropy 1.25 → 0.67 nats"]


def test_a_picture_shows_all_colours_and_never_what_was_there_before():
    picture = NextTokenPicture()
    first = picture.png(RESULT)
    assert {KEPT, REMOVED, AFTER} <= colours(first)
    other = replace(RESULT, probs_after=np.array([1, 0, 0], np.float32), n_kept=1)
    second = picture.png(other)
    assert second != first and picture.png(RESULT) == first
    np.testing.assert_array_equal(pixels(second), pixels(NextTokenPicture().png(other)))


def test_other_tokens_get_other_labels():
    picture = NextTokenPicture()
    first = pixels(picture.png(RESULT))
    other = replace(RESULT, pieces=("␣a", "␣b", "␣c"))
    np.testing.assert_array_equal(pixels(picture.png(other)), pixels(NextTokenPicture().png(other)))
    assert (pixels(picture.png(other)) != first).any()


def test_one_token_and_many_fit_the_picture():
    for n in (1, 40):
        many = replace(
            RESULT,
            ids=np.arange(n, dtype=np.int32),
            pieces=("x",) * n,
            probs_before=np.full(n, 1 / n, np.float32),
            probs_after=np.full(n, 1 / n, np.float32),
            removed_by=(None,) * n,
        )
        assert {KEPT, AFTER} <= colours(NextTokenPicture().png(many))
