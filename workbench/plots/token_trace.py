"""Pictures of a token trace: pieces in colours, the merge tree of a word, the ranks of its merges.

    pieces   ▁once▁ │upon│ ▁a │ …       neighbours in two tints, special tokens in a third
    tree     leaves below, each merge above what it joined, its rank or score beside it
    ranks    one column a step: the pair that won, and above it the pairs that lost

The tints differ in lightness too, so that colour-blind readers can tell them apart.
"""

from html import escape
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ..errors import ParameterError
from ..tokenizer.trace_snapshot import ShownPiece, TraceSnapshot
from ..tokenizer.trace_steps import MergeStep, WordTrace
from ..tokenizer.trace_tree import MergeForest, MergeNode, priority, shown
from .glyphs import FONT, drawable

__all__ = ["pieces_html", "plot_merge_ranks", "plot_merge_tree", "plot_pieces"]

TINTS = ("#a6d4f2", "#f7e0a3")  # sky blue and yellow of Okabe and Ito, lightened
SPECIAL, PLAIN, FRESH = "#a84300", "#eeeeee", "#0072b2"
WINNER, LOSER = "#0072b2", "#c9c9c9"
ADVANCE = 0.602  # width of a DejaVu Sans Mono character, as a share of the font size
MAX_LEAVES = 120  # of a drawn tree: more cannot be read


class PlacedPiece(NamedTuple):
    """A piece, or a part of one, on a line of the picture."""

    text: str
    column: int
    row: int
    piece: ShownPiece
    number: int  # of the piece


def piece_colours(piece: ShownPiece, number: int) -> tuple[str, str]:
    """Background and foreground of a piece; neighbours alternate, and pieces not looked up pale."""
    if piece.how in ("special", "added"):
        return SPECIAL, "#ffffff"
    return (TINTS[number % 2] if piece.token_ids else PLAIN), "#000000"


def pieces_html(snapshot: TraceSnapshot) -> str:
    """The pieces as HTML: one box a piece, its ids below it; everything of the text escaped.

    snapshot: from `trace.snapshot()`.
    """
    boxes = []
    for number, piece in enumerate(snapshot.pieces):
        back, fore = piece_colours(piece, number)
        ids = " ".join(map(str, piece.token_ids)) or ("" if piece.how == "symbol" else "—")
        border = FRESH if piece.fresh else "transparent"
        boxes.append(
            '<span style="display:inline-block;text-align:center;margin:1px">'
            f'<span title="{escape(_what(piece))}" style="display:block;white-space:pre;'
            f"font-family:monospace;padding:0 2px;background:{back};color:{fore};"
            f'border:2px solid {border}">{escape(shown(piece.symbol))}</span>'
            f'<small style="opacity:.7">{ids}&nbsp;</small></span>'
        )
    return f'<div style="line-height:1.35">{"".join(boxes)}</div>'


def _what(piece: ShownPiece) -> str:
    ids = ", ".join(map(str, piece.token_ids)) or "none yet"
    word = "" if piece.word is None else f", word {piece.word}"
    return f"{piece.how}{word}, ids {ids}"


def plot_pieces(snapshot: TraceSnapshot, ax: Axes | None = None, width: int = 100) -> Axes:
    """Draw the pieces in lines of `width` characters, neighbours in different tints.

    snapshot: from `trace.snapshot()`. Returns ax; the figure of an ax that is given should be about
    a third of an inch high for each line.
    """
    placed = place_pieces(snapshot, width)
    if ax is None:
        figsize = (10, 0.35 * (placed[-1].row + 1 if placed else 1))
        ax = plt.subplots(figsize=figsize, layout="constrained")[1]
    ax.set_xlim(0, width)
    ax.set_ylim(placed[-1].row + 1 if placed else 1, 0)
    ax.set_axis_off()
    size = _font_size(ax, width)
    for part in placed:
        back, fore = piece_colours(part.piece, part.number)
        edge = FRESH if part.piece.fresh else "white"
        ax.add_patch(
            Rectangle(
                (part.column, part.row + 0.08),
                len(part.text),
                0.84,
                facecolor=back,
                edgecolor=edge,
                lw=1.5,
                zorder=2 if part.piece.fresh else 1,
            )
        )
        _write(ax, part.column + len(part.text) / 2, part.row + 0.5, part.text, size, fore)
    return ax


def place_pieces(snapshot: TraceSnapshot, width: int) -> list[PlacedPiece]:
    """Where each piece stands in lines of `width` characters; one longer than a line is cut."""
    placed, column, row = [], 0, 0
    for number, piece in enumerate(snapshot.pieces):
        text = drawable(shown(piece.symbol))
        if column + len(text) > width and column:
            column, row = 0, row + 1
        for start in range(0, len(text), width):
            row, column = (row + 1, 0) if start else (row, column)
            part = text[start : start + width]
            placed.append(PlacedPiece(part, column, row, piece, number))
            column += len(part)
    return placed


class PlacedNode(NamedTuple):
    """A node of a merge tree; x: its middle, in characters; y: how many merges are below it."""

    node: MergeNode
    x: float
    y: int
    children: tuple[int, ...]  # indices of placed nodes


