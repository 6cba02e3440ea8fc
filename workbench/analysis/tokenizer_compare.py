"""One text through several tokenizers: where all of them cut, and where they part.

    gpt-2   |The| quick|est|        common cuts  0 3 12
    llama   |The| qu|ickest|        segments     "The" the same, " quickest" cut differently

Cuts are counted in bytes of the original text, so that tokens that are a part of a character can be
compared; a token that the tokenizer added (a space in front) has no bytes, and white space that a
model drops goes with the token behind it.

Source: our own, on the spans of `Tokenizer.trace`. Left out: tokenizer.json (tokenizer_json.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError
from ..tokenizer import Tokenizer, TokenTrace
from .vocabulary_texts import checked_tokenizers

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ComparedToken", "Segment", "TokenizerComparison", "compare_tokenizers"]


@dataclass(frozen=True, slots=True)
class ComparedToken:
    """A token and its place, in bytes of the text."""

    token_id: int
    piece: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Segment:
    """The bytes start..end of the text, between two cuts that all tokenizers share.

    tokens: for each tokenizer, in the order of `TokenizerComparison.names`; same: nobody cuts it.
    """

    start: int
    end: int
    text: str
    tokens: tuple[tuple[ComparedToken, ...], ...]
    same: bool


@dataclass(frozen=True)
class TokenizerComparison:
    """A text in several tokenizers.

    text: str; names: of the tokenizers; tokens: all tokens of each; segments: in text order.
    """

    text: str
    names: tuple[str, ...]
    tokens: tuple[tuple[ComparedToken, ...], ...]
    segments: tuple[Segment, ...]

    @property
    def agreement(self) -> float:
        """The share of the text's bytes that no tokenizer cuts differently; 1 for no text."""
        same = sum(segment.end - segment.start for segment in self.segments if segment.same)
        total = sum(segment.end - segment.start for segment in self.segments)
        return same / total if total else 1.0

    @property
    def different(self) -> tuple[Segment, ...]:
        """The segments that are cut differently."""
        return tuple(segment for segment in self.segments if not segment.same)

    def to_frame(self, all_segments: bool = False) -> "DataFrame":
        """One row a segment that differs (or any): its place, text, and each tokenizer's pieces."""
        from pandas import DataFrame  # slow to import

        chosen = self.segments if all_segments else self.different
        columns = {name: [getattr(s, name) for s in chosen] for name in ("start", "end", "text")}
        for i, name in enumerate(self.names):
            columns[name] = [" | ".join(map(_shown, segment.tokens[i])) for segment in chosen]
        return DataFrame(columns)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name} {len(tokens)}" for name, tokens in zip(self.names, self.tokens, strict=True)
        )
        return f"TokenizerComparison(tokens: {counts}; {self.agreement:.1%} of the bytes cut alike)"


def _shown(token: ComparedToken) -> str:
    return token.piece.decode("utf-8", "backslashreplace")


def compare_tokenizers(
    text: str, tokenizers: Mapping[str, Tokenizer], parse_special: bool = False
) -> TokenizerComparison:
    """Tokenize one text with several tokenizers and align what comes out.

    text: str; tokenizers: name -> tokenizer; parse_special: as for `encode`. Nothing is added to
    the text (no BOS).
    Returns: a TokenizerComparison.
    Raises: ParameterError for wrong arguments, and as `Tokenizer.trace`.
    """
    if not isinstance(text, str):
        raise ParameterError(f"text: expected str, got {type(text).__name__}")
    tokenizers = checked_tokenizers(tokenizers)
    traces = [t.trace(text, False, parse_special) for t in tokenizers.values()]
    tokens = tuple(tuple(_placed(trace)) for trace in traces)
    raw = text.encode()
    cuts = [_cuts(placed, len(raw)) for placed in tokens]
    common, anyone = np.logical_and.reduce(cuts), np.logical_or.reduce(cuts)
    bounds = np.flatnonzero(common).tolist()
    members = [_by_segment(placed, bounds) for placed in tokens]
    segments = []
    for i, (start, end) in enumerate(pairwise(bounds)):
        shown = raw[start:end].decode("utf-8", "backslashreplace")
        same = not anyone[start + 1 : end].any()
        segments.append(Segment(start, end, shown, tuple(m[i] for m in members), same))
    return TokenizerComparison(text, tuple(tokenizers), tokens, tuple(segments))


def _placed(trace: TokenTrace) -> list[ComparedToken]:
    return [
        ComparedToken(t.token_id, t.piece, t.span.byte_start, t.span.byte_end)
        for t in trace.tokens
        if t.span is not None
    ]


def _cuts(tokens: tuple[ComparedToken, ...], n_bytes: int) -> np.ndarray:
    """(n_bytes + 1,) bool: a token ends here, and none has it inside.

    Bytes that no token has (white space that the model drops) go with the token behind them.
    """
    starts = np.array([token.start for token in tokens], np.intp)
    ends = np.array([token.end for token in tokens], np.intp)
    cut = np.zeros(n_bytes + 1, bool)
    cut[ends] = True
    depth = np.zeros(n_bytes + 2, np.int32)  # how many tokens have the position inside
    wide = ends > starts
    np.add.at(depth, starts[wide] + 1, 1)
    np.add.at(depth, ends[wide], -1)
    cut &= np.cumsum(depth)[:-1] == 0
    cut[[0, n_bytes]] = True
    return cut


def _by_segment(
    tokens: tuple[ComparedToken, ...], bounds: list[int]
) -> list[tuple[ComparedToken, ...]]:
    """The tokens that end in each segment; those without bytes in front belong to the first."""
    found: list[list[ComparedToken]] = [[] for _ in bounds[1:]]
    if found:
        places = np.searchsorted(bounds, [token.end for token in tokens], "left") - 1
        for token, place in zip(tokens, places.tolist(), strict=True):
            found[max(place, 0)].append(token)
    return [tuple(part) for part in found]
