"""The bars of `plots/next_token.py` as a PNG that is made anew at every move of a slider.

    still part    pieces, axis, frame      drawn once for each list of tokens, then copied
    moving part   bars, removers, title    drawn on top of the copy, then packed as PNG

The axis is the same for all settings, so that bars move and not the scale, and no layout engine
runs. Leaves out: what the bars mean; `plot_next_token` is the picture to keep.
"""

import io

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text

from ..analysis.next_token import NextToken
from .glyphs import FONT, drawable
from .next_token import AFTER, KEPT, MAX_LABEL, REMOVED

LEGEND = ((KEPT, "model: kept"), (REMOVED, "model: removed"), (AFTER, "samplers"))
FAST = 1  # of zlib's levels 0..9: three times as fast as the default, and a tenth larger


class NextTokenPicture:
    """Draws one NextToken after another quickly.

    dpi: pixels an inch; the picture is 5.6 inches wide and a fifth of an inch a row.
    """

    def __init__(self, dpi: int = 90) -> None:
        self._dpi = dpi
        self._drawn: tuple | None = None

    def png(self, result: NextToken) -> bytes:
        """The picture of a NextToken as the bytes of a PNG."""
        shown = (result.pieces, result.probs_before.tobytes())
        if shown != self._drawn:
            self._draw_still_part(result)
            self._drawn = shown
        self._canvas.restore_region(self._still)
        self._draw_moving_part(result)
        return png_of(self._canvas)

    def _draw_still_part(self, result: NextToken) -> None:
        n = len(result.ids)
        height = 0.84 + 0.2 * n  # inches
        figure = Figure(figsize=(5.6, height), dpi=self._dpi)
        self._canvas = FigureCanvasAgg(figure)
        self._ax = ax = figure.add_axes((0.26, 0.49 / height, 0.7, 1 - 0.79 / height))
        ax.set_xlim(0, 1)
        ax.set_ylim(n - 0.4, -0.6)  # the most probable token on top
        ax.set_yticks([])
        ax.set_xlabel("probability")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for row, piece in enumerate(result.pieces):
            short = piece if len(piece) <= MAX_LABEL else piece[: MAX_LABEL - 1] + "…"
            label = {"size": 8, "family": FONT, "parse_math": False, "va": "center_baseline"}
            ax.text(-0.012, row, drawable(short), ha="right", **label)
        colours = [Patch(color=colour, label=name) for colour, name in LEGEND]
        ax.legend(handles=colours, loc="lower right", fontsize=8, frameon=False)
        self._canvas.draw()
        self._still = self._canvas.copy_from_bbox(figure.bbox)

    def _draw_moving_part(self, result: NextToken) -> None:
        renderer = self._canvas.get_renderer()
        for artist in moving_artists(result, self._ax):
            artist.draw(renderer)


def moving_artists(result: NextToken, ax: Axes) -> list[Artist]:
    """Bars, the names of those that removed a token, and the title, not yet added to ax."""
    artists = []
    rows = zip(result.probs_before, result.probs_after, result.removed_by, strict=True)
    for row, (before, after, remover) in enumerate(rows):
        colour = KEPT if remover is None else REMOVED
        artists.append(Rectangle((0, row - 0.4), before, 0.4, facecolor=colour))
        if remover is None:
            artists.append(Rectangle((0, row), after, 0.4, facecolor=AFTER))
        else:
            artists.append(Text(before + 0.008, row - 0.2, remover, va="center", size=7))
    title = (
        f"{result.n_kept} of {result.n_vocab} tokens left, entropy "
        f"{result.entropy_before:.2f} → {result.entropy_after:.2f} nats"
    )
    artists.append(Text(0.5, -0.9, title, size=10, ha="center", va="bottom"))
    for artist in artists:
        artist.set_figure(ax.figure)
        artist.set_transform(ax.transData)
    return artists


def png_of(canvas: FigureCanvasAgg) -> bytes:
    """What stands on a canvas as the bytes of a PNG."""
    png = io.BytesIO()
    pixels = np.asarray(canvas.buffer_rgba())
    imsave(png, pixels, format="png", pil_kwargs={"compress_level": FAST})
    return png.getvalue()
