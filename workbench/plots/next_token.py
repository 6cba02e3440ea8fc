"""Bars of the next token's probabilities: what the model gave, and what the samplers left.

Colours are Okabe and Ito's, which stay apart for colour-blind readers.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..analysis.next_token import NextToken
from .glyphs import FONT, drawable

KEPT, REMOVED, AFTER = "#9ecae1", "#e69f00", "#0072b2"
MAX_LABEL = 18  # characters of a piece beside its bar


def plot_next_token(result: NextToken, ax: Axes) -> Axes:
    """Draw two bars for each token: before the chain (kept or removed) and after it.

    result: from `analysis.next_token`. Returns ax.
    """
    rows = np.arange(len(result.ids))
    removed = np.array([name is not None for name in result.removed_by])
    for chosen, colour, label in (
        (~removed, KEPT, "model: kept"),
        (removed, REMOVED, "model: removed"),
    ):
        if chosen.any():  # matplotlib's legend would give an empty group another colour
            ax.barh(rows[chosen] - 0.2, result.probs_before[chosen], 0.4, color=colour, label=label)
    ax.barh(rows[~removed] + 0.2, result.probs_after[~removed], 0.4, color=AFTER, label="samplers")
    _label_rows(result, ax)
    ax.set_xlabel("probability")
    ax.set_title(
        f"{result.n_kept} of {result.n_vocab} tokens left, entropy "
        f"{result.entropy_before:.2f} → {result.entropy_after:.2f} nats",
        fontsize=10,
    )
    ax.legend(loc="lower right", fontsize=8, frameon=False)
    return ax


def _label_rows(result: NextToken, ax: Axes) -> None:
    longest = max(result.probs_before.max(), result.probs_after.max())
    ax.set_xlim(0, longest * 1.15)
    ax.set_ylim(len(result.ids) - 0.4, -0.6)  # the most probable token on top
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_yticks([])  # plain texts instead: ticks take a third of the time of the whole picture
    for row, (piece, remover) in enumerate(zip(result.pieces, result.removed_by, strict=True)):
        short = piece if len(piece) <= MAX_LABEL else piece[: MAX_LABEL - 1] + "…"
        at_left = {"transform": ax.get_yaxis_transform(), "ha": "right", "family": FONT}
        ax.text(
            -0.01, row, drawable(short), va="center_baseline", size=8, parse_math=False, **at_left
        )
        if remover is not None:
            x = result.probs_before[row] + longest * 0.01
            ax.text(x, row - 0.2, remover, va="center", size=7)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
