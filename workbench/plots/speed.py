"""Pictures of a token's time: its bytes, the roof over it, recorded speeds, and memory.

Source: colours of Okabe and Ito, "Color Universal Design" (2008); the roofline is that of Williams,
Waterman and Patterson, "Roofline: an insightful visual performance model" (2009).
Left out: all computing, which `analysis.token_budget`, `speed_record` and `memory_plan` do.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from pandas import DataFrame

from ..analysis.memory_plan import MemoryPlan
from ..analysis.speed_record import SpeedRecord

__all__ = [
    "plot_family_times",
    "plot_launch_gaps",
    "plot_memory_plan",
    "plot_roofline",
    "plot_speed_record",
    "plot_token_budget",
]

FAMILY_COLOURS = {
    "embedding": "#56B4E9",
    "attn_qkv": "#E69F00",
    "kv_read": "#0072B2",
    "kv_write": "#0072B2",
    "attn_output": "#D55E00",
    "ffn_gate_up": "#009E73",
    "ffn_down": "#66C2A5",
    "output": "#CC79A7",
}
OURS, PEER, FLOOR, OTHER = "#0072B2", "#E69F00", "#000000", "#999999"
KINDS = {"tg": "o", "pp": "s"}
STACK = ("#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
FONT = 8  # points, of labels at bars
MEMORY_SIZES = {"1 GB": 1e9, "8 GB": 8e9, "24 GB": 24e9, "141 GB (H200)": 141e9}


def plot_token_budget(by_family: DataFrame, ax: Axes | None = None) -> Axes:
    """Lying bars of the bytes a token moves by family, in order of the forward pass.

    by_family: of `analysis.budget_by_family`.
    """
    ax = _axes(ax, (8, 1 + 0.32 * len(by_family)))
    colours = [FAMILY_COLOURS.get(family, OTHER) for family in by_family.family]
    bars = ax.barh(by_family.family, by_family.nbytes / 1e6, color=colours)
    labels = [f"{share:.2%}" for share in by_family.share]
    ax.bar_label(bars, labels, padding=3, fontsize=FONT)
    ax.margins(x=0.12)
    ax.invert_yaxis()
    ax.set_xlabel("moved for one token (MB)")
    ax.set_title(f"{by_family.nbytes.sum() / 1e6:,.1f} MB for one token")
    return ax


def plot_speed_record(record: SpeedRecord, test: str, ax: Axes | None = None) -> Axes:
    """Bars of tokens per second, ours beside the peer's, and a line at each floor."""
    table = record.compare(test)
    ax = _axes(ax, (8, 4))
    at, width = np.arange(len(table)), 0.38
    sides = ((table.ours, OURS, "workbench"), (table.peer, PEER, record.peer_name))
    sides = [side for side in sides if side[0].notna().any()]
    behind = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 0.5}
    for i, (speeds, colour, name) in enumerate(sides):
        place = at + (i - (len(sides) - 1) / 2) * width
        bars = ax.bar(place, speeds, width, color=colour, label=name)
        labels = ["" if np.isnan(speed) else f"{speed:,.0f}" for speed in speeds]
        ax.bar_label(bars, labels, padding=2, fontsize=FONT, bbox=behind)
    if table.floor.notna().any():
        ax.hlines(
            table.floor,
            at - width,
            at + width,
            FLOOR,
            linestyles="dashed",
            label="bytes at the copy bandwidth",
        )
    ax.set_xticks(at, [model.partition("-")[2] for model in table.model])
    ax.set_ylabel("tokens per second")
    ax.set_title(f"{test}, {record.gpu}")
    ax.margins(y=0.12)
    ax.legend(frameon=False)
    return ax


