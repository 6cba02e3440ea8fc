"""Pictures of a file from its header: the strip of its bytes, types by layer and role, memory.

Source: colours of Okabe and Ito and cividis, which stay apart for colour-blind eyes.
Left out: all computing, which `gguf/layout.py` and `analysis/memory_model.py` do.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ..analysis.memory_model import MemoryModel
from ..errors import ParameterError
from ..gguf import FileLayout, Span
from ..gguf.types import GGML_TYPES

__all__ = ["plot_file_strip", "plot_memory_model", "plot_type_matrix"]

MB = 1e6
NAMED = 0.08  # of the strip: keys of longer values are named
KINDS = {
    "header": "#000000",
    "metadata": "#CC79A7",
    "infos": "#E69F00",
    "padding": "#BBBBBB",
    "trailing": "#777777",
}
TENSORS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#F0E442", "#7F5FA8")
TERMS = ("#0072B2", "#E69F00", "#F0E442", "#009E73", "#CC79A7")


def plot_file_strip(layout: FileLayout, shard: int = 0, axes: np.ndarray | None = None) -> list:
    """Draw the bytes of a file as two strips: all of it, and what lies before the first tensor.

    layout: of a GGUFFile. shard: which file of a split model. axes: two Axes. Returns: both.
    Raises: ParameterError for a file that is not there.
    """
    spans = [span for span in layout.spans if span.shard == shard]
    if not spans:
        raise ParameterError(
            f"shard: no such file; expected from 0 to {len(layout.paths) - 1}, got {shard!r}"
        )
    if axes is None:
        _, axes = plt.subplots(2, 1, figsize=(10, 3), layout="constrained")
    tensors = [span for span in spans if span.kind == "tensor"]
    start = tensors[0].start if tensors else spans[-1].end
    colours = _colours(tensors)
    _strip(axes[0], spans, colours, MB)
    _strip(axes[1], [span for span in spans if span.end <= start], colours, 1e3)
    _name_keys(axes[1], spans)
    axes[0].set_xlabel("byte of the whole file (MB)")
    axes[1].set_xlabel("byte before the first tensor (kB)")
    shown = dict.fromkeys(_label(span) for span in spans)
    handles = [Patch(color=colours[label], label=label) for label in shown]
    axes[0].legend(
        handles=handles, ncols=8, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1)
    )
    return list(axes)


def _name_keys(ax: Axes, spans: list[Span]) -> None:
    """Write the keys whose values are long enough for it."""
    for span in spans:
        middle, width = (span.start + span.end) / 2e3, span.nbytes / 1e3
        if span.kind == "metadata" and width > NAMED * ax.get_xlim()[1]:
            name = span.name.removeprefix("tokenizer.ggml.")
            ax.text(middle, 0.5, name, ha="center", va="center", fontsize=8)


def _label(span: Span) -> str:
    return f"tensors {span.type}" if span.kind == "tensor" else span.kind


def _colours(tensors: list[Span]) -> dict[str, str]:
    types = dict.fromkeys(_label(span) for span in tensors)
    return KINDS | {label: TENSORS[i % len(TENSORS)] for i, label in enumerate(types)}


def _strip(ax: Axes, spans: list[Span], colours: dict[str, str], unit: float) -> None:
    """Spans of a kind that touch are one bar, with a thin white line between tensors and keys."""
    for label in dict.fromkeys(_label(span) for span in spans):
        bars = [(s.start / unit, s.nbytes / unit) for s in spans if _label(s) == label]
        ax.broken_barh(bars, (0, 1), color=colours[label], edgecolor="white", linewidth=0.3)
    end = spans[-1].end / unit if spans else 1
    ax.set(xlim=(0, end), ylim=(0, 1), yticks=[])
    ax.spines[["top", "left", "right"]].set_visible(False)


def plot_type_matrix(types: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw types by layer and role: colour is bits a weight, and each cell is named.

    types: layers down, roles across, type names or ""; as `GGUFDiff.types`, of which the last
    type of "F16 → Q4_0" gives the colour. Returns ax.
    """
    rows, columns = types.shape
    if ax is None:
        size = (1.2 + 0.75 * columns, 1.0 + 0.28 * rows)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    bits = np.array([[_bits(cell) for cell in row] for row in types.to_numpy()])
    image = ax.imshow(bits, aspect="auto", cmap="cividis", vmin=0, vmax=max(16, np.nanmax(bits)))
    for row, column in np.argwhere(~np.isnan(bits)):
        cell = types.iat[row, column].split(" → ")[-1]
        dark = bits[row, column] > 0.6 * image.get_clim()[1]
        style = {"ha": "center", "va": "center", "fontsize": 7}
        ax.text(column, row, cell, color="black" if dark else "white", **style)
    ax.set_xticks(range(columns), types.columns, rotation=45, ha="right", fontsize=8)
    ax.set_yticks(range(rows), types.index, fontsize=8)
    ax.set_ylabel("layer")
    ax.figure.colorbar(image, ax=ax, label="bits per weight")
    return ax


def _bits(cell: str) -> float:
    """Bits a weight of a cell's last type; NaN where there is none."""
    name = cell.split(" ")[-1]
    return GGML_TYPES[name].bits_per_weight if name in GGML_TYPES else float("nan")


def plot_memory_model(model: MemoryModel, ax: Axes | None = None) -> Axes:
    """Draw the terms of a memory model as one bar, in MB. Returns ax."""
    if ax is None:
        _, ax = plt.subplots(figsize=(10, 1.8), layout="constrained")
    left = 0.0
    for term, colour in zip(model.terms, TERMS, strict=False):
        width = term.nbytes / MB
        ax.barh(0, width, left=left, color=colour, label=f"{term.name}: {width:,.1f} MB")
        left += width
    ax.set(yticks=[], xlim=(0, left), xlabel=f"memory (MB): {left:,.1f} in all")
    ax.legend(fontsize=8, ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0))
    ax.spines[["top", "left", "right"]].set_visible(False)
    return ax
