"""Generated text with each token on a colour that shows its probability, or another measure.

Two forms of the same picture: matplotlib (also on GitHub) and HTML (in a panel, with tooltips).
Leaves out: measures other than the probability in HTML.
"""

import re
from html import escape
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle

from ..analysis.generated_text import GeneratedText
from .glyphs import FONT, drawable
from .token_colours import TOKEN_MEASURES, colour_scale, readable_colours

ADVANCE = 0.602  # width of a DejaVu Sans Mono character, as a share of the font size
PROBABILITY = colour_scale("prob")
MARKS = {"eog": "■ end of text", "max_tokens": "… max_tokens", "n_ctx": "… context full"}


class Part(NamedTuple):
    """A run of characters on one line of the picture; value is None in the prompt."""

    text: str
    column: int
    row: int
    value: float | None


def probability_colours(p: float) -> tuple[str, str]:
    """Background and readable foreground for a probability, as #rrggbb."""
    return readable_colours(p, PROBABILITY)


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


def plot_generated_text(
    result: GeneratedText, ax: Axes, width: int = 80, colour: str = "prob"
) -> Axes:
    """Draw the text in a grid of `width` characters a line, each token on its colour.

    result: from `analysis.generated_text`. colour: one of TOKEN_MEASURES; "rank" and "entropy" need
    a text of `analysis.judged_text`. Returns ax; its figure should be about as high as a fifth of
    an inch a line. Raises: ParameterError for another colour.
    """
    scale = colour_scale(colour)
    bar = ax.figure.colorbar(scale, ax=ax, fraction=0.02, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_title(TOKEN_MEASURES[colour].short, fontsize=8)
    parts = place_tokens(result, width, colour)
    ax.set_xlim(0, width)
    ax.set_ylim(parts[-1].row + 1 if parts else 1, 0)
    ax.set_axis_off()
    ax.figure.draw_without_rendering()  # lays the figure out, so that the width below is final
    points = ax.get_window_extent().width / ax.figure.dpi * 72
    for part in parts:
        _draw_part(ax, part, scale, size=min(points / width / ADVANCE, 11))
    return ax


def place_tokens(result: GeneratedText, width: int, measure: str = "prob") -> list[Part]:
    """Where each token stands in lines of `width` characters; the prompt's words have no value."""
    words = [(word, None) for word in re.split(r"(?<=\s)", result.prompt)]
    parts, column, row = [], 0, 0
    values = result.measure(measure).tolist()
    for text, value in [*words, *zip(result.texts, values, strict=True)]:
        for i, line in enumerate(drawable_lines(text)):
            if i or column + len(line) > width:
                column, row = 0, row + 1
            for start in range(0, len(line), width):  # a piece longer than a line is cut
                column = 0 if start else column
                row += bool(start)
                cut = line[start : start + width]
                parts.append(Part(cut, column, row, value))
                column += len(cut)
    return parts


def drawable_lines(text: str) -> list[str]:
    """The lines of a text, with what the font cannot draw escaped."""
    return [drawable(line) for line in text.split("\n")]


def _draw_part(ax: Axes, part: Part, scale: ScalarMappable, size: float) -> None:
    back, fore = ("none", "#666666")
    if part.value is not None:
        back, fore = readable_colours(part.value, scale)
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
