"""Pictures of what attention heads are for: their classes, and each look as a map of all heads.

    head     0 1 2 3          a letter a head, so that a class is read without its colour
    layer 0  L M M S
    layer 1  M L P L

Source: colours of Okabe and Ito, and cividis, which stay apart for colour-blind eyes.
Left out: all computing, which `analysis.kv_heads` does.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.patches import Patch

from ..analysis.kv_heads import HEAD_CLASSES, LOOKS, HeadClasses
from ..errors import ParameterError

__all__ = ["plot_head_classes", "plot_head_looks"]

COLOURS = {
    "induction": "#D55E00",
    "sink": "#009E73",
    "previous": "#0072B2",
    "local": "#56B4E9",
    "mixed": "#DDDDDD",
}
DARK = {"induction", "sink", "previous"}  # whose letters are white
FAINT = 0.5  # exponent of the colour scale: shares of a few per cent can be seen
MOST_LETTERS = 16  # heads or layers, of which letters can be read


def plot_head_classes(result: HeadClasses, ax: Axes) -> Axes:
    """Draw every head's class, layers down, heads across, with its first letter in it.

    result: from `analysis.head_classes`. The legend counts the heads. Returns ax.
    """
    codes = _wall(result, np.array([HEAD_CLASSES.index(name) for name in result.names], float))
    colours = ListedColormap([COLOURS[name] for name in HEAD_CLASSES])
    style = {"cmap": colours, "vmin": -0.5, "vmax": len(HEAD_CLASSES) - 0.5, "aspect": "auto"}
    ax.imshow(np.ma.masked_invalid(codes), interpolation="nearest", **style)
    layers = list(np.unique(result.layers))
    if max(codes.shape) <= MOST_LETTERS:
        for layer, head, name in zip(result.layers, result.heads, result.names, strict=True):
            colour = "white" if name in DARK else "black"
            place = {"ha": "center", "va": "center", "fontsize": 8, "color": colour}
            ax.text(head, layers.index(layer), name[0].upper(), **place)
    _edges(ax, codes.shape, layers)
    counts = {name: result.names.count(name) for name in HEAD_CLASSES}
    patches = [Patch(color=COLOURS[name], label=f"{name}: {n}") for name, n in counts.items() if n]
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "frameon": False}
    ax.legend(handles=patches, fontsize=8, **place)
    return ax


def plot_head_looks(result: HeadClasses, look: str, ax: Axes) -> Axes:
    """Draw one look of every head as a map, layers down, heads across.

    result: from `analysis.head_classes`. look: one of sink, previous, local, induction, duplicate;
    the colours of all reach from 0 to 1. Returns ax. Raises: ParameterError.
    """
    if look not in LOOKS:
        raise ParameterError(
            f"look: nothing that heads were measured by; expected one of {', '.join(LOOKS)}, got "
            f"{look!r}"
        )
    wall = _wall(result, getattr(result, look))
    style = {"cmap": "cividis", "norm": PowerNorm(FAINT, vmin=0, vmax=1), "aspect": "auto"}
    image = ax.imshow(np.ma.masked_invalid(wall), interpolation="nearest", **style)
    _edges(ax, wall.shape, list(np.unique(result.layers)))
    ax.set_title(look, size=10, loc="left")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, label="share of attention")
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1])
    return ax


def _wall(result: HeadClasses, numbers: np.ndarray) -> np.ndarray:
    """(layers, most heads) with a number where there is a head, NaN elsewhere."""
    layers, rows = np.unique(result.layers, return_inverse=True)
    wall = np.full((len(layers), int(result.heads.max()) + 1), np.nan)
    wall[rows, result.heads] = numbers
    return wall


def _edges(ax: Axes, shape: tuple[int, int], layers: list[int]) -> None:
    n_layer, n_head = shape
    row_step, column_step = -(-n_layer // MOST_LETTERS), -(-n_head // MOST_LETTERS)
    ax.set_xticks(range(0, n_head, column_step))
    ax.set_yticks(range(0, n_layer, row_step), layers[::row_step])
    ax.tick_params(length=0)
    ax.set_xlabel("head")
    ax.set_ylabel("layer")
