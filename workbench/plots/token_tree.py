"""The tree of texts: tokens in columns by position, branches in rows, on colours.

Leaves out: texts of more tokens than fit side by side; pass the ends of shorter ones.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ..analysis.token_tree import TokenNode, TokenTree
from .glyphs import FONT, drawable
from .token_colours import TOKEN_MEASURES, colour_scale, readable_colours

__all__ = ["plot_token_tree"]

LONGEST = 12  # characters of a token


def plot_token_tree(
    tree: TokenTree, ax: Axes, colour: str = "prob", ends: Sequence[TokenNode] | None = None
) -> Axes:
    """Draw a tree from left to right; each branch on a line of its own, joined to its parent.

    colour: one of TOKEN_MEASURES; ends: the last nodes of the texts to draw, by default all.
    Returns ax. Raises: ParameterError for another colour.
    """
    scale = colour_scale(colour)
    rows = rows_of(tree, tree.leaves if ends is None else ends)
    column = {n.number: len(tree.path(n)) - 1 for n in tree.nodes if n.number in rows}
    for number, row in rows.items():
        node = tree.nodes[number]
        if node.parent is None:
            continue
        ax.plot(
            [column[node.parent], column[number]], [rows[node.parent], row],
            color="#999999", lw=0.8, zorder=1,
        )  # fmt: skip
        _draw(ax, column[number], row, node.text, scale, _value(node, colour))
    ax.text(0, 0, "prompt", ha="center", va="center", fontsize=8, zorder=3, color="#666666")
    ax.set_xlim(-0.7, max(column.values(), default=0) + 0.7)
    ax.set_ylim(max(rows.values(), default=0) + 0.6, -0.6)
    ax.set_yticks([])
    ax.set_xlabel("tokens after the prompt")
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.figure.colorbar(scale, ax=ax, fraction=0.025, pad=0.01, label=TOKEN_MEASURES[colour].words)
    return ax


def rows_of(tree: TokenTree, ends: Sequence[TokenNode]) -> dict[int, int]:
    """The line of each node: a text's own tokens share one, the first text has line 0."""
    rows: dict[int, int] = {}
    for row, end in enumerate(ends):
        for node in tree.path(end):
            rows.setdefault(node.number, row)
    return rows


def _value(node: TokenNode, measure: str) -> float:
    return node.rank + 1 if measure == "rank" else getattr(node, measure)


def _draw(ax: Axes, x: float, y: float, text: str, scale, value: float) -> None:
    back, fore = readable_colours(value if np.isfinite(value) else scale.norm.vmax, scale)
    shown = drawable(text.replace("\n", "↵"))[:LONGEST] or "■"
    ax.text(
        x, y, shown, ha="center", va="center", fontsize=8, family=FONT, zorder=3,
        color=fore, parse_math=False,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": back, "edgecolor": "none"},
    )  # fmt: skip
