"""Cutting text into words before byte-pair encoding, with the regex sets of pretokenize_sets.py.

A set is a sequence of regexes. Each cuts every piece the ones before it left: its matches become
pieces, and so does the text between two matches.

    deepseek-v3, "año 2024:"    first \\p{N}{1,3}   "año " "202" "4" ":"
                                at last  words     "año" " " "202" "4" ":"

Two regexes that count digits from the right take quadratic time on long numbers; a DigitSplitter
stands in for them.

Source: `unicode_regex_split`, `unicode_regex_split_custom_afmoe` in llama.cpp src/unicode.cpp.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import accumulate

from ..errors import UnsupportedError
from .character_classes import expand_classes, reduce_han, reduce_text, replace_spaces
from .piece_cache import PieceCache
from .pretokenize_sets import DIGITS_FROM_RIGHT, PRE_TOKENIZERS, THREES_TO_THE_END, PreTokenizer

__all__ = ["PRE_TOKENIZERS", "PreTokenizer", "find_pre_tokenizer", "split_words"]


def find_pre_tokenizer(name: str, source: str) -> PreTokenizer:
    """The set of a `tokenizer.ggml.pre` name.

    source: where the name comes from, for the message. Raises: UnsupportedError for other names.
    """
    if name not in PRE_TOKENIZERS:
        raise UnsupportedError(
            f"{source}: no pre-tokenizer is called {name[:40]!a}; expected one of "
            f"{', '.join(sorted(PRE_TOKENIZERS))}; name the one it equals with "
            "load_tokenizer(source, pre=...)"
        )
    return PRE_TOKENIZERS[name]


def split_words(text: str, regexes: tuple[str, ...]) -> list[str]:
    """Cut a text with each regex of a set in turn; the pieces joined are the text."""
    forms: dict[Callable, str] = {}
    form, pieces = text, [text]
    for regex in regexes:
        splitter, form_of = _compile(regex)
        if form_of not in forms:
            forms[form_of] = form_of(text)
        if forms[form_of] is not form:
            form, pieces = forms[form_of], _cut(forms[form_of], map(len, pieces))
        pieces = PieceCache(partial(_parts, splitter)).collect(pieces)
    return pieces if form is text else _cut(text, map(len, pieces))


def _parts(splitter: "re.Pattern[str] | DigitSplitter", piece: str) -> list[str]:
    return [part for part in splitter.split(piece) if part]


def _cut(text: str, lengths: Iterable[int]) -> list[str]:
    ends = list(accumulate(lengths))
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


class DigitSplitter:
    """`split` of a regex that groups digits in threes from the right, in linear time.

    digits: a regex of one digit; first: whether a cut may stand before a run of digits (then the
    matches are empty and the pieces lie between them), else the text before it stays with its
    first group, and a cut stands behind the run.
    """

    def __init__(self, digits: str, first: bool):
        self._runs, self._first = re.compile(f"{digits}+", re.ASCII).finditer, first

    def split(self, text: str) -> list[str]:
        """The text cut up as `re.Pattern.split` with one group does: gap, match, gap, … gap."""
        ends = [end for run in self._runs(text) for end in self._cuts(*run.span())]
        pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        last = text[ends[-1] :] if ends else text
        if self._first:
            return [part for piece in pieces for part in (piece, "")] + [last]
        return [part for piece in pieces for part in ("", piece)] + [last]

    def _cuts(self, start: int, end: int) -> range:
        rest = (end - start) % 3
        return (
            range(start + rest, end, 3) if self._first else range(start + (rest or 3), end + 1, 3)
        )


@cache
def _compile(regex: str) -> tuple[re.Pattern[str] | DigitSplitter, Callable[[str], str]]:
    """A regex as a pattern whose `split` keeps the matches, and the form of text it is for."""
    if regex == DIGITS_FROM_RIGHT:
        return DigitSplitter(expand_classes(r"\p{N}"), first=False), reduce_text
    if regex == THREES_TO_THE_END:
        return DigitSplitter(r"\d", first=True), replace_spaces
    pattern = re.compile(f"({expand_classes(regex)})", re.ASCII)
    if r"\p{Han}" in regex:
        return pattern, reduce_han
    return pattern, reduce_text if r"\p{" in regex else replace_spaces
