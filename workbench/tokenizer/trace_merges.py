"""The merge loop of merges.py, watched: each step with the pairs that were alive and lost.

    symbols  h e l l o        live pairs  h+e 3, l+l 1, l+o 2
    step 1   l+l wins         lost        l+o 2, h+e 3

The rules are those of merges.py and the ranks come from the same tables; only the bookkeeping is
another, because the fast loop forgets at once what a trace must show. A test holds the two equal on
random vocabularies.

Source: `llm_tokenizer_spm_session`, `llm_tokenizer_bpe_session` in llama.cpp src/llama-vocab.cpp.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from .trace_steps import Candidate, MergeStep, kept_losers

__all__ = ["watch_merges"]

RankOf = Callable[[str, str], int | None]
ScoreOf = Callable[[str], float]


class _Pairs:
    """The live pairs of a word; `best` and `losers` give them in order of (rank, position)."""

    def __init__(self, symbols: Sequence[str], rank_of: RankOf, score_of: ScoreOf | None):
        self._rank_of, self._score_of = rank_of, score_of
        self._live: dict[int, tuple[int, Candidate]] = {}  # position -> rank, the pair
        self._heap: list[tuple[int, int]] = []
        for start in range(len(symbols) - 1):
            self.put(start, symbols[start], symbols[start + 1])

    def __len__(self) -> int:
        return len(self._live)

    def drop(self, start: int) -> None:
        self._live.pop(start, None)

    def put(self, start: int, left: str, right: str) -> None:
        """A new pair at `start`, in place of the one before."""
        self.drop(start)
        rank = self._rank_of(left, right)
        if rank is None:
            return
        score = None if self._score_of is None else self._score_of(left + right)
        shown = rank if score is None else None
        self._live[start] = rank, Candidate(left, right, start, shown, score)
        heappush(self._heap, (rank, start))

    def best(self) -> Candidate | None:
        """Take the best pair out of the heap; entries of pairs that are gone fall away."""
        while self._heap:
            rank, start = heappop(self._heap)
            if start in self._live and self._live[start][0] == rank:
                return self._live[start][1]
        return None

    def losers(self, n: int, winner: Candidate) -> tuple[Candidate, ...]:
        """The n best live pairs besides the winner."""
        found: dict[int, Candidate] = {}
        while len(found) < n and (pair := self.best()):
            if pair.start != winner.start:
                found[pair.start] = pair  # the heap may name a pair twice
        for start in found:
            heappush(self._heap, (self._live[start][0], start))
        return tuple(found.values())


def watch_merges(
    symbols: Sequence[str], rank_of: RankOf, score_of: ScoreOf | None = None
) -> tuple[MergeStep, ...]:
    """Merge adjacent symbols until no pair has a rank, and keep every step.

    symbols: of one word; rank_of(left, right): the smallest is merged first, equal ones from left
    to right, None: never; score_of(text): what to show instead of the rank.
    Returns: the steps in order, each with its `kept_losers` best losing pairs. O(n log n) time and
    O(n) memory for n symbols.
    """
    n, kept = len(symbols), kept_losers(len(symbols))
    text, pairs = list(symbols), _Pairs(symbols, rank_of, score_of)
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))  # neighbours still alive
    steps = []
    while pair := pairs.best():
        start, middle = pair.start, after[pair.start]
        end = after[middle]
        losers = pairs.losers(kept, pair)
        n_losers = len(pairs) - 1
        steps.append(
            MergeStep(
                pair.left, pair.right, start, middle, end, pair.rank, pair.score, losers, n_losers
            )
        )
        pairs.drop(start)
        pairs.drop(middle)
        text[start], after[start] = pair.left + pair.right, end
        if end < n:
            before[end] = start
            pairs.put(start, text[start], text[end])
        if before[start] >= 0:
            pairs.put(before[start], text[before[start]], text[start])
    return tuple(steps)
