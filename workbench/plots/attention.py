"""Pictures of attention heads: all maps of a model as small tiles, and one map with its tokens.

Source: blues of one hue, darker for more; orange (Okabe and Ito) marks what the text speaks of.
Left out: all computing, which `analysis.attention` and `analysis.ablation` do.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle

from ..analysis.ablation import HeadAblation, NextTokenChange
from ..analysis.attention import AttentionMaps
from .glyphs import FONT, short

__all__ = [
    "plot_attention_head",
    "plot_attention_tiles",
    "plot_head_ablation",
    "plot_next_token_change",
]

MARK, UNSEEN = "#D55E00", "#EEEEEE"
BEFORE, AFTER = "#9ECAE1", "#D55E00"
FAINT = 0.5  # exponent of the colour scale: shares of a few per cent can be seen


def plot_attention_tiles(
    maps: AttentionMaps, ax: Axes, mark: Sequence[tuple[int, int]] = ()
) -> Axes:
    """Draw every head's map as a tile, layers down, heads across.

    maps: from `analysis.attention_maps`. mark: (layer, head) pairs to frame. Returns ax.
    """
    layers = sorted(maps.maps)
    n_head = max(len(maps.maps[layer]) for layer in layers)
    height, width = next(iter(maps.maps.values())).shape[1:]
    gap = max(1, width // 12)
    wall = np.full((len(layers) * (height + gap), n_head * (width + gap)), np.nan)
    for row, layer in enumerate(layers):
        for head, probs in enumerate(_masked(maps.maps[layer])):
            top, left = row * (height + gap), head * (width + gap)
            wall[top : top + height, left : left + width] = probs
    image = ax.imshow(np.ma.masked_invalid(wall), cmap=_blues("white"), norm=_norm())
    for layer, head in mark:
        corner = (head * (width + gap) - 1, layers.index(layer) * (height + gap) - 1)
        frame = {"fill": False, "edgecolor": MARK, "linewidth": 2}
        ax.add_patch(Rectangle(corner, width + 1, height + 1, **frame))
    ax.set_xticks(np.arange(n_head) * (width + gap) + width / 2 - 0.5, range(n_head))
    ax.set_yticks(np.arange(len(layers)) * (height + gap) + height / 2 - 0.5, layers)
    ax.tick_params(length=0)
    ax.set_xlabel(f"head (a tile: {width} positions looked at, left to right)")
    ax.set_ylabel("layer (a tile: positions looking, downwards)")
    ax.spines[:].set_visible(False)
    _colorbar(ax, image)
    return ax


def plot_attention_head(maps: AttentionMaps, layer: int, head: int, ax: Axes) -> Axes:
    """Draw one head's map with its tokens.

    maps: from `analysis.attention_maps`. layer, head: which. Returns ax.
    """
    probs = _masked(maps.maps[layer])[head]
    image = ax.imshow(np.ma.masked_invalid(probs), cmap=_blues(UNSEEN), norm=_norm(), aspect="auto")
    pieces = [short(piece) for piece in maps.pieces]
    style = {"fontfamily": FONT, "fontsize": 8, "parse_math": False}
    ax.set_xticks(range(len(pieces)), pieces, rotation=90, **style)
    ax.set_yticks(range(len(probs)), pieces[-len(probs) :], **style)
    ax.set_xlabel("token looked at")
    ax.set_ylabel("token looking")
    ax.set_title(f"layer {layer}, head {head}", size=10, loc="left")
    _colorbar(ax, image)
    return ax


def plot_head_ablation(
    result: HeadAblation, ax: Axes, mark: Sequence[tuple[int, int]] = ()
) -> Axes:
    """Draw the divergence that silencing each head causes, layers down, heads across.

    result: from `analysis.ablate_each_head`. mark: (layer, head) pairs to frame. Returns ax.
    """
    image = ax.imshow(result.kl, cmap="cividis", norm=PowerNorm(FAINT, vmin=0), aspect="auto")
    for layer, head in mark:
        frame = {"fill": False, "edgecolor": MARK, "linewidth": 2}
        corner = (head - 0.5, list(result.layers).index(layer) - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, **frame))
    ax.set_xticks(range(result.kl.shape[1]))
    ax.set_yticks(range(result.kl.shape[0]), result.layers)
    ax.set_xlabel("head silenced")
    ax.set_ylabel("layer")
    ax.figure.colorbar(image, ax=ax, label="KL of the next token (nats)", pad=0.02)
    return ax


def plot_next_token_change(result: NextTokenChange, ax: Axes) -> Axes:
    """Draw the next token's probabilities before and after a change, a pair of bars each.

    result: from `analysis.next_token_change`. Returns ax.
    """
    rows = np.arange(len(result.ids))
    ax.barh(rows - 0.2, result.probs_before, 0.4, color=BEFORE, label="before")
    ax.barh(rows + 0.2, result.probs_after, 0.4, color=AFTER, label="after")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    style = {"fontfamily": FONT, "fontsize": 8, "parse_math": False}
    ax.set_yticks(rows, [short(piece) for piece in result.pieces], **style)
    ax.set_xlabel("probability of the next token")
    ax.set_title(f"KL {result.kl:.4f} nats", size=10, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    return ax


def _masked(probs: np.ndarray) -> np.ndarray:
    """(H, T, S) with NaN where a token cannot look: at the tokens after it."""
    n_tokens, n_seen = probs.shape[1:]
    seen = np.tri(n_tokens, n_seen, n_seen - n_tokens, dtype=bool)
    return np.where(seen, probs, np.nan)


def _blues(unseen: str):
    return colormaps["Blues"].with_extremes(bad=unseen)


def _norm() -> PowerNorm:
    return PowerNorm(FAINT, vmin=0, vmax=1)


def _colorbar(ax: Axes, image) -> None:
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, fraction=0.04, label="share of attention")
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1])
    bar.outline.set_visible(False)
