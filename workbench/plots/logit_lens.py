"""Picture of the logit lens: the best next token after every layer at every position.

Source: the table of nostalgebraist's "interpreting GPT: the logit lens".
Left out: all computing, which `analysis.logit_lens` does.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..analysis.logit_lens import LogitLens
from .glyphs import FONT, short

__all__ = ["plot_logit_lens"]

FINAL = "#E69F00"


def plot_logit_lens(result: LogitLens, ax: Axes, n_last: int = 12) -> Axes:
    """Draw a cell for each stage (upwards) and token: its best next token, darker if probable.

    result: from `analysis.logit_lens`. n_last: tokens drawn, from the end. Cells whose token is
    already the last layer's are framed. Returns ax.
    """
    probs = result.top_probs[:, -n_last:]
    n_stages, n_tokens = probs.shape
    style = {"cmap": "Blues", "vmin": 0, "vmax": 1, "aspect": "auto", "origin": "lower"}
    image = ax.imshow(probs, **style)
    first = len(result.pieces) - n_tokens
    for stage, column in np.ndindex(n_stages, n_tokens):
        dark = probs[stage, column] > 0.55
        text = {"ha": "center", "va": "center", "fontsize": 7.5, "parse_math": False}
        piece = short(result.top_pieces[stage][first + column])
        ax.text(column, stage, piece, color="white" if dark else "black", family=FONT, **text)
        if result.final_ranks[stage, first + column] == 0:
            frame = {"fill": False, "edgecolor": FINAL, "linewidth": 1.6}
            ax.add_patch(Rectangle((column - 0.46, stage - 0.44), 0.92, 0.88, **frame))
    labels = [short(piece) for piece in result.pieces[first:]]
    ax.set_xticks(range(n_tokens), labels, rotation=30, ha="right", rotation_mode="anchor",
                  fontfamily=FONT, fontsize=8, parse_math=False)  # fmt: skip
    ax.set_yticks(range(n_stages), result.stages)
    ax.tick_params(length=0)
    ax.set_xlabel("token read (in the cells: the best next token; framed: as after the last layer)")
    ax.set_ylabel("stream taken after")
    bar = ax.figure.colorbar(image, ax=ax, label="its probability", pad=0.01)
    bar.outline.set_visible(False)
    return ax
