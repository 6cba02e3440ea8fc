"""What one token looks at: all layers as a map, and one head's shares as bars.

    layer 0 │░░▒░░░░░░░░▓█         a row adds up to 1: the heads' mean
    layer 1 │░░░░░░▒░░░▒▓▓
            └─ position ─▶
    share   │▂▁▁▁▁▄▁▁▁▃▅█          one head; blue is kept in the cache, orange evicted

Source: blues and an orange that stay apart for colour-blind readers (Okabe and Ito).
Leaves out: whole maps of a head, which `attention.py` draws.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

__all__ = ["plot_head_shares", "plot_layer_shares"]

KEPT, EVICTED = "#0072B2", "#D55E00"
FAINT = 0.5  # exponent of the colour scale: shares of a few per cent can be seen


def plot_layer_shares(shares: np.ndarray, ax: Axes, mark: int | None = None) -> AxesImage:
    """Draw the share of attention that each position gets in each layer, layers down.

    shares: (L, S), a row adds up to 1. mark: a layer to frame. Returns the image, for a colour bar.
    """
    norm = PowerNorm(FAINT, vmin=0, vmax=max(float(shares.max()), 1e-6))
    style = {"cmap": colormaps["Blues"], "norm": norm, "aspect": "auto"}
    image = ax.imshow(shares, interpolation="nearest", **style)
    n_layer, n_seen = shares.shape
    if mark is not None:
        frame = {"fill": False, "edgecolor": EVICTED, "linewidth": 1.5, "clip_on": False}
        ax.add_patch(Rectangle((-0.5, mark - 0.5), n_seen, 1, **frame))
    ax.yaxis.set_major_locator(MaxNLocator(min(n_layer, 8), integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("position looked at")
    ax.set_ylabel("layer")
    return image


def plot_head_shares(shares: np.ndarray, kept: np.ndarray, ax: Axes) -> Axes:
    """Draw the share of attention that each position gets from one head, as bars.

    shares: (S,), adds up to 1. kept: (S,) bool, whether the cache still has the position.
    Returns ax.
    """
    edges = np.arange(len(shares) + 1) - 0.5
    for label, colour, chosen in (("kept", KEPT, kept), ("evicted", EVICTED, ~kept)):
        if chosen.any():
            ax.stairs(shares * chosen, edges, fill=True, color=colour, label=label)
    ax.set_xlim(-0.5, len(shares) - 0.5)
    ax.set_ylim(0, None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.set_xlabel("position looked at")
    ax.set_ylabel("share")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
