"""Pictures of a KV cache while a text grows: bytes, norms, and the attention positions receive.

    kB │          ▄▆█  v      a band a layer; keys below, values above
       │     ▄▆██████
       │ ▄▆██████████  k
       └──────────── position

Source: colours of Okabe and Ito, cividis, and orange to purple around even attention, for
colour-blind eyes. Left out: all computing, which `analysis.kv_growth` does; one step's attention,
which `kv_step.py` draws.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..analysis.kv_growth import AttentionReceived, KVGrowth

__all__ = [
    "plot_attention_received",
    "plot_kv_growth",
    "plot_kv_norms",
    "plot_received_by_head",
]

KEYS, VALUES, LIMIT = ("#0072B2", "#56B4E9"), ("#E69F00", "#F5CE7A"), "#D55E00"
TIMES = 16  # how many times even attention the colours reach, up and down
AROUND_EVEN = "PuOr_r"  # purple below even, orange above
MOST_TILES_ACROSS = 4


def plot_kv_growth(growth: KVGrowth, ax: Axes) -> Axes:
    """Draw the bytes that the slots written take up, a band a layer, and the bytes allocated.

    growth: from `analysis.kv_growth`. Layers are stacked from the first up and change between a
    dark and a light shade. Returns ax.
    """
    n_layer = growth.k.shape[1]
    below = np.zeros(len(growth.n_past))
    for name, layers, shades in (("keys", growth.k, KEYS), ("values", growth.v, VALUES)):
        for layer in range(n_layer):
            above = below + layers[:, layer]
            label = f"{name} ({n_layer} layers)" if layer == 0 else None
            style = {"color": shades[layer % 2], "linewidth": 0, "label": label}
            ax.fill_between(growth.n_past, below, above, **style)
            below = above
    total = int(growth.allocated.sum())
    style = {"color": LIMIT, "linestyle": "--", "label": f"allocated: {total:,} bytes"}
    ax.axhline(total, **style)
    ax.set_xlim(growth.n_past.min(), growth.n_past.max())
    ax.set_ylim(0, total * 1.08)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}"))
    ax.set_xlabel("positions held")
    ax.set_ylabel("kilobytes")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, 0.9))
    return ax


def plot_kv_norms(norms: np.ndarray, ax: Axes, name: str = "keys") -> Axes:
    """Draw the norm of each layer's rows at each position.

    norms: (L, S) from `analysis.kv_norms`, its k or v; NaN stays empty. name: of the title.
    Returns ax.
    """
    style = {"cmap": "cividis", "aspect": "auto", "interpolation": "nearest", "vmin": 0}
    image = ax.imshow(np.ma.masked_invalid(norms), **style)
    _edges(ax, "position")
    ax.set_title(f"norm of the {name}", size=10, loc="left")
    ax.figure.colorbar(image, ax=ax, pad=0.02, label="Euclidean norm")
    return ax


def plot_attention_received(received: AttentionReceived, ax: Axes) -> Axes:
    """Draw how much attention each position gets in each layer beside even attention.

    received: from `analysis.attention_received`; means over heads. White is even, orange more,
    purple less; the last positions, which few have looked at, stay empty. Returns ax.
    """
    image = _map(ax, received.by_layer)
    ax.set_yticks(*_layer_ticks(received.layers))
    _edges(ax, "position looked at", layers_set=True)
    _colorbar(ax, image)
    return ax


def plot_received_by_head(received: AttentionReceived, ax: Axes) -> Axes:
    """Draw the same for every head: a tile a head, in it layers down and positions across.

    received: from `analysis.attention_received`. Returns ax.
    """
    n_layer, n_head, n = received.by_head.shape
    across = min(n_head, MOST_TILES_ACROSS)
    down = -(-n_head // across)
    gap_y, gap_x = max(1, n_layer // 6), max(1, n // 16)
    wall = np.full((down * (n_layer + gap_y), across * (n + gap_x)), np.nan)
    for head in range(n_head):
        top, left = head // across * (n_layer + gap_y), head % across * (n + gap_x)
        wall[top : top + n_layer, left : left + n] = received.by_head[:, head]
        place = {"ha": "left", "va": "bottom", "fontsize": 8}
        ax.text(left - 0.5, top - 0.6, f"head {head}", **place)
    image = _map(ax, wall)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel(f"a tile: {n} positions looked at, left to right")
    ax.set_ylabel(f"a tile: {n_layer} layers, downwards")
    ax.spines[:].set_visible(False)
    _colorbar(ax, image)
    return ax


def _map(ax: Axes, times: np.ndarray):
    style = {"cmap": AROUND_EVEN, "norm": LogNorm(1 / TIMES, TIMES), "aspect": "auto"}
    return ax.imshow(np.ma.masked_invalid(times), interpolation="nearest", **style)


def _colorbar(ax: Axes, image) -> None:
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, label="attention received (1: even)")
    ticks = [1 / 16, 1 / 4, 1, 4, 16]
    bar.set_ticks(ticks, labels=["1/16", "1/4", "1", "4", "16"])
    bar.minorticks_off()


def _layer_ticks(layers: np.ndarray) -> tuple[range, list[int]]:
    step = -(-len(layers) // 8)
    return range(0, len(layers), step), list(layers[::step])


def _edges(ax: Axes, x: str, layers_set: bool = False) -> None:
    if not layers_set:
        ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(x)
    ax.set_ylabel("layer")
