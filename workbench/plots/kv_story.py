"""A text as one head sees it, in HTML: each token on the colour of its share of attention.

    Once upon a t̶i̶m̶e̶ there …        blue: kept in the cache; orange and crossed out: evicted

Leaves out: the numbers, which come from a recorded run.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm

from .stage_strip import TEXT
from .token_colours import readable_colours

MOST_TOKENS = 240  # of a text that is shown: about ten lines
KEPT, EVICTED = colormaps["Blues"], colormaps["Oranges"]
FAINT = 0.5  # exponent of the colour scale: shares of a few per cent can be told apart
SMALL = f"font-size:12px;line-height:1.5;color:{TEXT}"


def story_html(pieces: Sequence[str], shares: np.ndarray, kept: np.ndarray) -> str:
    """The last tokens of a text as spans: darker for a larger share of attention; blue where the
    position is kept, orange and crossed out where it is evicted.

    pieces: (S,) texts. shares, kept: (S,) float and bool. Every piece is escaped.
    """
    first = max(0, len(pieces) - MOST_TOKENS)
    norm = PowerNorm(FAINT, 0, max(float(shares[first:].max()), 1e-6))
    scales = [ScalarMappable(norm, colours) for colours in (EVICTED, KEPT)]
    spans = [f"{first} tokens before … "] if first else []
    for position in range(first, len(pieces)):
        share, stays = float(shares[position]), bool(kept[position])
        back, fore = readable_colours(share, scales[stays])
        title = f"position {position}, share {share:.3f}" + ("" if stays else ", evicted")
        line = "" if stays else ";text-decoration:line-through"
        text = escape(pieces[position].replace("␣", " ").replace("\\n", "↵"))
        style = f"background:{back};color:{fore}{line}"
        spans.append(f'<span title="{title}" style="{style}">{text}</span>')
    style = f"{SMALL};white-space:pre-wrap;overflow-wrap:anywhere"
    return f'<div style="{style}">{"".join(spans)}</div>'
