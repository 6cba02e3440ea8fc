"""Pictures of a file's contents: a treemap, bars by role, layer or type, and memory by part.

Source: colours of Okabe and Ito, "Color Universal Design" (2008), told apart by colour-blind eyes.
Left out: all computing, which `analysis.file_map` does.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from ..analysis.file_map import Memory, SizeBy, Treemap, TreemapRect

__all__ = ["plot_memory", "plot_size_by", "plot_treemap"]

MIB = 2**20
COLOURS = {
    "embedding": "#56B4E9",
    "attention": "#E69F00",
    "feed-forward": "#009E73",
    "norms": "#F0E442",
    "output": "#CC79A7",
    "other": "#999999",
    "metadata": "#000000",
    "KV cache": "#0072B2",
}
FONT = 8  # points, of labels inside rectangles
GLYPH_WIDTH = 0.62  # of the font size: a mean for the default font, on the safe side


def plot_treemap(treemap: Treemap, ax: Axes | None = None) -> Axes:
    """Draw the rectangles of a treemap, coloured by part of the model; area stands for bytes.

    A rectangle is named where the name fits; a layer is named in its upper left corner.
    """
    ax = _axes(ax, (10, 6))
    ax.set_xlim(0, treemap.width)
    ax.set_ylim(treemap.height, 0)
    ax.set_axis_off()
    ax.set_title(f"{_size(treemap.nbytes)} of tensors, area = bytes")
    for rect in treemap.roles:
        style = {"facecolor": COLOURS[rect.part], "edgecolor": "white", "linewidth": 0.5}
        ax.add_patch(_box(rect, **style))
    for group in treemap.groups:
        ax.add_patch(_box(group, fill=False, edgecolor="white", linewidth=2.5))
    points = _points_per_unit(ax, treemap)
    layers = [group for group in treemap.groups if group.name.startswith("layer ")]
    taken = [box for group in layers for box in _corner_label(ax, group, points)]
    for rect in treemap.roles:
        _label(ax, rect, points, taken)
    _part_legend(ax, treemap)
    return ax


def plot_size_by(sizes: SizeBy, ax: Axes | None = None) -> Axes:
    """Bars of the sizes in MiB: upright in order for layers, else lying, the largest on top."""
    names = [_printable(size.name) for size in sizes.sizes]
    mib = [size.nbytes / MIB for size in sizes.sizes]
    if sizes.by == "layer":
        ax = _axes(ax, (max(6, 0.25 * len(names)), 4))
        ax.bar(names, mib, color=COLOURS["KV cache"])
        ax.set_xlabel("layer (none: outside of the layers)")
        ax.set_ylabel("size (MiB)")
        ax.tick_params(axis="x", rotation=90 if len(names) > 20 else 0)
    else:
        ax = _axes(ax, (8, 1 + 0.3 * len(names)))
        bars = ax.barh(names, mib, color=COLOURS["KV cache"])
        labels = [f"{_size(s.nbytes)}, {s.bits_per_weight:.3g} bpw" for s in sizes.sizes]
        _label_bars(ax, bars, labels)
        ax.set_ylabel(sizes.by)
    ax.set_title(f"{_size(sizes.nbytes)} of tensors by {sizes.by}")
    return ax


def plot_memory(memory: Memory, ax: Axes | None = None) -> Axes:
    """Lying bars of the file's parts in MiB, and of the KV cache where its size is known."""
    named = {**memory.parts}
    if memory.kv_cache is not None:
        named["KV cache"] = memory.kv_cache
    ax = _axes(ax, (8, 1 + 0.35 * len(named)))
    names = [f"KV cache (f16, n_ctx {memory.n_ctx})" if n == "KV cache" else n for n in named]
    mib = [nbytes / MIB for nbytes in named.values()]
    bars = ax.barh(names, mib, color=[COLOURS[name] for name in named])
    _label_bars(ax, bars, [_size(nbytes) for nbytes in named.values()])
    ax.set_title(f"{_size(memory.total)} in all")
    return ax


def _axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def _label_bars(ax: Axes, bars, labels: list[str]) -> None:
    """Write a label behind each lying bar, the first bar on top, with room for the text."""
    ax.bar_label(bars, labels, padding=3, fontsize=FONT)
    ax.margins(x=0.35)
    ax.set_ylim(max(len(labels), 4) - 0.5, -0.5)  # downwards; one bar alone stays a bar
    ax.set_xlabel("size (MiB)")


def _box(rect: TreemapRect, **style) -> Rectangle:
    return Rectangle((rect.x, rect.y), rect.width, rect.height, **style)


def _points_per_unit(ax: Axes, treemap: Treemap) -> tuple[float, float]:
    """Points (1/72 inch) on paper for one unit of the map's width and height."""
    box = ax.get_window_extent()
    scale = 72 / ax.figure.dpi
    return box.width * scale / treemap.width, box.height * scale / treemap.height


def _label(
    ax: Axes,
    rect: TreemapRect,
    points: tuple[float, float],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write a role into the middle of its rectangle, lying or upright, if it fits there."""
    text = _printable(rect.name)
    long, high = len(text) * FONT * GLYPH_WIDTH, 1.4 * FONT
    x, y = rect.x + rect.width / 2, rect.y + rect.height / 2
    for rotation, across, down in ((0, long, high), (90, high, long)):
        across, down = across / points[0], down / points[1]
        free = not any(
            x - across / 2 < right and left < x + across / 2 and y - down / 2 < low and top < y
            for left, top, right, low in taken
        )
        if across < rect.width and down < rect.height and free:
            style = {"ha": "center", "va": "center", "fontsize": FONT, "parse_math": False}
            ax.text(x, y, text, rotation=rotation, color=_ink(COLOURS[rect.part]), **style)
            return


def _corner_label(
    ax: Axes, group: TreemapRect, points: tuple[float, float]
) -> list[tuple[float, float, float, float]]:
    """Write a layer's name into its upper left corner, if the layer is large enough for it.

    Returns: what that covers, as (left, top, right, low) in units of the map; or nothing.
    """
    long, high = (len(group.name) + 2) * FONT * GLYPH_WIDTH, 2 * FONT
    if group.width * points[0] < long or group.height * points[1] < 3 * high:
        return []
    ax.annotate(
        group.name,
        (group.x, group.y),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        fontsize=FONT,
        fontweight="bold",
        color="black",
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1},
    )
    return [(group.x, group.y, group.x + long / points[0], group.y + high / points[1])]


def _part_legend(ax: Axes, treemap: Treemap) -> None:
    """A legend of the parts that occur, with their sizes, below the map."""
    totals: dict[str, int] = {}
    for rect in treemap.roles:
        totals[rect.part] = totals.get(rect.part, 0) + rect.nbytes
    handles = [
        Patch(color=COLOURS[part], label=f"{part} {_size(totals[part])}")
        for part in COLOURS
        if part in totals
    ]
    if handles:
        columns = min(len(handles), 3)
        ax.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=columns,
            frameon=False,
        )


def _ink(colour: str) -> str:
    """Black or white, whichever is read better on `colour`."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.4 else "white"


def _size(nbytes: int) -> str:
    """Bytes as text in MiB, small ones in KiB."""
    mib = nbytes / MIB
    if mib >= 1000:
        return f"{mib:,.0f} MiB"
    return f"{mib:.3g} MiB" if mib >= 0.1 or not nbytes else f"{nbytes / 1024:.3g} KiB"


def _printable(name: str) -> str:
    """A name from the file without characters that no font draws."""
    return repr(name)[1:-1]