def place_tree(forest: MergeForest) -> list[PlacedNode]:
    """Lay the trees of a word side by side: leaves in a row, parents above the middle of theirs.

    Raises: ParameterError for a word of more symbols than can be read.
    """
    n = forest.roots[-1].end if forest.roots else 0
    if n > MAX_LEAVES:
        raise ParameterError(
            f"merge tree: the word has too many symbols; expected at most {MAX_LEAVES}, got {n}; "
            "print it instead"
        )
    placed: list[PlacedNode] = []
    column = 0.0

    def place(node: MergeNode) -> int:  # at most MAX_LEAVES deep
        nonlocal column
        children = tuple(place(child) for child in node.children)
        if children:
            x = (placed[children[0]].x + placed[children[-1]].x) / 2
            y = 1 + max(placed[child].y for child in children)
        else:
            size = max(len(label_of(node)), 2) + 1
            x, y = column + size / 2, 0
            column += size
        placed.append(PlacedNode(node, x, y, children))
        return len(placed) - 1

    for root in forest.roots:
        place(root)
        column += 1
    return placed


def label_of(node: MergeNode) -> str:
    """A node's symbol as it is drawn."""
    return drawable(shown(node.symbol))


def plot_merge_tree(
    forest: MergeForest, ax: Axes | None = None, n_steps: int | None = None
) -> Axes:
    """Draw the merges of a word: leaves below, each merge above the two it joined.

    forest: from `word.tree()`; n_steps: merges not among the first n_steps are drawn pale.
    Returns ax. Raises: ParameterError for a word of more than 120 symbols.
    """
    placed = place_tree(forest)
    if ax is None:
        height = 0.8 + 0.6 * max((node.y for node in placed), default=0)
        ax = plt.subplots(figsize=(9, height), layout="constrained")[1]
    ax.set_xlim(0, max((node.x + len(label_of(node.node)) / 2 for node in placed), default=1) + 1)
    ax.set_ylim(-0.6, max((node.y for node in placed), default=0) + 1)
    ax.set_axis_off()
    size = _font_size(ax, ax.get_xlim()[1])
    notes = {id(root): note for root, note in zip(forest.roots, forest.notes, strict=True)}
    for node, x, y, children in placed:
        made = node.step is None or n_steps is None or node.step < n_steps
        for below in map(placed.__getitem__, children):
            ends = [x, below.x], [y, below.y]
            ax.plot(*ends, color="#888888" if made else "#dddddd", lw=1, zorder=0)
        box = {"boxstyle": "round,pad=0.25", "facecolor": "white" if made else "#fafafa"}
        box["edgecolor"] = FRESH if made and not node.is_leaf else "#cccccc"
        _write(ax, x, y, label_of(node), size, "#000000" if made else "#bbbbbb", bbox=box)
        if node.step is not None:
            text, back = f"{node.step}: {priority(node)}", {"facecolor": "white", "lw": 0, "pad": 0}
            _write(ax, x, y + 0.4, text, size * 0.62, "#555555" if made else "#cccccc", bbox=back)
        if id(node) in notes:
            above = y + (0.5 if node.step is None else 0.7)
            _write(ax, x, above, notes[id(node)], size * 0.75, SPECIAL if made else "#cccccc")
    return ax


def plot_merge_ranks(word: WordTrace, ax: Axes | None = None) -> Axes:
    """Draw for each step the rank (or score) of the pair that won and of those that lost.

    In each column the winner is the lowest rank (the highest score). Its line may turn back: a
    merge can make a pair that is better than all there were. The axis is logarithmic but for the
    ten ranks (the scores) nearest to 0. Returns ax.
    """
    if ax is None:
        ax = plt.subplots(figsize=(9, 3), layout="constrained")[1]
    merges = [step for step in word.steps if isinstance(step, MergeStep)]
    if not merges:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no merges in this word", ha="center", transform=ax.transAxes)
        return ax
    by_score = merges[0].score is not None
    value = (lambda pair: pair.score) if by_score else (lambda pair: pair.rank)
    lost = [(i, value(pair)) for i, step in enumerate(merges) for pair in step.losers]
    won = [value(step) for step in merges]
    ax.plot(*zip(*lost, strict=True) if lost else ((), ()), "o", color=LOSER, label="lost", ms=5)
    ax.plot(range(len(won)), won, "o-", color=WINNER, label="won", lw=1, ms=7)
    for i, step in enumerate(merges):
        ax.annotate(
            drawable(shown(step.result)),
            (i, won[i]),
            xytext=(0, 10 if by_score else -14),
            textcoords="offset points",
            ha="center",
            family=FONT,
            fontsize=8,
            parse_math=False,
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_yscale("symlog", linthresh=10)
    ax.margins(x=0.06, y=0.2)
    ax.set(xlabel="step", ylabel="score" if by_score else "rank of the merge")
    ax.legend(frameon=False, fontsize=8)
    return ax


def _font_size(ax: Axes, width: float, largest: float = 11) -> float:
    """The size at which `width` characters fill the axes, at most `largest` points."""
    ax.figure.draw_without_rendering()  # lays the figure out, so that the width below is final
    points = ax.get_window_extent().width / ax.figure.dpi * 72
    return min(0.95 * points / width / ADVANCE, largest)  # a little air at both sides


def _write(ax: Axes, x: float, y: float, text: str, size: float, colour: str, **more) -> None:
    ax.text(
        x, y, text, color=colour, family=FONT, fontsize=size, ha="center", va="center",
        parse_math=False, **more,
    )  # fmt: skip
