"""One text in several tokenizers as rows of boxes; what is cut differently stands out.

Grey where all agree, blue and orange in turn where they part: told apart also by colour-blind eyes.
Source: colours of Okabe and Ito. Left out: computing, which `analysis.tokenizer_compare` does.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..analysis.tokenizer_compare import ComparedToken, TokenizerComparison
from .glyphs import FONT, drawable

__all__ = ["plot_tokenizer_comparison"]

SAME, DIFFERENT = "#dddddd", ("#56b4e9", "#e69f00")
GLYPH_WIDTH = 0.62  # of the font size


def plot_tokenizer_comparison(
    result: TokenizerComparison, ax: Axes | None = None, start: int = 0, width: int = 60
) -> Axes:
    """Draw a row of boxes for each tokenizer over the bytes start..start + width of the text.

    result: of `analysis.compare_tokenizers`. A box is a token; its text is written into it where
    there is room. Tokens without bytes of the text are not drawn. Returns ax.
    """
    n = len(result.names)
    if ax is None:
        ax = plt.subplots(figsize=(12, 0.8 + 0.45 * n), layout="constrained")[1]
    end = min(start + width, len(result.text.encode()))
    ax.set_xlim(start, max(end, start + 1))
    ax.set_ylim(n - 0.4, -0.6)
    ax.set_yticks(range(n), result.names)
    ax.set_xlabel("byte of the text")
    ax.set_title(f"{result.agreement:.0%} of the bytes are cut alike")
    points = ax.get_window_extent().width * 72 / ax.figure.dpi / max(end - start, 1)
    for row in range(n):
        number = 0
        for segment in result.segments:
            for token in segment.tokens[row]:
                if token.start < end and token.end > start:
                    colour = SAME if segment.same else DIFFERENT[number % 2]
                    _draw(ax, token, row, colour, points)
                number += 1
    return ax


def _draw(ax: Axes, token: ComparedToken, row: int, colour: str, points: float) -> None:
    if token.end == token.start:
        return
    size = token.end - token.start
    style = {"facecolor": colour, "edgecolor": "white", "linewidth": 1}
    ax.add_patch(Rectangle((token.start, row - 0.4), size, 0.8, **style))
    text = drawable(token.piece.decode("utf-8", "backslashreplace").replace("\n", "↵"))
    font = min(9.0, size * points / (GLYPH_WIDTH * max(len(text), 1)))
    if font >= 5:
        style = {"ha": "center", "va": "center", "fontsize": font, "family": FONT}
        middle = token.start + size / 2
        ax.text(middle, row, text, clip_on=True, parse_math=False, **style)
