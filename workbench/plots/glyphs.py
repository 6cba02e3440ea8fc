"""Labels that matplotlib's own font can draw: other characters become \\u escapes.

A missing glyph would be drawn as an empty box and warned about; the escape says what it is.
"""

from functools import lru_cache

from matplotlib.font_manager import findfont, get_font

FONT = "DejaVu Sans Mono"  # comes with matplotlib, so pictures look the same everywhere

LONGEST = 12  # characters of a label


def drawable(text: str) -> str:
    """The text with every character that FONT lacks written as an escape."""
    known = _known()
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in text)


def short(piece: str) -> str:
    """A token's text as a label, cut where it is long."""
    return drawable(piece if len(piece) <= LONGEST else piece[: LONGEST - 1] + "…")


@lru_cache(maxsize=1)
def _known() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())
