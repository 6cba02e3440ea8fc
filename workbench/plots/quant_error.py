"""Pictures of quantization: one block, error against bits, by value, by block, by layer and role.

Source: colours of Okabe and Ito, and cividis, which stay apart for colour-blind eyes.
Left out: all computing, which `analysis.quant_*` do.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from ..analysis.quant_codes import BlockZoom, CodeUsage, ScaleSpread
from ..analysis.quant_maps import ErrorByValue, ErrorMap

__all__ = [
    "plot_block",
    "plot_code_usage",
    "plot_error_by_value",
    "plot_error_change",
    "plot_error_heatmap",
    "plot_error_map",
    "plot_frontier",
    "plot_scales",
]

BEFORE, AFTER, ERROR, GRID = "#E69F00", "#0072B2", "#D55E00", "#BBBBBB"
FAMILIES = {  # first letters of a type -> marker, colour and name
    "IQ": ("D", "#CC79A7", "IQ types"),
    "TQ": ("v", "#D55E00", "ternary"),
    "MX": ("^", "#009E73", "4-bit floats"),
    "NV": ("^", "#009E73", "4-bit floats"),
    "K": ("s", "#0072B2", "K-quants"),
    "": ("o", "#E69F00", "one scale a block"),
}
MOST_LEVELS_DRAWN, MOST_CODES_WRITTEN = 64, 64
PLACES = ((6, 0), (-6, 0), (0, 8), (0, -8), (5, 8), (-5, 8), (5, -8), (-5, -8), (0, 17), (0, -17))


def plot_block(zoom: BlockZoom, ax: Axes | None = None) -> Axes:
    """Draw a block: weights before and after, the levels they may take, codes below.

    zoom: from `analysis.block_zoom`. Levels are drawn where there are at most 64, codes written
    where the block has at most 64 weights. Returns ax.
    """
    ax = _axes(ax, (10, 4))
    n, codes = len(zoom.x), zoom.codes
    _draw_levels(zoom, ax)
    places = np.arange(n)
    errors = np.stack([np.stack([places, zoom.x], 1), np.stack([places, zoom.y], 1)], 1)
    ax.add_collection(LineCollection(errors, colors=ERROR, linewidths=1.2, label="error"))
    size = 30 if n <= MOST_CODES_WRITTEN else 10
    ax.scatter(places, zoom.x, size, facecolors="none", edgecolors=BEFORE, label="before", zorder=3)
    ax.scatter(places, zoom.y, size / 2, color=AFTER, label="after", zorder=4)
    if n <= MOST_CODES_WRITTEN:
        style = {"transform": ax.get_xaxis_transform(), "ha": "center", "fontsize": 7}
        for place, code in zip(places, codes.codes, strict=True):
            ax.text(place, 0.02, f"{codes.levels[code]:g}", color=AFTER, **style)
    ax.margins(x=0.01, y=0.12)
    ax.set_xlim(-1, n)
    ax.set_xlabel("weight of the block (below the dots: its level)" if n <= 64 else "weight")
    ax.set_ylabel("value")
    title = f"{zoom.type}, row {zoom.row}, block {zoom.block}: RMSE {zoom.rmse:.3g}"
    ax.set_title(title, size=10, loc="left")
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
    ax.legend(fontsize=8, ncols=3, borderaxespad=0.2, **place)
    return ax


def _draw_levels(zoom: BlockZoom, ax: Axes) -> None:
    """Grey lines at the levels of each group, and its scale above."""
    values, group = zoom.level_values, zoom.codes.group
    ends = np.arange(len(values) + 1) * group - 0.5
    if values.shape[1] <= MOST_LEVELS_DRAWN:
        lines = [
            [(ends[g], level), (ends[g + 1], level)]
            for g, levels in enumerate(values)
            for level in levels[np.isfinite(levels)]
        ]
        ax.add_collection(LineCollection(lines, colors=GRID, linewidths=0.6, zorder=0))
    few = len(values) <= 4
    style = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "top", "color": "#555555"}
    for g, scale in enumerate(zoom.codes.scales):
        if g:
            ax.axvline(ends[g], color="#555555", linewidth=0.6, linestyle=":")
        middle = (ends[g] + ends[g + 1]) / 2
        text = f"scale {scale:.4g}" if few else f"{scale:.2g}"
        ax.text(middle, 0.98, text, fontsize=8 if few else 6, **style)


def plot_frontier(
    errors: pd.DataFrame,
    best: Sequence[str],
    ax: Axes | None = None,
    by: str = "relative_rmse",
) -> Axes:
    """Draw the error of each type against its bits per weight, and join the best ones.

    errors: from `quant_error` with a sequence of types. best: from `analysis.frontier`, the types
    to join. by: the column that is the error. The dashed line beside relative_rmse is 2**-bits, the
    least that any code reaches on independent normal weights. Returns ax.
    """
    ax = _axes(ax, (9, 6))
    ax.set_yscale("log")
    bits, error = errors["bits_per_weight"].to_numpy(), errors[by].to_numpy()
    joined = errors.set_index("type").loc[list(best)]
    style = {"color": "#555555", "linewidth": 1, "label": "best for their bits"}
    ax.plot(joined["bits_per_weight"], joined[by], **style)
    limit = np.array([min(bits), max(bits)])
    if by == "relative_rmse":
        style = {"color": GRID, "linestyle": "--", "label": "2^-bits, the limit for normal weights"}
        ax.plot(limit, 2.0**-limit, **style)
    families = [_family(name) for name in errors["type"]]
    for marker, colour, name in dict.fromkeys(FAMILIES.values()):
        chosen = [family == (marker, colour, name) for family in families]
        if any(chosen):
            style = {"marker": marker, "color": colour, "label": name, "zorder": 3}
            ax.scatter(bits[chosen], error[chosen], 30, **style)
    ax.set_xlabel("bits per weight")
    ax.set_ylabel(by.replace("_", " ").replace("rmse", "RMSE") + " (1 = as large as the weights)")
    ax.legend(fontsize=8)
    _name_points(ax, bits, error, list(errors["type"]))
    return ax


def _family(name: str) -> tuple[str, str, str]:
    """Marker, colour and name of the family that a type belongs to."""
    key = "K" if name.endswith("_K") else name[:2]
    return FAMILIES.get(key, FAMILIES[""])


def _name_points(ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    """Write a name beside each point, where it covers neither a point nor another name."""
    ax.figure.draw_without_rendering()  # settles the limits, so that places on paper are known
    points = ax.transData.transform(np.stack([x, y], 1)) * 72 / ax.figure.dpi
    taken = [(px - 4, py - 4, px + 4, py + 4) for px, py in points]
    for i in np.argsort(x, kind="stable"):
        wide, high = 4.6 * len(names[i]), 8
        for right, up in PLACES:
            left = points[i][0] + right - (0 if right > 0 else wide if right < 0 else wide / 2)
            low = points[i][1] + up - high / 2
            box = (left, low, left + wide, low + high)
            if not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        align = {"ha": "left" if right > 0 else "right" if right < 0 else "center", "va": "center"}
        place = {"xytext": (right, up), "textcoords": "offset points"}
        ax.annotate(names[i], (x[i], y[i]), fontsize=7, **place, **align)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes (left, low, right, top) share area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def plot_error_heatmap(
    pivot: pd.DataFrame, ax: Axes | None = None, label: str = "relative RMSE"
) -> Axes:
    """Draw layers down and roles across, coloured and labelled with the error.

    pivot: from `analysis.error_pivot`. label: what the numbers are, with their unit. Returns ax.
    """
    ax = _axes(ax, (1.5 + 0.9 * pivot.shape[1], 1.2 + 0.3 * pivot.shape[0]))
    values = pivot.to_numpy(dtype=float)
    image = ax.imshow(values, cmap="cividis", aspect="auto")
    ax.set_xticks(range(pivot.shape[1]), pivot.columns, rotation=30, ha="right")
    step = max(1, pivot.shape[0] // 20)
    ax.set_yticks(range(0, pivot.shape[0], step), pivot.index[::step])
    ax.set_xlabel("role")
    ax.set_ylabel("layer")
    ax.figure.colorbar(image, ax=ax, label=label)
    if values.size and pivot.shape[0] <= 40:
        finite = values[np.isfinite(values)]
        low, high = finite.min(initial=math.inf), finite.max(initial=-math.inf)
        middle = (low + high) / 2 if finite.size else 0
        digits = max(0, 1 - math.floor(math.log10(high - low))) if high > low else 3
        for (row, column), value in np.ndenumerate(values):
            colour = "black" if value > middle else "white"
            style = {"ha": "center", "va": "center", "fontsize": 7, "color": colour}
            ax.text(column, row, "" if np.isnan(value) else f"{value:.{digits}f}", **style)
    return ax


def plot_error_map(errors: ErrorMap, ax: Axes | None = None) -> Axes:
    """Draw the RMSE of every block: rows down, blocks along a row across. Returns ax."""
    ax = _axes(ax, (8, 4))
    image = ax.imshow(errors.rmse, cmap="cividis", aspect="auto", interpolation="nearest")
    ax.set_xlabel(f"block of {errors.size} weights")
    ax.set_ylabel("row of the matrix")
    ax.set_title(f"{errors.type}: RMSE of each block", size=10)
    ax.figure.colorbar(image, ax=ax, label="RMSE (units of the weights)")
    return ax


def plot_code_usage(usage: CodeUsage, ax: Axes | None = None) -> Axes:
    """Draw how often each level is used; a cross marks those that no weight uses. Returns ax."""
    ax = _axes(ax, (7, 3.2))
    places = np.arange(len(usage.levels))
    ax.bar(places, 100 * usage.shares, color=AFTER, width=0.85)
    unused = usage.counts == 0
    if unused.any():
        style = {"marker": "x", "color": ERROR, "s": 18, "clip_on": False}
        ax.scatter(places[unused], np.zeros(unused.sum()), label="unused", **style)
        ax.legend(fontsize=8)
    step = -(-len(places) // 32)
    ax.set_xticks(places[::step], [f"{level:g}" for level in usage.levels[::step]], fontsize=7)
    ax.set_xlabel("level (times the scale)")
    ax.set_ylabel("share of weights (%)")
    ax.set_title(
        f"{usage.type}: {usage.entropy_bits:.2f} of {usage.capacity_bits:.2f} bits used", size=10
    )
    return ax


def plot_scales(spread: ScaleSpread, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the scales of a tensor. Returns ax."""
    ax = _axes(ax, (7, 3))
    ax.hist(spread.scales[np.isfinite(spread.scales)], bins=80, color=AFTER)
    ax.set_xlabel("scale (units of the weights)")
    ax.set_ylabel(f"groups of {spread.group} weights")
    ax.set_title(f"{spread.type}: {len(spread.scales)} scales", size=10)
    return ax