def plot_roofline(points: DataFrame, record: SpeedRecord, ax: Axes | None = None) -> Axes:
    """Arithmetic done per second over operations per byte, under the machine's two roofs.

    points: of `SpeedRecord.rooflines`. Circles are single tokens, squares prompts.
    """
    ax = _axes(ax, (8, 4.6))
    bandwidth, peak = (record.ceilings[k] for k in ("copy_gb_per_s", "f16_matmul_tflops"))
    x = np.geomspace(0.5, 8000, 200)
    ax.loglog(x, np.minimum(x * bandwidth / 1e3, peak), color=FLOOR, label="roof")
    for who, colour in (("workbench", OURS), (record.peer_name, PEER)):
        for kind, marker in KINDS.items():
            own = points[(points.who == who) & points.test.str.startswith(kind)]
            name = f"{who}, {'single tokens' if kind == 'tg' else 'prompts'}"
            if len(own):
                ax.scatter(
                    own.flop_per_byte, own.tflops, 28, colour, marker=marker, label=name, zorder=3
                )
    ax.set_xlabel("operations per byte of memory")
    ax.set_ylabel("operations per second (TFLOP/s)")
    ax.set_title(f"{bandwidth / 1e3:.2f} TB/s, {peak:,.0f} TFLOP/s ({record.gpu})")
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_launch_gaps(ways: DataFrame, ax: Axes | None = None) -> Axes:
    """Lying bars of a token's time: its floor, and the gaps that each way of running it adds.

    ways: of `SpeedRecord.ways`.
    """
    ax = _axes(ax, (8, 2.2))
    ax.barh(ways.way, ways.floor_us, color=OURS, label="bytes at the copy bandwidth")
    bars = ax.barh(ways.way, ways.gap_us, left=ways.floor_us, color=PEER, label="gaps")
    labels = [f"{n:,} x: {gap:,.0f} µs" for n, gap in zip(ways.n, ways.gap_us, strict=True)]
    ax.bar_label(bars, labels, padding=3, fontsize=FONT)
    ax.margins(x=0.2)
    ax.invert_yaxis()
    ax.set_xlabel("time of a token (µs)")
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_family_times(
    times: DataFrame, floors: Mapping[str, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Stacked bars of a token's microseconds by kernel or operation, a bar for each column.

    floors: column -> microseconds at which its bar is crossed by a dashed line.
    """
    ax = _axes(ax, (8, 1.6 + 0.5 * len(times.columns)))
    left, at = np.zeros(len(times.columns)), np.arange(len(times.columns))
    for i, (name, row) in enumerate(times.iterrows()):
        widths = row.fillna(0).to_numpy(float)
        colour = FAMILY_COLOURS.get(str(name), STACK[i % len(STACK)])
        ax.barh(at, widths, left=left, color=colour, edgecolor="white", label=name)
        left += widths
    for place, column in enumerate(times.columns):
        if column in (floors or {}):
            label = "floor" if not place else None
            ends = (place - 0.45, place + 0.45)
            ax.vlines(floors[column], *ends, FLOOR, linestyles="dashed", label=label)
    ax.set_yticks(at, times.columns)
    ax.invert_yaxis()
    ax.set_xlabel("time of a token (µs)")
    if len(times):
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_memory_plan(plan: MemoryPlan, ax: Axes | None = None) -> Axes:
    """Lines of all memory over the context, one a type of cache, with usual sizes of memory."""
    ax = _axes(ax, (8, 4.2))
    most = max(plan.fits(type, 2**31) for type in plan.position) + 16 * plan.n_ctx_train
    n_ctx = np.unique(np.geomspace(64, max(most, 1 << 17), 60).astype(int))
    for (type, _), colour in zip(plan.position.items(), (OURS, PEER, "#009E73"), strict=False):
        total = [plan.total(type, int(n)) / 1e9 for n in n_ctx]
        ax.loglog(n_ctx, total, color=colour, label=f"weights and {type} cache")
    ax.axhline(plan.weights / 1e9, color=OTHER, linestyle=":", label="weights alone")
    ax.axvline(plan.n_ctx_train, color=OTHER, linestyle="--", label="trained for")
    low, high = ax.get_ylim()
    for name, size in MEMORY_SIZES.items():
        if low < size / 1e9 < high:
            ax.axhline(size / 1e9, color=OTHER, linewidth=0.6)
            ax.annotate(name, (n_ctx[0], size / 1e9), va="bottom", fontsize=FONT)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    ax.set_xlabel("context (positions)")
    ax.set_ylabel("memory (GB)")
    ax.legend(frameon=False)
    return ax


def _axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax
