"""What the colour of a token says: its probability, rank, entropy or surprise.

The scale is cividis: from dark to bright also in grey and for colour-blind readers.
Leaves out: where the tokens stand (`generated_text`, `token_tree`).
"""

from typing import NamedTuple

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_hex

from ..errors import ParameterError

__all__ = ["COLOURS", "TOKEN_MEASURES", "TokenMeasure", "colour_scale", "readable_colours"]

COLOURS = matplotlib.colormaps["cividis"]


class TokenMeasure(NamedTuple):
    """A number of a token: its scale, and words for a legend."""

    norm: Normalize
    words: str
    short: str


TOKEN_MEASURES = {
    "prob": TokenMeasure(Normalize(0, 1), "probability under the model", "prob."),
    "rank": TokenMeasure(LogNorm(1, 100), "rank (1 = most probable)", "rank"),
    "entropy": TokenMeasure(Normalize(0, 5), "entropy of the choice, nats", "entropy, nats"),
    "surprise": TokenMeasure(Normalize(0, 8), "surprise, nats", "surprise, nats"),
}


def colour_scale(measure: str) -> ScalarMappable:
    """Number -> colour, for a measure's values; raises ParameterError for an unknown one."""
    if measure not in TOKEN_MEASURES:
        names = ", ".join(TOKEN_MEASURES)
        raise ParameterError(f"colour: expected one of {names}, got {measure!r}")
    return ScalarMappable(TOKEN_MEASURES[measure].norm, COLOURS)


def readable_colours(value: float, scale: ScalarMappable) -> tuple[str, str]:
    """Background and readable foreground for a value, as #rrggbb."""
    red, green, blue, _ = scale.to_rgba(float(value))
    # relative luminance as in WCAG 2 (gamma taken as 2.2); at 0.18 black and white read equally
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return to_hex((red, green, blue)), "#000000" if luminance > 0.18 else "#ffffff"
