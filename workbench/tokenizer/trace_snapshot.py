"""A text in the middle of its merges: what the pieces are after so many steps.

    step 0 of 9   O n c e | Ġ u p o n
    step 5        Once    | Ġu p on       the last step: o + n; what lost there

The steps of all words are numbered one after another in text order. (Words cannot influence one
another, so the order between them is free.) A word is looked up as soon as its steps are done.

Source: our own. Leaves out drawing (plots/token_trace.py).
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from ..errors import ParameterError
from .trace_steps import SpecialStep, Step, WordTrace

if TYPE_CHECKING:
    from .trace import TokenTrace, TracedToken

__all__ = ["ShownPiece", "TraceSnapshot", "trace_snapshot"]


@dataclass(frozen=True, slots=True)
class ShownPiece:
    """One piece at this moment.

    symbol: as the vocabulary would write it; token_ids: () before its word is looked up; how: a
    Lookup's, "special", "added", or "symbol" before the lookup; word: its index; fresh: made by the
    last step of a snapshot taken at a step.
    """

    symbol: str
    token_ids: tuple[int, ...]
    how: str
    word: int | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class TraceSnapshot:
    """All pieces after `step` of `n_steps` steps: the answer of `trace.snapshot(step)`.

    last: the step that led here, None at the start; word: index of the word it acted on (at the
    start: of the first word with steps); step_in_word: how many steps of that word are done.
    """

    step: int
    n_steps: int
    last: Step | None
    word: int | None
    step_in_word: int
    pieces: tuple[ShownPiece, ...]


def trace_snapshot(trace: "TokenTrace", step: int | None = None) -> TraceSnapshot:
    """Show the pieces of a trace after a number of steps.

    step: 0 (the symbols) up to the number of all steps; None: all of them.
    Raises: ParameterError for another step.
    """
    ends = list(accumulate(len(word.steps) for word in trace.words))
    n_steps = ends[-1] if ends else 0
    asked, step = step is not None, n_steps if step is None else step
    if not isinstance(step, int) or not 0 <= step <= n_steps:
        raise ParameterError(
            f"step: outside the trace; expected 0 to {n_steps}, got {step!r}; choose one of those"
        )
    number, done, last = None, 0, None
    if n_steps:  # the word of the last step; at the start the first word that has steps
        number = bisect_right(ends, max(step - 1, 0))
        steps = trace.words[number].steps
        done = step - ends[number] + len(steps)
        last = steps[done - 1] if step else None
    n_front, n_back = len(trace.front), len(trace.back)
    pieces = _added(trace.tokens[:n_front])
    n = 0
    for stage in trace.stages:
        if isinstance(stage, SpecialStep):
            pieces.append(ShownPiece(stage.text, (stage.token_id,), "special"))
            continue
        for i, word in enumerate(stage.words, n):
            n_done = done if i == number else len(word.steps) if ends[i] <= step else 0
            pieces += _pieces(i, word, n_done, last if asked and i == number else None)
        n += len(stage.words)
    pieces += _added(trace.tokens[len(trace.tokens) - n_back :])
    return TraceSnapshot(step, n_steps, last, number, done, tuple(pieces))


def _added(tokens: Iterable["TracedToken"]) -> list[ShownPiece]:
    return [ShownPiece(token.text, (token.token_id,), "added") for token in tokens]


def _pieces(number: int, word: WordTrace, n_done: int, last: Step | None) -> list[ShownPiece]:
    fresh = None if last is None else getattr(last, "start", None)
    if n_done == len(word.steps):
        return [
            ShownPiece(found.symbol, found.token_ids, found.how, number, found.start == fresh)
            for found in word.lookups
        ]
    return [
        ShownPiece("".join(word.symbols[start:end]), (), "symbol", number, start == fresh)
        for start, end in word.runs(n_done)
    ]
