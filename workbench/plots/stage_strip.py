"""A sampler chain as a strip, one row a stage: tokens in and out, entropy, what was removed.

Two forms of the same rows: HTML (in a panel; colours of JupyterLab's theme) and matplotlib.
Stages that are off are grey.
"""

import math
from collections.abc import Sequence
from html import escape

from matplotlib.axes import Axes

from ..analysis.stage_strip import StageRow
from .glyphs import FONT, drawable
from .next_token import AFTER, KEPT

# of JupyterLab's theme, light or dark; the second one where a page has no theme
TEXT = "var(--jp-ui-font-color1,inherit)"
GREY = "var(--jp-ui-font-color2,#757575)"
TRACK = "var(--jp-layout-color2,#eeeeee)"
CELL = "padding:0 12px 0 0;text-align:left;white-space:nowrap;vertical-align:top"


def stage_strip_html(rows: Sequence[StageRow]) -> str:
    """The rows as an HTML table; every piece of the vocabulary is escaped."""
    head = "".join(
        f'<th style="{CELL};font-weight:600">{title}</th>'
        for title in ("stage", "tokens", "", "entropy in nats", "what it did")
    )
    most = max((row.n_before for row in rows), default=1)
    body = "".join(_html_row(row, most) for row in rows)
    return (
        f'<table style="border-collapse:collapse;font-size:12px;line-height:1.4;color:{TEXT};'
        f'background:transparent"><tr>{head}</tr>{body}</table>'
    )


def _html_row(row: StageRow, most: int) -> str:
    if not row.active:
        cells = ("", "", "", escape(row.effect))
    else:
        tokens = f"{row.n_before:,} → {row.n_after:,}"
        entropy = f"{row.entropy_before:.2f} → {row.entropy_after:.2f}"
        cells = (tokens, _bar(row.n_after, most), entropy, escape(what_it_did(row)))
    colour = TEXT if row.active else GREY
    wide = CELL.replace("nowrap", "normal")
    name = escape(row.label if row.active else row.name)
    columns = zip((CELL, CELL, CELL, CELL, wide), (name, *cells), strict=True)
    inner = "".join(f'<td style="{style}">{cell}</td>' for style, cell in columns)
    style = f"color:{colour};background:transparent"
    return f'<tr title="{escape(row.effect)}" style="{style}">{inner}</tr>'


def _bar(n: int, most: int, width: int = 70) -> str:
    """A bar on a logarithmic scale: 1 token is a sliver, the whole vocabulary the full width."""
    filled = round(width * max(0.04, share_of_log(n, most)))
    return (
        f'<span style="display:inline-block;width:{width}px;height:9px;background:{TRACK}">'
        f'<span style="display:block;width:{filled}px;height:9px;background:{AFTER}"></span></span>'
    )


def share_of_log(n: int, most: int) -> float:
    """Where n lies between 1 (0.0) and most (1.0) on a logarithmic scale."""
    return math.log(max(n, 1)) / math.log(most) if most > 1 else 1.0


def what_it_did(row: StageRow) -> str:
    """The stage's doing in a few words: what it removed, most probable first, or its sentence."""
    if not row.removed_pieces:
        return row.effect.removeprefix(f"{row.label}: ")
    more = " …" if row.n_before - row.n_after > len(row.removed_pieces) else ""
    pieces = " ".join(row.removed_pieces)
    return f"removed {row.removed_share:.2%} of the probability: {pieces}{more}"


def plot_stage_strip(rows: Sequence[StageRow], ax: Axes) -> Axes:
    """Draw one row a stage: how many tokens entered (light) and left (dark), on a log scale.

    rows: from `analysis.stage_strip`. Returns ax; its figure should be about as high as a quarter
    of an inch a row.
    """
    for y, row in enumerate(rows):
        colour = "black" if row.active else "#757575"
        if row.active:
            ax.barh(y, max(row.n_before, 1) - 0.5, 0.7, left=0.5, color=KEPT)
            ax.barh(y, max(row.n_after, 1) - 0.5, 0.36, left=0.5, color=AFTER)
        label = {"va": "center", "color": colour, "parse_math": False, "size": 8}
        at_left = {"transform": ax.get_yaxis_transform(), "family": FONT}
        ax.text(-0.01, y, row.label if row.active else row.name, ha="right", **label, **at_left)
        ax.text(
            1.01,
            y,
            drawable(what_it_did(row) if row.active else "off"),
            ha="left",
            **label,
            **at_left,
        )
    ax.set_xscale("log")
    ax.set_xlim(0.5, 1.2 * max((row.n_before for row in rows), default=2))
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.set_yticks([])
    ax.set_xlabel("tokens: entered (light), left (dark)")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax
