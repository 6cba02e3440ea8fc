"""Bars of what texts cost in each vocabulary, and of what an audit found.

Source: colours of Okabe and Ito, told apart by colour-blind eyes. Left out: all computing
(`analysis.vocabulary`, `analysis.vocabulary_texts`).
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ..analysis.vocabulary import VocabularyAudit
from ..analysis.vocabulary_texts import Fertility

__all__ = ["plot_fertility", "plot_vocabulary_audit"]

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
LABELS = {
    "bytes_per_token": "bytes a token",
    "tokens_per_word": "tokens a word",
    "tokens_per_character": "tokens a character",
    "n_tokens": "tokens",
}


def plot_fertility(
    result: Fertility, measure: str = "bytes_per_token", ax: Axes | None = None
) -> Axes:
    """Draw lying bars: a group for each text, in it a bar for each tokenizer.

    result: of `analysis.fertility`; measure: a column of its `table`. A text without the measure
    (words, where there are none) has no bar. Returns ax.
    """
    table = result.table(measure)
    if ax is None:
        figsize = (8, 1 + len(table) * (0.12 + 0.12 * len(table.columns)))
        ax = plt.subplots(figsize=figsize, layout="constrained")[1]
    rows, height = np.arange(len(table)), 0.8 / len(table.columns)
    for i, name in enumerate(table.columns):
        y = rows + (i - (len(table.columns) - 1) / 2) * height
        colour = COLOURS[i % len(COLOURS)]
        ax.barh(y, table[name].to_numpy(float), height, color=colour, label=name)
    ax.set_yticks(rows, table.index)
    ax.set_ylim(len(table) - 0.4, -0.6)  # the first text on top
    ax.set_xlabel(LABELS.get(measure, measure))
    ax.legend(fontsize=8, frameon=False)
    return ax


def plot_vocabulary_audit(result: VocabularyAudit, ax: Axes | None = None) -> Axes:
    """Draw a lying bar for each kind of finding, in tokens. Returns ax."""
    counts = result.counts()
    if ax is None:
        figsize = (7, 1 + 0.35 * max(len(counts), 1))
        ax = plt.subplots(figsize=figsize, layout="constrained")[1]
    bars = ax.barh(list(counts), list(counts.values()), color=COLOURS[0])
    ax.bar_label(bars, padding=3, fontsize=8)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.set_xlabel("tokens")
    ax.set_title(f"{result.model}: {result.n_tried:,} of {result.n_vocab:,} tokens tried")
    return ax
