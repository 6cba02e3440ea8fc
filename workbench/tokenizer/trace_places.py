"""Where the words and tokens of a trace are in the original text.

    original    c  a  f  é     characters 0..4, bytes 0..5 (é: c3 a9)
    normalised  ▁  c  a  f  é  `origin` (0,0) (0,1) (1,2) (2,3) (3,4): ▁ was added, (0,0) is empty
    token       <0xC3>         byte 0 of é: bytes 3..4, character 3

A part of a character that was changed on the way stands for the whole of it.

Source: our own. Leaves out which tokens there are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from .trace_steps import EncoderTrace, Lookup, Span, WordTrace

__all__ = ["FragmentPlaces", "TextPlaces"]


def _byte_offsets(text: str) -> Sequence[int]:
    """At which byte each character begins, and at the end the length."""
    if text.isascii():
        return range(len(text) + 1)
    return list(accumulate((len(character.encode()) for character in text), initial=0))


class TextPlaces:
    """Characters and bytes of the original text."""

    def __init__(self, text: str):
        self.text, self._byte_at = text, _byte_offsets(text)

    def span(self, start: int, end: int) -> Span:
        """The place of the characters start..end."""
        return Span(start, end, self._byte_at[start], self._byte_at[end])

    def byte_span(self, first: int, last: int) -> Span:
        """The place of the bytes first..last, at least one."""
        if isinstance(self._byte_at, range):  # ASCII: a byte is a character
            return Span(first, last, first, last)
        start = bisect_right(self._byte_at, first) - 1
        return Span(start, bisect_left(self._byte_at, last), first, last)


class FragmentPlaces:
    """Places of one fragment: `made` is the trace of `prefix` and the text from `start` on."""

    def __init__(self, places: TextPlaces, start: int, prefix: str, made: EncoderTrace):
        self._places, self._normalised = places, made.normalised
        self._byte_at = _byte_offsets(made.normalised)
        n_prefix, n = len(prefix), len(made.normalised)
        origin = np.arange(n)[:, None] + [0, 1] if made.origin is None else np.array(made.origin)
        origin = np.maximum(origin - n_prefix, 0) + start
        self._starts, self._ends = origin[:, 0].tolist(), origin[:, 1].tolist()
        unchanged = made.origin is None and made.normalised == places.text[start : start + n]
        self._first_byte = places.span(start, start).byte_start if unchanged else None

    def characters(self, start: int, end: int) -> Span:
        """The place of the normalised characters start..end; added ones do not widen it."""
        if self._first_byte is not None:
            return self._places.span(self._starts[start], self._ends[end - 1])
        places = [
            (self._starts[i], self._ends[i])
            for i in range(start, end)
            if self._starts[i] < self._ends[i]
        ]
        if not places:
            at = self._starts[start]
            return self._places.span(at, at)
        starts, ends = zip(*places, strict=True)
        return self._places.span(min(starts), max(ends))

    def token_spans(self, word: WordTrace) -> list[Span]:
        """The place of each id of a word."""
        return [span for lookup in word.lookups for span in self._lookup_spans(word, lookup)]

    def _lookup_spans(self, word: WordTrace, lookup: Lookup) -> list[Span]:
        n = len(lookup.token_ids)
        if word.unit == "byte":
            base = self._byte_at[word.start]
            return [self._bytes(word, base + lookup.start, base + lookup.end)] * n
        start, end = word.start + lookup.start, word.start + lookup.end
        first, last = self._byte_at[start], self._byte_at[end]
        if lookup.how == "bytes" and n == last - first:
            return [self._bytes(word, at, at + 1) for at in range(first, last)]
        return [self.characters(start, end)] * n

    def _bytes(self, word: WordTrace, first: int, last: int) -> Span:
        """The place of the normalised bytes first..last, which are bytes of a word."""
        if self._first_byte is not None:
            return self._places.byte_span(self._first_byte + first, self._first_byte + last)
        start = bisect_right(self._byte_at, first, word.start, word.end) - 1
        end = bisect_left(self._byte_at, last, word.start + 1, word.end)
        whole = self.characters(start, end)
        cut_front = first - self._byte_at[start] if self._is_same(start) else 0
        cut_back = self._byte_at[end] - last if self._is_same(end - 1) else 0
        return Span(whole.start, whole.end, whole.byte_start + cut_front, whole.byte_end - cut_back)

    def _is_same(self, at: int) -> bool:
        """Whether a normalised character is the one it came from."""
        start, end = self._starts[at], self._ends[at]
        return end == start + 1 and self._places.text[start] == self._normalised[at]
