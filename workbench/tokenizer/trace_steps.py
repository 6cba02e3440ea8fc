"""The records a tokenizer trace is made of: what happened to a text, stage by stage.

    text  "Hi there<eos>"
     │  SpecialStep      tokens found in the text before anything else: <eos>
     │  Fragment         the text between them: "Hi there"
     │    normalised     as the model sees it, with the characters each one came from: "▁Hi▁there"
     │    WordTrace      a piece that is encoded by itself: "▁there", and the Cut that made it
     │      symbols      ▁ t h e r e                  (characters, or bytes: `unit`)
     │      steps        MergeStep | PrefixStep | LatticeStep, with the candidates that lost
     │      lookups      what is left -> token ids: "▁there" -> 412
     ▼
    ids

An encoder (bpe, spm, wpm, ugm, rwkv, plamo2) fills `EncoderTrace` in its method `trace(text)`, for
the text its `encode` gets. It counts in symbols of a word and in characters of its normalised text
and knows nothing else; `trace.py` places its words in the original text (`WordTrace.span`).

    which steps     MergeStep    the best adjacent pair joined      BPE, SentencePiece
                    PrefixStep   a prefix taken greedily            WordPiece, RWKV
                    LatticeStep  the best way to reach a position   Unigram, PLaMo-2

Every step says where in `symbols` it acts: symbol `i` of the word lies between positions i and i+1.
`kept_losers` bounds the losing candidates that are kept, so that a trace is O(n) in memory; a step
always has the count of all (`n_losers`). A word is replayed by `WordTrace.replay()`: the steps cut
`symbols` into runs, and each lookup turns one run into ids.

Source: our own records of the algorithms in llama.cpp src/llama-vocab.cpp. Leaves out printing and
tables (trace_text.py, trace_table.py).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .trace_tree import MergeForest, merge_forest

__all__ = [
    "KEPT_LOSERS",
    "LONG_WORD",
    "Candidate",
    "Cut",
    "Edge",
    "EncoderTrace",
    "Fragment",
    "LatticeStep",
    "Lookup",
    "MergeStep",
    "PrefixStep",
    "Span",
    "SpecialStep",
    "WordTrace",
    "kept_losers",
]

KEPT_LOSERS = 16  # of one step, the best first
LONG_WORD = 4096  # symbols; the steps of longer words keep none, only their number

How = Literal["token", "bytes", "whole word", "unknown", "dropped"]


def kept_losers(n_symbols: int) -> int:
    """How many losing candidates each step of a word of this many symbols keeps."""
    return KEPT_LOSERS if n_symbols <= LONG_WORD else 0


@dataclass(frozen=True, slots=True)
class Span:
    """A place in the original text, in characters and in UTF-8 bytes.

    A token that is a part of a character has the bytes of that part and the whole character.
    """

    start: int
    end: int
    byte_start: int
    byte_end: int


@dataclass(frozen=True, slots=True)
class SpecialStep:
    """A special token found in the text; `left` and `right`: white space it swallowed."""

    token_id: int
    text: str
    left: str
    right: str
    span: Span  # white space included


@dataclass(frozen=True, slots=True)
class Cut:
    """What cut a word out of the text: regex number `index` of the set `name`.

    matched: the word is a match of `pattern`; else it lies between two matches of the last regex
    that cut there.
    """

    name: str
    index: int
    pattern: str
    matched: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adjacent pair that could be merged; `rank` (of a merge) or `score` (of its text)."""

    left: str
    right: str
    start: int  # position of the left symbol's first starting symbol
    rank: int | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class MergeStep:
    """The best pair joined: left = symbols[start:middle], right = symbols[middle:end].

    rank: of the merge, the smallest wins; score: of the merged text, the greatest wins; equal ones
    from left to right. One of the two is None.
    """

    left: str
    right: str
    start: int
    middle: int
    end: int
    rank: int | None
    score: float | None
    losers: tuple[Candidate, ...]  # the other pairs alive at this moment, best first
    n_losers: int

    @property
    def result(self) -> str:
        """The new symbol."""
        return self.left + self.right


@dataclass(frozen=True, slots=True)
class PrefixStep:
    """The prefix symbols[start:end] taken; symbol None: none fits, and the word is given up.

    losers: the other prefixes at `start` that are tokens, longest first.
    """

    start: int
    end: int
    symbol: str | None
    token_id: int | None
    losers: tuple[str, ...] = ()
    n_losers: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """A token over symbols[start:end]; total: of the best path that ends (or begins) with it."""

    start: int
    end: int
    symbol: str
    token_id: int | None
    score: float
    total: float


@dataclass(frozen=True, slots=True)
class LatticeStep:
    """The best edge at a position, and the others.

    position is `best.end` where the lattice is built from the start (Unigram), `best.start` where
    it is built from the end (PLaMo-2). A word has at most one step a position.
    """

    position: int
    best: Edge
    losers: tuple[Edge, ...] = ()  # best first
    n_losers: int = 0


