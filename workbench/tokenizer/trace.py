"""A text on its way to token ids, with everything that happened: `tok.trace(text)`.

    trace.stages   special tokens and the fragments between them, in text order
    trace.words    the words of all fragments: symbols, steps, losing candidates, lookups
    trace.tokens   one record an id: its text, where it came from, its place in the original
    trace.ids      what `encode` gives; `trace.replay()` recomputes them from the steps alone

    print(trace)            all stages as text, bounded
    trace.to_frame("steps") a table of one stage: special, normalise, words, steps, losers, lookups
                            or tokens
    trace.words[2].tree()   the merges of one word
    trace.snapshot(5)       all pieces after five steps
    trace.to_dict()         plain values, for JSON

Places are in characters and bytes of the text given. A token that stands for a part of a character
has the bytes of that part. Where the normalised text differs from the original (lower case, spaces
written as ▁ …), a part of a changed character stands for the whole of it, and something added has
an empty place. Tokens that encode adds (BOS, EOS) have none.

Source: `llama_vocab::impl::tokenize` in llama.cpp src/llama-vocab.cpp for the order of the stages;
the records are our own. Leaves out the encoders' own work (trace_words.py and their `trace`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from .trace_places import FragmentPlaces, TextPlaces
from .trace_snapshot import TraceSnapshot, trace_snapshot
from .trace_steps import EncoderTrace, Fragment, Span, SpecialStep, WordTrace
from .trace_table import stage_frame, trace_dict
from .trace_text import trace_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from .tokenizer import Tokenizer

__all__ = ["MAX_TRACE_BYTES", "TokenTrace", "TracedToken", "check_length", "make_trace"]

MAX_TRACE_BYTES = 1 << 21  # a trace keeps some hundred bytes for each byte of the text

Part = tuple[int, int, int | EncoderTrace]
Found = tuple[int, str, int | None, Span | None]  # the fields of a TracedToken but the texts


@dataclass(frozen=True, slots=True)
class TracedToken:
    """One id of the result.

    text: as the vocabulary has it; piece: the bytes it stands for; how: a Lookup's, "special" or
    "added"; word: its index in `trace.words`, None outside of words; span: its place.
    """

    token_id: int
    text: str
    piece: bytes
    how: str
    word: int | None
    span: Span | None


@dataclass(frozen=True, eq=False)
class TokenTrace:
    """Every stage of one text's way to ids.

    text: the original; model, pre: of the tokenizer; add_special, parse_special: the flags; front,
    back: ids that encode adds; stages: in text order; tokens: all ids, added ones too.
    """

    text: str
    model: str
    pre: str | None
    add_special: bool
    parse_special: bool
    front: tuple[int, ...]
    stages: tuple[SpecialStep | Fragment, ...]
    back: tuple[int, ...]
    tokens: tuple[TracedToken, ...]

    @property
    def ids(self) -> list[int]:
        """The token ids, as `encode` gives them."""
        return [token.token_id for token in self.tokens]

    @property
    def specials(self) -> tuple[SpecialStep, ...]:
        """The special tokens found in the text."""
        return tuple(stage for stage in self.stages if isinstance(stage, SpecialStep))

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        """The text between special tokens."""
        return tuple(stage for stage in self.stages if isinstance(stage, Fragment))

    @cached_property
    def words(self) -> tuple[WordTrace, ...]:
        """The words of all fragments, in text order."""
        return tuple(word for fragment in self.fragments for word in fragment.words)

    def replay(self) -> list[int]:
        """The ids, recomputed from the stages and their steps alone."""
        ids = list(self.front)
        for stage in self.stages:
            if isinstance(stage, SpecialStep):
                ids.append(stage.token_id)
            else:
                for word in stage.words:
                    ids += word.replay()
        return ids + list(self.back)

    def snapshot(self, step: int | None = None) -> TraceSnapshot:
        """The pieces after the first `step` steps of all words; None: after all.

        Raises: ParameterError for a step that the trace does not have.
        """
        return trace_snapshot(self, step)

    def to_frame(self, stage: str = "tokens") -> "DataFrame":
        """One stage as a pandas table.

        stage: "special", "normalise", "words", "steps", "losers", "lookups" or "tokens".
        Raises: ParameterError for another name.
        """
        return stage_frame(self, stage)

    def to_dict(self) -> dict:
        """The whole trace as plain dicts, lists, strings and numbers, which `json` can write."""
        return trace_dict(self)

    def __str__(self) -> str:
        return trace_text(self)

    def __repr__(self) -> str:
        return (
            f"TokenTrace(model={self.model!r}, {len(self.text)} characters, "
            f"{len(self.words)} words, {len(self.tokens)} ids)"
        )


def check_length(text: str) -> None:
    """Raises: ParameterError for a text too long to be traced."""
    n_bytes = len(text.encode())
    if n_bytes > MAX_TRACE_BYTES:
        raise ParameterError(
            f"trace: the text is too long; expected at most {MAX_TRACE_BYTES:,} bytes of UTF-8, "
            f"got {n_bytes:,}; trace a part of it"
        )


def make_trace(
    tokenizer: "Tokenizer", text: str, parts: Iterable[Part], prefix: str, **about: Any
) -> TokenTrace:
    """Put a trace together from the parts of a text.

    tokenizer: names the tokens; parts: (start, end, token id) of special tokens and (start, end,
    EncoderTrace) of the text between; prefix: put in front of each text; about: front, back,
    add_special and parse_special of the TokenTrace.
    """
    places, stages = TextPlaces(text), []
    found: list[Found] = [(i, "added", None, None) for i in about["front"]]
    n_words = 0
    for start, end, made in parts:
        span = places.span(start, end)
        if isinstance(made, EncoderTrace):
            inside = FragmentPlaces(places, start, prefix, made)
            words = tuple(
                replace(word, span=inside.characters(word.start, word.end)) for word in made.words
            )
            stages.append(Fragment(span, text[start:end], prefix, made.normalised, words))
            for number, word in enumerate(words, n_words):
                found += _of_word(number, word, inside.token_spans(word))
            n_words += len(words)
        else:
            token_text = tokenizer.token_text(made)
            left, _, right = text[start:end].partition(token_text)
            stages.append(SpecialStep(made, token_text, left, right, span))
            found.append((made, "special", None, span))
    found += [(i, "added", None, None) for i in about["back"]]
    used = {token_id for token_id, *_ in found}
    pieces = {i: (tokenizer.token_text(i), tokenizer.piece(i, special=True)) for i in used}
    tokens = tuple(TracedToken(i, *pieces[i], *rest) for i, *rest in found)
    names = {"text": text, "model": tokenizer.model, "pre": tokenizer.pre}
    return TokenTrace(**names, **about, stages=tuple(stages), tokens=tokens)


def _of_word(number: int, word: WordTrace, spans: list[Span]) -> list[Found]:
    hows = (lookup.how for lookup in word.lookups for _ in lookup.token_ids)
    return [
        (token_id, how, number, span)
        for token_id, how, span in zip(word.token_ids, hows, spans, strict=True)
    ]
