"""Pictures layer by layer: the stream and what is added to it, a logit taken apart, two models.

Source: colours of Okabe and Ito, and orange to purple around zero, for colour-blind eyes.
Left out: all computing, which the modules of `analysis` named below do.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ..analysis.attribution import LogitAttribution
from ..analysis.layer_divergence import LayerDivergence
from ..analysis.patching import PatchMap, PatchScan
from ..analysis.residual_stream import ResidualNorms
from .glyphs import FONT, drawable, short

__all__ = [
    "plot_head_attribution",
    "plot_layer_attribution",
    "plot_layer_divergence",
    "plot_patch_map",
    "plot_patch_scan",
    "plot_residual_norms",
]

STREAM, ATTENTION, FFN, MARK = "#000000", "#0072B2", "#E69F00", "#009E73"
LEFT = "#D55E00"
AROUND_ZERO = "PuOr_r"  # purple below zero, orange above


def plot_residual_norms(result: ResidualNorms, ax: Axes) -> Axes:
    """Draw the norm of the stream after each layer and of what the layer's halves add.

    result: from `analysis.residual_norms`. Lines are means over tokens, shades reach from the
    smallest to the largest token. Returns ax.
    """
    n_layer = len(result.attention)
    series = (
        ("stream after the layer", result.stream[1:], STREAM, "o"),
        ("added by attention", result.attention, ATTENTION, "s"),
        ("added by the network", result.ffn, FFN, "D"),
    )
    layers = np.arange(n_layer)
    for label, norms, colour, marker in series:
        ax.fill_between(layers, norms.min(axis=1), norms.max(axis=1), color=colour, alpha=0.12)
        ax.plot(layers, norms.mean(axis=1), color=colour, marker=marker, markersize=4, label=label)
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("layer")
    ax.set_ylabel("Euclidean norm (mean over tokens)")
    ax.legend(fontsize=8, frameon=False)
    return ax


def plot_head_attribution(
    result: LogitAttribution, ax: Axes, mark: Sequence[tuple[int, int]] = ()
) -> Axes:
    """Draw what each head adds to the logit, layers down, heads across.

    result: from `analysis.logit_attribution`. mark: (layer, head) pairs to frame. Returns ax.
    """
    image = ax.imshow(
        result.heads, cmap=AROUND_ZERO, norm=_around_zero(result.heads), aspect="auto"
    )
    for layer, head in mark:
        frame = {"fill": False, "edgecolor": MARK, "linewidth": 2}
        ax.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, **frame))
    ax.set_xticks(range(result.heads.shape[1]))
    ax.set_yticks(range(result.heads.shape[0]))
    ax.set_xlabel("head")
    ax.set_ylabel("layer")
    ax.set_title(f"heads, {_of_what(result)}", size=10, loc="left", parse_math=False)
    ax.figure.colorbar(image, ax=ax, label="logits added", pad=0.02)
    return ax


def plot_layer_attribution(result: LogitAttribution, ax: Axes) -> Axes:
    """Draw what each layer's attention and network add to the logit, and the rest of the sum.

    result: from `analysis.logit_attribution`. Returns ax.
    """
    places = np.arange(len(result.ffn))
    ax.barh(-1, result.embedding + result.constant, 0.6, color=STREAM, label="embedding, biases")
    ax.barh(places - 0.2, result.attention, 0.4, color=ATTENTION, label="attention")
    ax.barh(places + 0.2, result.ffn, 0.4, color=FFN, label="network")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_ylim(len(places) - 0.4, -1.6)
    ax.set_yticks([-1, *places], ["start", *places])
    ax.set_xlabel("logits added")
    ax.set_ylabel("layer")
    title = f"sum {result.total:.2f}, {_of_what(result)}"
    ax.set_title(title, size=10, loc="left", parse_math=False)
    ax.legend(fontsize=8, frameon=False)
    return ax


def plot_layer_divergence(result: LayerDivergence, ax: Axes) -> Axes:
    """Draw how far two models are apart in each activation, on a logarithmic axis.

    result: from `analysis.layer_divergence`. Returns ax.
    """
    places = np.arange(len(result.names))
    ax.plot(places, result.nmse, color=ATTENTION, marker="o", label="NMSE")
    ax.plot(places, 1 - result.cosine, color=FFN, marker="s", label="1 − cosine, mean of tokens")
    style = {"color": FFN, "marker": "s", "linestyle": ":", "markersize": 3}
    ax.plot(places, 1 - result.worst_cosine, label="1 − cosine, worst token", **style)
    ax.set_yscale("log")
    ax.set_xticks(places, result.names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_ylabel("distance from the base (no unit)")
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    ax.legend(fontsize=8, frameon=False)
    return ax


def plot_patch_scan(result: PatchScan, ax: Axes) -> Axes:
    """Draw each stage's own damage as bars, and what is left when it is undone so far as a line.

    result: from `analysis.patch_by_layer`. Returns ax.
    """
    places = np.arange(len(result.stages))
    ax.bar(places, result.damage, 0.7, color=ATTENTION, label="damage done by the stage")
    left = [result.kl_before, *result.kl_left]
    ax.stairs(left, np.arange(-1.5, len(places)), color=LEFT, linewidth=1.5, baseline=None)
    ax.plot([], [], color=LEFT, label="left, when all up to the stage is clean")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xlim(-1.5, len(places) - 0.5)
    ax.set_xticks([-1, *places], ["none", *result.stages], rotation=45, ha="right",
                  rotation_mode="anchor")  # fmt: skip
    ax.set_xlabel("clean stream put in after")
    ax.set_ylabel("KL from the clean model (nats)")
    ax.legend(fontsize=8, frameon=False)
    return ax


def plot_patch_map(result: PatchMap, ax: Axes) -> Axes:
    """Draw the share of the divergence healed by patching each stage at each position.

    result: from `analysis.patch_by_position`. Stages go upwards. Returns ax.
    """
    healed = np.clip(result.healed, -1, 1)
    norm = TwoSlopeNorm(0, -1, 1)
    image = ax.imshow(healed, cmap=AROUND_ZERO, norm=norm, aspect="auto", origin="lower")
    style = {"fontfamily": FONT, "fontsize": 8, "parse_math": False}
    ax.set_xticks(range(len(result.pieces)), map(short, result.pieces), rotation=90, **style)
    ax.set_yticks(range(len(result.stages)), result.stages)
    ax.set_xlabel("token at the patched position")
    ax.set_ylabel("clean stream put in after")
    bar = ax.figure.colorbar(image, ax=ax, label="share of the divergence healed", pad=0.02)
    bar.set_ticks([-1, -0.5, 0, 0.5, 1], labels=["−1 or less", "−0.5", "0", "0.5", "1"])
    return ax


def _around_zero(values: np.ndarray) -> TwoSlopeNorm:
    """A colour scale with zero in its middle."""
    largest = float(np.abs(values).max()) or 1.0
    return TwoSlopeNorm(0, -largest, largest)


def _of_what(result: LogitAttribution) -> str:
    name = f"logit of {drawable(result.piece)!r}"
    return name if result.against is None else f"{name} over {drawable(result.against)!r}"
