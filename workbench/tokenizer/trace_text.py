"""A token trace as lines of text.

    text        "Hi there!" (9 characters, 9 bytes)
    regex 0     "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|…"
    fragment    "Hi there!", bytes 0..9
      word 0    "Hi", bytes 0..2, a match of regex 0
        0       H + i (rank 12, at 0)
                Hi -> 412
    …
    ids         412 98 5

Of a long text the first words, steps and ids are shown, and how many follow.

Source: our own. Leaves out tables (trace_table.py), pictures (plots/token_trace.py) and a word's
tree (trace_tree.py).
"""

from typing import TYPE_CHECKING

from .trace_steps import (
    Edge,
    Fragment,
    LatticeStep,
    Lookup,
    MergeStep,
    PrefixStep,
    Span,
    SpecialStep,
    WordTrace,
)
from .trace_tree import priority, shown, visible

if TYPE_CHECKING:
    from .trace import TokenTrace

__all__ = ["lookups_text", "step_text", "trace_text"]

SHOWN_WORDS, SHOWN_STEPS, SHOWN_LOSERS, SHOWN_IDS, SHOWN_CHARACTERS = 24, 24, 3, 64, 72
SHOWN_STAGES = 48


def trace_text(trace: "TokenTrace") -> str:
    """All stages as lines of text, bounded for long texts."""
    pre = f", pre-tokenizer {trace.pre}" if trace.pre else ""
    n = f"{len(trace.text):,} characters, {len(trace.text.encode()):,} bytes"
    lines = [
        _line("tokenizer", f"{trace.model}{pre}"),
        _line("text", f"{_quoted(trace.text)} ({n})"),
    ]
    cuts = {word.cut.index: word.cut.pattern for word in trace.words[:SHOWN_WORDS] if word.cut}
    lines += [_line(f"regex {i}", _quoted(cuts[i])) for i in sorted(cuts)]
    n_words = 0
    for stage in trace.stages[:SHOWN_STAGES]:
        if isinstance(stage, SpecialStep):
            lines.append(_line("special", _special_text(stage)))
        elif n_words < SHOWN_WORDS:
            lines += _fragment_lines(stage, n_words)
            n_words += len(stage.words)
    if len(trace.stages) > SHOWN_STAGES:
        lines.append(
            _line("…", f"{len(trace.stages) - SHOWN_STAGES:,} more special tokens and texts")
        )
    if len(trace.words) > SHOWN_WORDS:
        lines.append(_line("  …", f"{len(trace.words) - SHOWN_WORDS:,} more words"))
    return "\n".join([*lines, *_id_lines(trace)])


def _line(label: str, text: str) -> str:
    return f"{label:<11} {text}"


def _quoted(text: str) -> str:
    return f'"{visible(text[:SHOWN_CHARACTERS])}{"…" if len(text) > SHOWN_CHARACTERS else ""}"'


def _place(span: Span | None) -> str:
    return "nowhere" if span is None else f"bytes {span.byte_start}..{span.byte_end}"


def _id_lines(trace: "TokenTrace") -> list[str]:
    ids = " ".join(map(str, trace.ids[:SHOWN_IDS]))
    more = f" … {len(trace.tokens) - SHOWN_IDS:,} more" if len(trace.tokens) > SHOWN_IDS else ""
    added = [("in front", trace.front), ("at the end", trace.back)]
    lines = [
        _line("added", f"{' '.join(map(str, extra))} {where}") for where, extra in added if extra
    ]
    return [*lines, _line("ids", ids + more)]


def _special_text(stage: SpecialStep) -> str:
    spaces = (("left", stage.left), ("right", stage.right))
    strips = [f"white space to its {side} swallowed" for side, space in spaces if space]
    return ", ".join([f"{visible(stage.text)} -> {stage.token_id}", _place(stage.span), *strips])


def _fragment_lines(stage: Fragment, n_before: int) -> list[str]:
    lines = [_line("fragment", f"{_quoted(stage.text)}, {_place(stage.span)}")]
    if stage.normalised != stage.text:
        lines.append(_line("normalised", _quoted(stage.normalised)))
    for number, word in enumerate(stage.words[: SHOWN_WORDS - n_before], n_before):
        lines += _word_lines(number, word)
    return lines


def _word_lines(number: int, word: WordTrace) -> list[str]:
    about = _line(f"  word {number}", f"{_quoted(word.text)}, {_place(word.span)}{_cut_text(word)}")
    if not word.steps:
        return [f"{about}: {lookups_text(word)}"]
    lines = [about]
    lines += [_line(f"    {i}", step_text(step)) for i, step in enumerate(word.steps[:SHOWN_STEPS])]
    if len(word.steps) > SHOWN_STEPS:
        lines.append(_line("    …", f"{len(word.steps) - SHOWN_STEPS:,} more steps"))
    return [*lines, _line("", lookups_text(word))]


def _cut_text(word: WordTrace) -> str:
    if word.cut is None:
        return ""
    return f", {'a match of' if word.cut.matched else 'between matches of'} regex {word.cut.index}"


def lookups_text(word: WordTrace) -> str:
    """The lookups of a word, the first ones of a long word, in one line."""
    found = [_lookup_text(lookup) for lookup in word.lookups[:SHOWN_STEPS]]
    if len(word.lookups) > SHOWN_STEPS:
        found.append(f"… {len(word.lookups) - SHOWN_STEPS:,} more")
    return ", ".join(found)


def _lookup_text(lookup: Lookup) -> str:
    ids = " ".join(map(str, lookup.token_ids)) or "nothing"
    how = "" if lookup.how == "token" else f" ({lookup.how})"
    return f"{shown(lookup.symbol[:SHOWN_CHARACTERS])} -> {ids}{how}"


def step_text(step: MergeStep | PrefixStep | LatticeStep, n_losers: int = SHOWN_LOSERS) -> str:
    """One step and the n_losers best of the candidates that lost (0: without), in one line."""
    first = step.losers[:n_losers]
    if isinstance(step, MergeStep):
        what = f"{shown(step.left)} + {shown(step.right)} ({priority(step)}, at {step.start})"
        lost = [f"{shown(c.left)} + {shown(c.right)} ({priority(c)})" for c in first]
    elif isinstance(step, PrefixStep):
        taken = "no prefix fits" if step.symbol is None else shown(step.symbol)
        what, lost = f"{taken} (at {step.start})", list(map(shown, first))
    else:
        what = f"{_edge_text(step.best)} (best at {step.position})"
        lost = list(map(_edge_text, first))
    rest = [f"{step.n_losers - len(lost):,} more"] if step.n_losers > len(lost) else []
    return f"{what}; lost: {', '.join([*lost, *rest])}" if step.n_losers and n_losers else what


def _edge_text(edge: Edge) -> str:
    return f"{shown(edge.symbol)} {edge.score:g}, total {edge.total:g}"
