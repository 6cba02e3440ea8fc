"""Pictures of caches that forget: bytes against KL, what is lost, and which positions are held.

Source: colours of Okabe and Ito and cividis, which stay apart for colour-blind eyes; each series
has its own marker as well. Left out: all computing, which `analysis.kv_frontier` does.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ..analysis.kv_eviction import EvictionReplay, EvictionResult
from ..errors import ParameterError
from ..model.kv_checks import is_integer

__all__ = ["plot_kept_positions", "plot_kv_frontier", "plot_lost_attention"]

STYLES = {  # policy -> marker and colour
    "streaming_llm": ("o", "#0072B2"),
    "h2o": ("s", "#E69F00"),
    "snap_kv": ("D", "#009E73"),
    "tova": ("^", "#CC79A7"),
    "key_norm": ("v", "#D55E00"),
    "random": ("X", "#56B4E9"),
}
OTHER = ("P", "#000000")
GREY = "#777777"


def plot_kv_frontier(
    evictions: pd.DataFrame | None = None,
    types: pd.DataFrame | None = None,
    best: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw KL against bytes: a line for each policy over its budgets, a point for each type.

    evictions: from `analysis.eviction_table`. types: from `analysis.kv_type_table`. best: from
    `analysis.kv_frontier`, joined in grey. Both axes are logarithmic, so caches whose KL is 0 are
    not drawn; the bytes of the full cache are a dashed line. Returns ax.
    Raises: ParameterError if there is nothing to draw.
    """
    if evictions is None and types is None:
        raise ParameterError(
            "evictions, types: nothing to draw; expected at least one table, got None for both"
        )
    _demand_columns("evictions", evictions, ("policy", "bytes", "kl"))
    _demand_columns("types", types, ("type_k", "type_v", "bytes", "kl"))
    ax = _axes(ax, (8, 4.5))
    ax.set(xscale="log", yscale="log", xlabel="cache after the last token (kB)")
    ax.set_ylabel("KL of the next token (nats)")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if best is not None:
        seen = best[best["kl"] > 0]
        style = {"color": GREY, "linewidth": 6, "alpha": 0.25, "label": "best for their bytes"}
        ax.plot(seen["bytes"] / 1000, seen["kl"], **style)
    if evictions is not None:
        _draw_policies(evictions, ax)
    if types is not None:
        _draw_types(types, ax)
    ax.legend(fontsize=8, frameon=False)
    return ax


def _demand_columns(argument: str, table: pd.DataFrame | None, names: tuple[str, ...]) -> None:
    missing = set() if table is None else set(names) - set(table.columns)
    if missing:
        raise ParameterError(
            f"{argument}: columns are missing; expected {', '.join(names)}, got no "
            f"{', '.join(sorted(missing))}; take analysis.eviction_table or kv_type_table"
        )


def _draw_policies(evictions: pd.DataFrame, ax: Axes) -> None:
    whole = evictions[evictions["policy"] == "full"]
    for size in whole["bytes"][:1]:
        ax.axvline(size / 1000, color=GREY, linestyle="--", label="full cache")
    for policy, rows in evictions.groupby("policy", sort=False):
        rows = rows[rows["kl"] > 0].sort_values("bytes")
        marker, colour = STYLES.get(policy, OTHER)
        if len(rows):
            ax.plot(rows["bytes"] / 1000, rows["kl"], marker=marker, color=colour, label=policy)


def _draw_types(types: pd.DataFrame, ax: Axes) -> None:
    rows = types[types["kl"] > 0]
    style = {"marker": "*", "color": "#000000", "linestyle": "none", "label": "cache type (k / v)"}
    ax.plot(rows["bytes"] / 1000, rows["kl"], markersize=9, **style)
    for index, row in enumerate(rows.sort_values(["bytes", "kl"]).to_dict("records")):
        k, v = row["type_k"], row["type_v"]
        place = (row["bytes"] / 1000, row["kl"])
        away, side = (((-4, -11), "right"), ((5, 3), "left"))[index % 2]  # names of neighbours
        style = {"textcoords": "offset points", "xytext": away, "ha": side}
        ax.annotate(k if k == v else f"{k} / {v}", place, fontsize=8, **style)


def plot_lost_attention(lost: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the share of attention that falls on positions gone: a line for each policy.

    lost: rows are budgets, columns policies; `EvictionReplay.mean_lost` of each. Returns ax.
    """
    ax = _axes(ax, (6, 3.5))
    for policy, shares in lost.items():
        marker, colour = STYLES.get(policy, OTHER)
        ax.plot(shares.index, shares, marker=marker, color=colour, label=policy)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set(xlabel="positions kept", ylabel="share of attention lost", ylim=(0, None))
    ax.legend(fontsize=8, frameon=False)
    return ax


def plot_kept_positions(
    result: EvictionResult | EvictionReplay, layer: int, kv_head: int = 0, ax: Axes | None = None
) -> Axes:
    """Draw which positions each token sees: tokens down, positions across; dark is gone.

    result: from `analysis.run_eviction` or `replay_eviction`. Returns ax.
    Raises: ParameterError for a layer or KV head that is not there.
    """
    n_layer = len(result.gone_at)
    is_there = is_integer(layer) and 0 <= layer < n_layer and is_integer(kv_head)
    if not is_there or not 0 <= kv_head < len(result.gone_at[layer]):
        raise ParameterError(
            f"layer, kv_head: not in this result; expected a layer from 0 to {n_layer - 1} and one "
            f"of its KV heads, got {layer!r}, {kv_head!r}"
        )
    gone = result.gone_at[layer][kv_head]
    token = np.arange(len(gone))[:, None]
    seen = np.where(token >= np.arange(len(gone)), gone > token, np.nan)
    ax = _axes(ax, (5, 4.5))
    style = {"cmap": "cividis", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    ax.imshow(seen.astype(np.float32), **style)
    ax.set(xlabel="position", ylabel="token that looks")
    ax.set_title(f"{result.policy}, budget {result.budget}: layer {layer}, KV head {kv_head}")
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
