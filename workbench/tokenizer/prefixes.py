"""Which tokens does a text begin with at some place? A sorted list answers like a trie.

    sorted   a   ab   abc   abd   b        longest shorter prefix   -   a   ab   ab   -
    text     abcx -> bisect lands on abc;  its chain abc, ab, a are all its tokens, longest first

Every token that the text begins with is the last token not after the text, or on that one's chain
of prefixes. A list of bytes and one of numbers take a tenth of the memory of a trie of dicts.

Source: our own; it answers what `naive_trie` does in llama.cpp src/llama-vocab.cpp.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["TokenPrefixes", "common_length", "raw_text", "word_pattern"]

SHORT = 48  # bytes compared at first; only where a longer token may fit, all that matter


def raw_text(text: str) -> bytes:
    """The bytes of a token's text; lone surrogates U+DC80..DCFF are the bytes they stand for."""
    return text.encode("utf-8", "surrogateescape")


def common_length(a: bytes, b: bytes) -> int:
    """How many bytes at the beginning are the same."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


def word_pattern(tokens: Iterable[str], space: str) -> re.Pattern[str]:
    """Cuts a text before each `space` that no token has after the character that stands there.

    No token crosses such a cut, so the words on its sides cannot influence one another.
    """
    inside = (text for text in tokens if space in text[1:])
    joined = {text[i - 1] for text in inside for i in range(1, len(text)) if text[i] == space}
    if any("\udc80" <= character <= "\udcff" for character in joined):
        return re.compile("(?s:.+)")  # tokens that are parts of characters: no cut is safe
    if not joined:
        return re.compile(f"[^{space}]+|{space}[^{space}]*")
    behind = "".join(map(re.escape, sorted(joined)))
    return re.compile(f"(?s:.)[^{space}]*(?:(?<=[{behind}]){space}[^{space}]*)*")


class TokenPrefixes:
    """The tokens of a vocabulary by their beginnings; `number` below is a place in the order.

    texts: (n,) sorted bytes; ids: their token ids; shorter: the number of the longest other token
    that this one begins with, -1 for none.
    """

    def __init__(self, tokens: dict[bytes, int]):
        """tokens: text -> id; an empty text is left out."""
        self.texts = sorted(filter(None, tokens))
        self.ids = [tokens[text] for text in self.texts]
        self.shorter: list[int] = []
        self._longest = max(map(len, self.texts), default=0)
        open_ones: list[int] = []  # the chain of the token before
        for number, text in enumerate(self.texts):
            while open_ones and not text.startswith(self.texts[open_ones[-1]]):
                open_ones.pop()
            self.shorter.append(open_ones[-1] if open_ones else -1)
            open_ones.append(number)

    def longest(self, raw: bytes, at: int) -> int:
        """The number of the longest token that stands in `raw` at byte `at`, -1 for none."""
        texts = self.texts
        ahead = raw[at : at + SHORT]
        number = bisect_right(texts, ahead) - 1
        if self._longest > SHORT and number + 1 < len(texts):
            if texts[number + 1].startswith(ahead):
                ahead = raw[at : at + self._longest]
                number = bisect_right(texts, ahead) - 1
        while number >= 0 and not ahead.startswith(texts[number]):
            number = self.shorter[number]
        return number

    def all(self, raw: bytes, at: int) -> Iterator[int]:
        """The numbers of all tokens that stand in `raw` at byte `at`, the longest first."""
        number = self.longest(raw, at)
        while number >= 0:
            yield number
            number = self.shorter[number]

    def longest_path(self, raw: bytes, at: int) -> int:
        """How many bytes of `raw` from `at` on some token begins with, whether it ends or not."""
        ahead = raw[at : at + self._longest]
        number = bisect_right(self.texts, ahead)
        around = self.texts[max(number - 1, 0) : number + 1]
        return max((common_length(ahead, text) for text in around), default=0)
