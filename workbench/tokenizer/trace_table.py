"""A token trace as tables, one a stage, and as plain values.

Source: our own. Leaves out the text form (trace_text.py).
"""

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from .trace_steps import LatticeStep, MergeStep, PrefixStep, SpecialStep

if TYPE_CHECKING:
    from pandas import DataFrame

    from .trace import TokenTrace

__all__ = ["STAGES", "stage_frame", "trace_dict"]

NULLABLE = ("word", "start", "end", "byte_start", "byte_end", "regex", "rank", "token_id")


def _special_rows(trace: "TokenTrace") -> Iterable[dict]:
    for stage in trace.specials:
        names = ("token_id", "text", "left", "right")
        yield {name: getattr(stage, name) for name in names} | _span_columns(stage.span)


def _fragment_rows(trace: "TokenTrace") -> Iterable[dict]:
    for stage in trace.fragments:
        names = ("text", "prefix", "normalised")
        values = {name: getattr(stage, name) for name in names}
        yield values | {"n_words": len(stage.words)} | _span_columns(stage.span)


def _word_rows(trace: "TokenTrace") -> Iterable[dict]:
    for number, word in enumerate(trace.words):
        cut = word.cut
        yield {
            "word": number,
            "text": word.text,
            **_span_columns(word.span),
            "regex": cut.index if cut else None,
            "pattern": cut.pattern if cut else None,
            "matched": cut.matched if cut else None,
            "n_symbols": len(word.symbols),
            "n_steps": len(word.steps),
            "token_ids": word.token_ids,
        }


def _step_rows(trace: "TokenTrace") -> Iterable[dict]:
    for number, word in enumerate(trace.words):
        for i, step in enumerate(word.steps):
            yield {"word": number, "step": i, "kind": type(step).__name__} | _step_columns(step)


def _step_columns(step: MergeStep | PrefixStep | LatticeStep) -> dict:
    record = step.best if isinstance(step, LatticeStep) else step
    skipped = ("losers", "n_losers")
    values = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in skipped}
    if isinstance(step, MergeStep):
        values["result"] = step.result
    elif isinstance(step, LatticeStep):
        values["position"] = step.position
    return values | {"n_losers": step.n_losers}


def _loser_rows(trace: "TokenTrace") -> Iterable[dict]:
    for number, word in enumerate(trace.words):
        for i, step in enumerate(word.steps):
            for loser in step.losers:
                values = {"symbol": loser} if isinstance(loser, str) else asdict(loser)
                yield {"word": number, "step": i} | values


def _lookup_rows(trace: "TokenTrace") -> Iterable[dict]:
    for number, word in enumerate(trace.words):
        for lookup in word.lookups:
            yield {"word": number} | asdict(lookup)


def _token_rows(trace: "TokenTrace") -> Iterable[dict]:
    for token in trace.tokens:
        names = ("token_id", "text", "piece", "how", "word")
        yield {name: getattr(token, name) for name in names} | _span_columns(token.span)


def _span_columns(span: Any) -> dict:
    names = ("start", "end", "byte_start", "byte_end")
    return {name: getattr(span, name, None) for name in names}


PLACE = "start end byte_start byte_end"
STAGES = {  # the rows of a stage, and the columns that a table without rows has
    "special": (_special_rows, f"token_id text left right {PLACE}"),
    "normalise": (_fragment_rows, f"text prefix normalised n_words {PLACE}"),
    "words": (
        _word_rows,
        f"word text {PLACE} regex pattern matched n_symbols n_steps token_ids",
    ),
    "steps": (_step_rows, "word step kind n_losers"),
    "losers": (_loser_rows, "word step"),
    "lookups": (_lookup_rows, "word symbol start end token_ids how"),
    "tokens": (_token_rows, f"token_id text piece how word {PLACE}"),
}


def stage_frame(trace: "TokenTrace", stage: str) -> "DataFrame":
    """One stage as a table; numbers that are missing in some rows are nullable integers.

    Raises: ParameterError for an unknown stage.
    """
    if stage not in STAGES:
        raise ParameterError(
            f"trace: no stage is called {stage!r}; expected one of {', '.join(STAGES)}"
        )
    import pandas as pd  # half a second to import: only when a table is asked for

    make_rows, columns = STAGES[stage]
    rows = list(make_rows(trace))
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns.split())
    kinds = dict.fromkeys(NULLABLE, "Int64") | dict.fromkeys(("score", "total"), "float64")
    return frame.astype({name: kinds[name] for name in frame if name in kinds})


def trace_dict(trace: "TokenTrace") -> dict:
    """The trace as plain values: bytes as hex, records as dicts."""
    return {
        "text": trace.text,
        "model": trace.model,
        "pre": trace.pre,
        "add_special": trace.add_special,
        "parse_special": trace.parse_special,
        "ids": trace.ids,
        "stages": [_plain(stage) for stage in trace.stages],
        "tokens": [_plain(token) for token in trace.tokens],
    }


def _plain(record: Any) -> dict:
    values = asdict(record)
    if "piece" in values:
        return values | {"piece": values["piece"].hex()}
    return {"stage": "special" if isinstance(record, SpecialStep) else "fragment"} | values