Step = MergeStep | PrefixStep | LatticeStep


@dataclass(frozen=True, slots=True)
class Lookup:
    """What symbols[start:end] becomes.

    how: "token" one id; "bytes" spelled byte by byte; "whole word" a token as it stands, steps or
    not (ignore_merges); "unknown" the unknown token; "dropped" no id. Only "whole word" and
    "unknown" may cover several of the runs that the steps leave.
    """

    symbol: str
    start: int
    end: int
    token_ids: tuple[int, ...]
    how: How = "token"


@dataclass(frozen=True, slots=True)
class WordTrace:
    """One piece that is encoded by itself.

    text: as in the normalised text, at its characters start..end; symbols: what it starts from;
    unit: what each of them is of `text`, a character or a byte of its UTF-8.
    """

    text: str
    start: int
    end: int
    symbols: tuple[str, ...]
    steps: tuple[Step, ...]
    lookups: tuple[Lookup, ...]
    unit: Literal["character", "byte"] = "character"
    cut: Cut | None = None  # None: no regex; cut where no token of the vocabulary crosses
    span: Span | None = None  # in the original text, filled in when the trace is put together

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The ids this word becomes."""
        return tuple(i for lookup in self.lookups for i in lookup.token_ids)

    def tree(self) -> MergeForest:
        """The merges as trees: print it, or walk `roots`."""
        return merge_forest(self)

    def runs(self, n_steps: int | None = None) -> list[tuple[int, int]]:
        """What the first n_steps steps (None: all) leave: (start, end) in `symbols`, in order.

        Before its last step a lattice has no runs yet; then all symbols stand alone.
        """
        steps, n = self.steps[:n_steps], len(self.symbols)
        if steps and isinstance(steps[0], LatticeStep):
            return _best_path(steps, n) if len(steps) == len(self.steps) else _singles(0, n)
        if steps and isinstance(steps[0], PrefixStep):
            return _prefix_runs(steps, n)
        return _merge_runs(steps, self.symbols)

    def replay(self) -> list[int]:
        """The ids, from `symbols`, `steps` and `lookups` alone."""
        runs, at, ids = self.runs(), 0, []
        for lookup in self.lookups:
            first = at
            while at < len(runs) and runs[at][1] <= lookup.end:
                at += 1
            several = lookup.how in ("whole word", "unknown")
            assert at == first + 1 or (several and at > first), f"{lookup} takes no run of {runs}"
            assert (runs[first][0], runs[at - 1][1]) == (lookup.start, lookup.end)
            ids += lookup.token_ids
        assert at == len(runs), f"{len(runs) - at} runs of {self.text!r} were not looked up"
        return ids


def _singles(start: int, end: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(start, end)]


def _merge_runs(steps: tuple[Step, ...], symbols: tuple[str, ...]) -> list[tuple[int, int]]:
    end_of, text_of = list(range(1, len(symbols) + 1)), list(symbols)
    for step in steps:
        assert (end_of[step.start], end_of[step.middle]) == (step.middle, step.end)
        assert (text_of[step.start], text_of[step.middle]) == (step.left, step.right)
        end_of[step.start], text_of[step.start] = step.end, step.result
    runs, at = [], 0
    while at < len(symbols):
        runs.append((at, end_of[at]))
        at = end_of[at]
    return runs


def _prefix_runs(steps: tuple[Step, ...], n: int) -> list[tuple[int, int]]:
    """The prefixes, and what comes after them symbol by symbol; given up: all of it."""
    runs = []
    for step in steps:
        assert step.start == (runs[-1][1] if runs else 0)
        if step.symbol is None:
            return _singles(0, n)
        runs.append((step.start, step.end))
    return runs + _singles(runs[-1][1], n)


def _best_path(steps: tuple[Step, ...], n: int) -> list[tuple[int, int]]:
    best = {step.position: step.best for step in steps}
    forward = steps[0].position == steps[0].best.end
    runs, at = [], n if forward else 0
    while at != (0 if forward else n):
        runs.append((best[at].start, best[at].end))
        at = best[at].start if forward else best[at].end
    return runs[::-1] if forward else runs


@dataclass(frozen=True, eq=False)
class EncoderTrace:
    """What an encoder did with a text without special tokens: the answer of `encoder.trace(text)`.

    normalised: the text as the encoder reads it (escaped, lower-cased, composed …); origin: for
    each of its characters the (start, end) in `text` it came from, (n, 2) int32; an added one has
    start = end; None: each character came from the one at the same index. words: in order; their
    ids one after another are what `encode(text)` gives.
    """

    text: str
    normalised: str
    origin: np.ndarray | None
    words: tuple[WordTrace, ...]


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of the text between special tokens, placed in the original text.

    span: its place; prefix: what was put in front of it ("" or " "); normalised: as the model reads
    it, prefix included; words: with their spans.
    """

    span: Span
    text: str
    prefix: str
    normalised: str
    words: tuple[WordTrace, ...]
