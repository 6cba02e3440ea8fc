"""Pictures of what keys and values are like: channels, directions, drift, errors of types.

Source: colours of Okabe and Ito, one for each kind of rows, and cividis; both stay apart for
colour-blind eyes. Left out: all computing, which `analysis.kv_channels`, `kv_directions` and
`kv_errors` do.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

from ..analysis.kv_arrays import of_kind
from ..analysis.kv_channels import OutlierChannels
from ..analysis.kv_directions import CosineDrift, EffectiveRanks
from ..errors import ParameterError

__all__ = [
    "plot_channel_map",
    "plot_channel_shares",
    "plot_cosine_drift",
    "plot_effective_ranks",
    "plot_kv_errors",
]

STYLES = {  # kind -> colour, marker and name
    "k_before_rope": ("#E69F00", "s", "keys before RoPE"),
    "k": ("#0072B2", "o", "keys"),
    "v": ("#009E73", "D", "values"),
    "k_before_rope_hadamard": ("#D55E00", "P", "keys before RoPE, Hadamard"),
    "k_hadamard": ("#56B4E9", "^", "keys, Hadamard"),
    "v_hadamard": ("#CC79A7", "v", "values, Hadamard"),
}
KEY_KINDS = ("k_before_rope", "k", "k_hadamard")
FAINT = 0.5  # exponent of the colour scale: shares of a few per cent can be seen
EVEN = "#555555"


def plot_channel_map(result: OutlierChannels, ax: Axes, kind: str = "k") -> Axes:
    """Draw every KV head's shares of its squared norm: a row a head, a column a channel.

    result: from `analysis.outlier_channels`. kind: of its shares. White lines part the layers,
    empty cells are channels that a layer's heads do not have. Returns ax.
    """
    layers = of_kind(result.shares, kind)
    counts = [len(shares) for shares in layers]
    width = max(shares.shape[1] for shares in layers)
    wall = np.full((sum(counts), width), np.nan)
    for start, shares in zip(np.cumsum([0, *counts]), layers, strict=False):
        wall[start : start + len(shares), : shares.shape[1]] = shares
    norm = PowerNorm(FAINT, vmin=0, vmax=float(np.nanmax(wall)))
    style = {"cmap": "cividis", "norm": norm, "aspect": "auto", "interpolation": "nearest"}
    image = ax.imshow(np.ma.masked_invalid(wall), **style)
    edges = np.cumsum([0, *counts]) - 0.5
    ax.hlines(edges[1:-1], -0.5, width - 0.5, color="white", linewidth=1)
    middles = (edges[1:] + edges[:-1]) / 2
    step = -(-len(layers) // 16)
    ax.set_yticks(middles[::step], range(0, len(layers), step))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("channel")
    ax.set_ylabel("layer (a row: a KV head)")
    ax.set_title(_name(kind), size=10, loc="left")
    ax.figure.colorbar(image, ax=ax, pad=0.02, label="share of the squared norm")
    return ax


def plot_channel_shares(
    result: OutlierChannels, layer: int, head: int, ax: Axes, kinds: Sequence[str] = KEY_KINDS
) -> Axes:
    """Draw one KV head's channels as bars, a colour a kind of rows side by side.

    result: from `analysis.outlier_channels`. layer, head: which. kinds: of its shares. The dashed
    line is where all channels would be alike. Returns ax. Raises: ParameterError.
    """
    for index, kind in enumerate(kinds):
        shares = _head_of(of_kind(result.shares, kind), layer, head)
        width = 0.8 / len(kinds)
        places = np.arange(len(shares)) + (index - (len(kinds) - 1) / 2) * width
        colour, _, name = STYLES[kind]
        ax.bar(places, shares, width, color=colour, label=name)
    ax.axhline(1 / len(shares), color=EVEN, linestyle="--", linewidth=1, label="all alike")
    ax.set_xlim(-0.7, len(shares) - 0.3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("channel")
    ax.set_ylabel("share of the squared norm")
    ax.set_title(f"layer {layer}, KV head {head}", size=10, loc="left")
    _finish(ax)
    return ax


def plot_effective_ranks(result: EffectiveRanks, ax: Axes) -> Axes:
    """Draw the effective rank of keys and values of each layer: bars are means, dots KV heads.

    result: from `analysis.effective_ranks`. The dashed line is the length of a row. Returns ax.
    """
    width = 0.8 / len(result.rank)
    for index, (kind, layers) in enumerate(result.rank.items()):
        colour, _, name = STYLES[kind]
        places = np.arange(len(layers)) + (index - (len(result.rank) - 1) / 2) * width
        ax.bar(places, [ranks.mean() for ranks in layers], width, color=colour, label=name)
        dots = np.concatenate([np.full(len(r), x) for x, r in zip(places, layers, strict=True)])
        ax.scatter(dots, np.concatenate(layers), 8, color="black", linewidths=0, zorder=3)
    longest = max(max(lengths) for lengths in result.of.values())
    ax.axhline(longest, color=EVEN, linestyle="--", linewidth=1, label="length of a row")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("layer")
    ax.set_ylabel("effective rank (directions)")
    _finish(ax, ncols=2)
    ax.set_ylim(0, longest * 1.3)  # the legend has room above
    return ax


def plot_cosine_drift(result: CosineDrift, ax: Axes) -> Axes:
    """Draw how alike rows are that lie apart: lines are means, shades reach over the layers.

    result: from `analysis.cosine_drift`. Returns ax.
    """
    for kind in result.cosines:
        colour, _, name = STYLES[kind]
        layers = result.by_layer(kind)[:, 1:]  # a row is like itself
        at = result.distances[1:]
        ax.fill_between(at, layers.min(axis=0), layers.max(axis=0), color=colour, alpha=0.15)
        ax.plot(at, layers.mean(axis=0), color=colour, label=name)
    ax.axhline(0, color=EVEN, linewidth=0.6)
    ax.set_ylim(None, 1)
    ax.set_xlabel("distance (positions)")
    ax.set_ylabel("mean cosine of two rows")
    _finish(ax)
    return ax


def plot_kv_errors(errors: pd.DataFrame, ax: Axes) -> Axes:
    """Draw signal over noise of each type, a marker a kind of rows side by side.

    errors: from `analysis.kv_errors`. Markers are means over layers and KV heads, types stand in
    the order of their bits; six decibels are a bit. Returns ax.
    """
    means = errors.groupby(["kind", "type"], sort=False)[["bits", "sqnr_db"]].mean()
    order = means.groupby("type").agg({"bits": "first", "sqnr_db": "max"})
    order = order.sort_values(["bits", "sqnr_db"])
    kinds = list(errors["kind"].unique())
    for index, kind in enumerate(kinds):
        places = np.arange(len(order)) + (index - (len(kinds) - 1) / 2) * 0.5 / len(kinds)
        colour, marker, name = STYLES[kind]
        decibels = means.loc[kind].reindex(order.index)["sqnr_db"]
        ax.plot(places, decibels, marker, color=colour, markersize=6, label=name)
    ax.set_xticks(
        range(len(order)),
        [f"{type}\n{bits:g}" for type, bits in zip(order.index, order["bits"], strict=True)],
    )
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    ax.set_xlabel("type, and its bits per number, scales included")
    ax.set_ylabel("signal over noise (dB)")
    _finish(ax, loc="upper left")
    return ax


def _finish(ax: Axes, **legend) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, **legend)


def _name(kind: str) -> str:
    return STYLES[kind][2]


def _head_of(layers, layer: int, head: int) -> np.ndarray:
    if not 0 <= layer < len(layers) or not 0 <= head < len(layers[layer]):
        n_head = len(layers[layer]) if 0 <= layer < len(layers) else len(layers[0])
        raise ParameterError(
            f"layer, head: no such KV head; expected a layer from 0 to {len(layers) - 1} and a KV "
            f"head from 0 to {n_head - 1}, got {layer} and {head}"
        )
    return layers[layer][head]
