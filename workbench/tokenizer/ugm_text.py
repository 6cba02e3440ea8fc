"""How a unigram model (UGM) reads a text: characters replaced, then spaces written as ▁.

    "ﬁne  day"  --precompiled map: ﬁ -> fi-->  "fine  day"
                --a ▁ in front, if add_space_prefix-->  ▁fine▁▁day
                --one ▁ before each word, if remove_extra_whitespaces-->  ▁fine▁day

Text that begins like a user-defined token is kept as it is, for as many bytes as that goes: with
<tag> in the vocabulary, "<tau" keeps "<ta". That may end inside a character, whose other bytes then
become U+FFFD one by one: so does llama.cpp. All of this therefore counts in bytes.

Source: `llm_tokenizer_ugm_session::normalize`, `normalize_prefix` in llama.cpp
src/llama-vocab.cpp. Left out: the suffix ▁, which no key asks for.
"""

import re
from collections.abc import Iterable, Iterator

from .charsmap import Charsmap
from .piece_cache import PieceCache
from .prefixes import TokenPrefixes

__all__ = ["SPACE", "UgmText"]

SPACE = "▁".encode()
REPLACEMENT = "\ufffd".encode()
CHUNKS = re.compile(rb" +[^ ]*|[^ ]+")


def _any_of(bytes_: Iterable[int]) -> bytes:
    return b"".join(re.escape(bytes([byte])) for byte in sorted(bytes_))


class UgmText:
    """Text to the bytes a unigram model reads; remembers the words it has seen."""

    def __init__(
        self, charsmap: Charsmap | None, user_defined: list[bytes], prefix: bool, merge: bool
    ):
        """user_defined: texts kept as they are; prefix, merge: the rules for spaces, as above."""
        self._charsmap, self._prefix, self._merge = charsmap, prefix, merge
        self._kept = TokenPrefixes(dict.fromkeys(user_defined, 0))
        self._kept_first = {text[0] for text in self._kept.texts}
        self._changes = charsmap is not None or bool(user_defined)
        self._plain = self._plain_pattern()
        crossing = any(b" " in text[1:] for text in user_defined)
        crossing |= charsmap is not None and charsmap.may_continue_with(ord(" "))
        self._chunks = None if crossing else PieceCache(lambda chunk: [self._replaced(chunk)])

    def read(self, text: str) -> bytes:
        """The text as the model reads it. Raises: GGUFError if the map of the file is damaged."""
        raw = text.encode()
        if self._changes:
            if self._chunks is None:
                raw = self._replaced(raw)
            else:
                raw = b"".join(self._chunks.collect(CHUNKS.findall(raw)))
        if self._merge:
            return b"".join(SPACE + run for run in raw.split(b" ") if run)
        words = raw.lstrip(b" ")
        if self._prefix and words:
            raw = raw[: len(raw) - len(words)] + SPACE + words
        return raw.replace(b" ", SPACE)

    def read_with_origin(self, text: str) -> Iterator[tuple[bytes, int, int]]:
        """`read` byte by byte: (a byte, or ▁; first and last + 1 of the characters it is from)."""
        in_word = prefixed = False
        for made, start, end in self._steps_with_origin(text):
            for byte in made:
                if byte != ord(" "):
                    if not in_word and (self._merge or (self._prefix and not prefixed)):
                        yield SPACE, start, start
                        prefixed = True
                    yield bytes([byte]), start, end
                elif not self._merge:
                    yield SPACE, start, end
                in_word = byte != ord(" ")

    def _steps_with_origin(self, text: str) -> Iterator[tuple[bytes, int, int]]:
        raw = text.encode()
        characters = [i for i, c in enumerate(text) for _ in c.encode()] + [len(text)]
        at = 0
        while at < len(raw):
            n_bytes, made = self._step(raw, at)
            yield made, characters[at], characters[at + n_bytes - 1] + 1
            at += n_bytes

    def _plain_pattern(self) -> re.Pattern[bytes]:
        """Matches ASCII that nothing can happen to."""
        begin, whole, second = self._charsmap.first_bytes() if self._charsmap else (set(),) * 3
        plain = set(range(128)) - begin - self._kept_first
        if_followed_well = set(range(128)) & begin - whole - self._kept_first
        return re.compile(
            b"(?:[%b]|[%b](?![%b]))+"
            % (
                _any_of(plain) or b"^\\x00-\\xff",
                _any_of(if_followed_well) or b"^\\x00-\\xff",
                _any_of(second) or b"^\\x00-\\xff",
            )
        )

    def _replaced(self, raw: bytes) -> bytes:
        found, at = [], 0
        while at < len(raw):
            plain = self._plain.match(raw, at)
            if plain:
                found.append(plain[0])
                at = plain.end()
            else:
                n_bytes, made = self._step(raw, at)
                found.append(made)
                at += n_bytes
        return b"".join(found)

    def _step(self, raw: bytes, at: int) -> tuple[int, bytes]:
        """What happens at byte `at`: how many bytes are read, and what becomes of them."""
        if raw[at] in self._kept_first:
            n_bytes = self._kept.longest_path(raw, at)
            return n_bytes, raw[at : at + n_bytes]
        mapped = self._charsmap.longest(raw, at) if self._charsmap else None
        if mapped:
            return mapped
        lead = raw[at]
        if lead & 0xC0 == 0x80:  # inside a character
            return 1, REPLACEMENT
        n_bytes = 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
        return n_bytes, raw[at : at + n_bytes]