def plot_error_by_value(results: Sequence[ErrorByValue], ax: Axes | None = None) -> Axes:
    """Draw the RMSE against the value of the weight, a line a type, and how many weights there are.

    results: from `analysis.error_by_value` on the same weights. Returns ax.
    """
    ax = _axes(ax, (8, 4))
    behind = ax.twinx()
    first = results[0]
    behind.stairs(first.counts, first.edges, fill=True, color="#E5E5E5")
    behind.set_ylabel("weights in a bin", color="#777777")
    ax.set_zorder(behind.get_zorder() + 1)
    ax.patch.set_visible(False)
    colours = (AFTER, BEFORE, "#009E73", "#CC79A7", ERROR, "#56B4E9")
    styles = ("-", "--", "-.", ":")
    for i, result in enumerate(results):
        style = {"color": colours[i % len(colours)], "linestyle": styles[i % len(styles)]}
        ax.plot(result.centers, result.rmse, label=result.type, **style)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("value of the weight")
    ax.set_ylabel("RMSE (units of the weights)")
    ax.legend(fontsize=8)
    return ax


def plot_error_change(changes: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Draw the change of the error for each role in percent: a bar for the mean, dots for layers.

    changes: label -> table from `analysis.error_change`, one group of bars each. Returns ax.
    """
    ax = _axes(ax, (9, 4))
    roles = list(dict.fromkeys(next(iter(changes.values()))["role"]))
    width = 0.8 / len(changes)
    for i, (label, table) in enumerate(changes.items()):
        places = np.arange(len(roles)) + (i - (len(changes) - 1) / 2) * width
        values = [100 * table.loc[table["role"] == role, "change"].to_numpy() for role in roles]
        colour = (AFTER, BEFORE, "#009E73", "#CC79A7")[i % 4]
        ax.bar(places, [v.mean() for v in values], 0.9 * width, color=colour, label=label)
        for place, dots in zip(places, values, strict=True):
            ax.scatter(np.full(len(dots), place), dots, 8, color="black", zorder=3)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(roles)), roles)
    ax.set_xlabel("role (dots: its layers)")
    ax.set_ylabel("change of the error (%)")
    ax.legend(fontsize=8)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or new ones of a size in inches."""
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
