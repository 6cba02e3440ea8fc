"""The merges of one word as trees: which symbols became which.

    Ġthere                 #412
    ├── Ġthe               step 3, rank 12
    │   ├── Ġt             step 1, rank 0
    │   │   ├── Ġ
    │   │   └── t
    │   └── he             step 2, rank 4
    …

A word that its encoder does not merge (WordPiece, Unigram, …) has a flat tree for each token.

Source: our own. Leaves out drawing (plots/token_trace.py).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trace_steps import Lookup, WordTrace

__all__ = [
    "MAX_LINES",
    "MergeForest",
    "MergeNode",
    "merge_forest",
    "priority",
    "shown",
    "visible",
]

MAX_LINES = 400  # of a printed tree


@dataclass(frozen=True, slots=True, eq=False)
class MergeNode:
    """A symbol over symbols[start:end]; step: which merge made it (0: the first), None: a leaf."""

    symbol: str
    start: int
    end: int
    step: int | None = None
    rank: int | None = None
    score: float | None = None
    children: tuple["MergeNode", ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether this is a starting symbol, or one that no merge made."""
        return not self.children


@dataclass(frozen=True, slots=True, eq=False)
class MergeForest:
    """The trees of a word, one for each symbol that is left in the end.

    notes: what stands behind each root's symbol: its ids.
    """

    text: str
    roots: tuple[MergeNode, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = []
        for root, note in zip(self.roots, self.notes, strict=True):
            lines += _tree_lines(root, note, MAX_LINES - len(lines))
        n = sum(node_count(root) for root in self.roots)
        if n > len(lines):
            lines.append(f"… {n - len(lines)} more")
        return "\n".join(lines)

    def to_dict(self) -> list[dict]:
        """The trees as nested dicts of plain values."""
        return [_as_dict(root) for root in self.roots]


def visible(text: str) -> str:
    """The text with everything unprintable escaped, so that it stays on its line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(symbol: str) -> str:
    """A symbol as it is shown by itself: unprintable characters escaped, a space as ␣."""
    return visible(symbol).replace(" ", "␣")


def merge_forest(word: "WordTrace") -> MergeForest:
    """Build the trees of a word from its steps."""
    at: dict[int, MergeNode] = {}  # position -> the symbol that starts there now
    for number, step in enumerate(word.steps):
        if not hasattr(step, "middle"):  # not a merge: the runs are flat
            break
        left = at.get(step.start) or MergeNode(step.left, step.start, step.middle)
        right = at.pop(step.middle, None) or MergeNode(step.right, step.middle, step.end)
        at[step.start] = MergeNode(
            step.result, step.start, step.end, number, step.rank, step.score, (left, right)
        )
    roots = tuple(at.get(lookup.start) or _flat(lookup, word.symbols) for lookup in word.lookups)
    return MergeForest(word.text, roots, tuple(map(_note, word.lookups)))


def node_count(root: MergeNode) -> int:
    """How many nodes a tree has."""
    count, todo = 0, [root]
    while todo:
        node = todo.pop()
        count += 1
        todo += node.children
    return count


def _flat(lookup: "Lookup", symbols: tuple[str, ...]) -> MergeNode:
    start, end = lookup.start, lookup.end
    if end == start + 1:
        return MergeNode(lookup.symbol, start, end)
    leaves = (MergeNode(symbols[i], i, i + 1) for i in range(start, end))
    return MergeNode(lookup.symbol, start, end, children=tuple(leaves))


def _note(lookup: "Lookup") -> str:
    ids = " ".join(f"#{token_id}" for token_id in lookup.token_ids)
    return ids if lookup.how == "token" else f"{ids} ({lookup.how})".strip()


def _tree_lines(root: MergeNode, note: str, limit: int) -> list[str]:
    lines, todo = [], [(root, "", "")]
    while todo and len(lines) < limit:
        node, lead, below = todo.pop()
        made = [] if node.step is None else [f"step {node.step}", priority(node)]
        made += [note] if node is root and note else []
        lines.append(f"{lead}{shown(node.symbol)}" + (f"   {', '.join(made)}" if made else ""))
        *others, last = node.children or (None,)
        if last is not None:
            todo.append((last, below + "└── ", below + "    "))
            todo += [(child, below + "├── ", below + "│   ") for child in reversed(others)]
    return lines


def priority(step) -> str:
    """The rank or the score of a step or a candidate, in words."""
    return f"rank {step.rank}" if step.score is None else f"score {step.score:g}"


def _as_dict(root: MergeNode) -> dict:
    made: dict[int, dict] = {}
    order, todo = [], [root]
    while todo:
        order.append(node := todo.pop())
        todo += node.children
    for node in reversed(order):  # children before parents: no recursion, trees may be deep
        keys = ("symbol", "start", "end", "step", "rank", "score")
        values = {key: getattr(node, key) for key in keys}
        children = [made.pop(id(child)) for child in node.children]
        made[id(node)] = values | ({"children": children} if children else {})
    return made[id(root)]
