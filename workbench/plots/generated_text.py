"""Generated text with each token on a colour that shows its probability.

Two forms of the same picture: matplotlib (also on GitHub) and HTML (in a panel, with tooltips).
The scale is cividis: from dark to bright also in grey and for colour-blind readers.
"""

import re
from html import escape
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.patches import Rectangle

from ..analysis.generated_text import GeneratedText
from .glyphs import FONT, drawable

COLOURS = matplotlib.colormaps["cividis"]
ADVANCE = 0.602  # width of a DejaVu Sans Mono character, as a share of the font size
MARKS = {"eog": "■ end of text", "max_tokens": "… max_tokens", "n_ctx": "… context full"}


class Part(NamedTuple):
    """A run of characters on one line of the picture; p is None in the prompt."""

    text: str
    column: int
    row: int
    p: float | None


def probability_colours(p: float) -> tuple[str, str]:
    """Background and readable foreground for a probability, as #rrggbb."""
    red, green, blue, _ = COLOURS(float(p))
    # relative luminance as in WCAG 2 (gamma taken as 2.2); at 0.18 black and white read equally
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return to_hex((red, green, blue)), "#000000" if luminance > 0.18 else "#ffffff"


def generated_text_html(result: GeneratedText) -> str:
    """The text as HTML: one span a token, its probability in colour and tooltip, and a legend.

    Every piece of the model's output is escaped.
    """
    spans = [f'<span style="opacity:.7">{_lines(result.prompt)}</span>']
    for text, token_id, p in zip(result.texts, result.token_ids, result.probs, strict=True):
        back, fore = probability_colours(p)
        spans.append(
            f'<span title="token {token_id}, probability {p:.3f}" '
            f'style="background:{back};color:{fore}">{_lines(text)}</span>'
        )
    mark = f' <small style="opacity:.7">{MARKS[result.stop]}</small>' if result.stop else ""
    return (
        '<div style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.7">'
        f"{''.join(spans)}{mark}</div>{_legend()}"
    )


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _legend() -> str:
    stops = ",".join(probability_colours(p)[0] for p in np.linspace(0, 1, 9))
    return (
        '<div style="font-size:85%;margin-top:4px">probability under the model: 0 '
        '<span style="display:inline-block;width:120px;height:10px;'
        f'background:linear-gradient(to right,{stops})"></span> 1</div>'
    )


def plot_generated_text(result: GeneratedText, ax: Axes, width: int = 80) -> Axes:
    """Draw the text in a grid of `width` characters a line, each token on its colour.

    result: from `analysis.generated_text`. Returns ax; its figure should be about as high as a
    fifth of an inch a line.
    """
    scale = ScalarMappable(Normalize(0, 1), COLOURS)
    bar = ax.figure.colorbar(scale, ax=ax, ticks=[0, 0.5, 1], fraction=0.02, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_title("prob.", fontsize=8)
    parts = place_tokens(result, width)
    ax.set_xlim(0, width)
    ax.set_ylim(parts[-1].row + 1 if parts else 1, 0)
    ax.set_axis_off()
    ax.figure.draw_without_rendering()  # lays the figure out, so that the width below is final
    points = ax.get_window_extent().width / ax.figure.dpi * 72
    for part in parts:
        _draw_part(ax, part, size=min(points / width / ADVANCE, 11))
    return ax


def place_tokens(result: GeneratedText, width: int) -> list[Part]:
    """Where each token stands in lines of `width` characters; the prompt's words have no p."""
    words = [(word, None) for word in re.split(r"(?<=\s)", result.prompt)]
    parts, column, row = [], 0, 0
    for text, p in [*words, *zip(result.texts, result.probs, strict=True)]:
        for i, line in enumerate(drawable_lines(text)):
            if i or column + len(line) > width:
                column, row = 0, row + 1
            for start in range(0, len(line), width):  # a piece longer than a line is cut
                column = 0 if start else column
                row += bool(start)
                cut = line[start : start + width]
                parts.append(Part(cut, column, row, p))
                column += len(cut)
    return parts


def drawable_lines(text: str) -> list[str]:
    """The lines of a text, with what the font cannot draw escaped."""
    return [drawable(line) for line in text.split("\n")]


def _draw_part(ax: Axes, part: Part, size: float) -> None:
    back, fore = ("none", "#666666") if part.p is None else probability_colours(part.p)
    ax.add_patch(Rectangle((part.column, part.row), len(part.text), 1, facecolor=back, lw=0))
    ax.text(
        part.column,
        part.row + 0.5,
        part.text,
        color=fore,
        family=FONT,
        fontsize=size,
        va="center",
        parse_math=False,
    )
