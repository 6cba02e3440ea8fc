"""Temperature against top_p as heat maps, and how many drafted tokens were accepted."""

import numpy as np
from matplotlib.axes import Axes

from ..analysis.sampling_sweep import SWEEP_MEASURES, SamplingSweep
from ..errors import ParameterError
from ..speculative import Acceptance

__all__ = ["plot_acceptance", "plot_sampling_sweep"]

WORDS = {
    "distinct_1": "different tokens / tokens",
    "distinct_2": "different pairs / pairs",
    "distinct_3": "different triples / triples",
    "mean_logprob": "mean logprob, nats",
    "repetition": "tokens among the 32 before",
}


def plot_sampling_sweep(sweep: SamplingSweep, measure: str, ax: Axes) -> Axes:
    """Draw one of SWEEP_MEASURES for each pair of settings, with its number. Returns ax."""
    if measure not in SWEEP_MEASURES:
        names = ", ".join(SWEEP_MEASURES)
        raise ParameterError(f"measure: expected one of {names}, got {measure!r}")
    values = getattr(sweep, measure)
    image = ax.imshow(values, cmap="cividis", aspect="auto", origin="lower")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (i, j), v in np.ndenumerate(values):
        colour = "#000000" if v > middle else "#ffffff"
        ax.text(j, i, f"{v:.2f}", ha="center", va="center", color=colour, fontsize=8)
    ax.set_xticks(range(len(sweep.top_ps)), [f"{p:g}" for p in sweep.top_ps])
    ax.set_yticks(range(len(sweep.temperatures)), [f"{t:g}" for t in sweep.temperatures])
    ax.set_xlabel("top_p")
    ax.set_ylabel("temperature")
    ax.set_title(WORDS[measure], fontsize=10)
    ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.04)
    return ax


def plot_acceptance(acceptances: dict[str, Acceptance], ax: Axes) -> Axes:
    """Draw the share of drafted tokens that were accepted, by place in the draft. Returns ax.

    acceptances: of each draft, under the name that the legend shows.
    """
    colours = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")  # Okabe and Ito's
    width = 0.8 / max(len(acceptances), 1)
    for i, (name, acceptance) in enumerate(acceptances.items()):
        places = (
            np.arange(1, len(acceptance.proposed) + 1) + (i - (len(acceptances) - 1) / 2) * width
        )
        label = f"{name}: {acceptance.tokens_per_pass:.2f} tokens a pass"
        ax.bar(places, np.nan_to_num(acceptance.rates), width, label=label, color=colours[i % 4])
    longest = max((len(a.proposed) for a in acceptances.values()), default=1)
    ax.set_xticks(range(1, longest + 1))
    ax.set_ylim(0, 1)
    ax.set_xlabel("place in the draft")
    ax.set_ylabel("accepted / proposed")
    ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return ax
