"""RWKV's greedy tokenizer (`tokenizer.ggml.model` "rwkv"): always the longest token, on bytes.

    "Hello, 漢"  -->  Hello  ,  \\x20\\xe6\\xbc  \\xa2        as the vocabulary has them

The file writes its tokens escaped, because GGUF texts are UTF-8 and these need not be: \\n \\t \\r,
\\x and two hexadecimal digits, and a backslash before any other character for that character.

A byte that begins no token is the unknown token. Where tokens begin with what stands there but none
ends (ab is a token, a is not, the text is ac), llama.cpp never finishes; here that is an error.

Text is encoded in words only for speed: they are cut where no token of the vocabulary crosses.

Source: `llm_tokenizer_rwkv`, `llama_unescape_rwkv_token` in llama.cpp src/llama-vocab.cpp.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from ..errors import GGUFError, ParameterError
from .piece_cache import PieceCache
from .prefix_steps import watch_prefixes
from .prefixes import TokenPrefixes, raw_text, word_pattern
from .trace_steps import EncoderTrace
from .vocab import Vocabulary

__all__ = ["RwkvEncoder"]

ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([^x])|)", re.DOTALL)
NAMED = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


def _unescape(text: str) -> bytes:
    """The bytes of a token. Raises: GGUFError for an escape that is none."""

    def replacement(escape: re.Match[bytes]) -> bytes:
        digits, named = escape.groups()
        if digits is None and named is None:
            raise GGUFError(
                f"tokenizer: the token {text[:40]!a} has a bad escape; expected \\n, \\t, \\r, "
                "\\x and two digits 0-9a-f, or a backslash and the character meant"
            )
        return bytes([int(digits, 16)]) if digits else NAMED.get(named, named)

    raw = raw_text(text)
    return ESCAPE.sub(replacement, raw) if b"\\" in raw else raw


class RwkvEncoder:
    """Text to ids by longest matches; remembers the words it has seen."""

    def __init__(self, vocab: Vocabulary, unk: int | None):
        """unk: the id of the unknown token. Raises: GGUFError for a token with a bad escape."""
        self._bytes_of = {text: _unescape(text) for text in vocab.tokens}
        self._tokens = TokenPrefixes({self._bytes_of[text]: i for text, i in vocab.ids.items()})
        self._first_bytes = {text[0] for text in self._tokens.texts}
        self._unk = unk
        texts = (text.decode("utf-8", "surrogateescape") for text in self._tokens.texts)
        self._split = word_pattern(texts, " ").findall
        self._words = PieceCache(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens.

        Raises: ParameterError for bytes that the vocabulary cannot spell.
        """
        return self._words.collect(self._split(text))

    def normal_piece(self, text: str) -> bytes:
        """The bytes that a token of this text stands for."""
        return self._bytes_of[text]

    def trace(self, text: str) -> EncoderTrace:
        """`encode`, watched: the longest matches and the shorter ones that were passed over."""
        words, at = [], 0
        for word in self._split(text):
            taken = self._taken(word.encode())
            unk = -1 if self._unk is None else self._unk
            made = watch_prefixes(self._tokens, word, taken, unk, False)
            words.append(replace(made, start=at, end=at + len(word)))
            at += len(word)
        return EncoderTrace(text, text, None, tuple(words))

    def _encode_word(self, word: str) -> list[int]:
        ids = self._tokens.ids
        return [
            self._unk if number < 0 else ids[number] for _, _, number in self._taken(word.encode())
        ]

    def _taken(self, raw: bytes) -> Iterator[tuple[int, int, int]]:
        """(start, end, number) of each token, number -1 for an unknown byte."""
        longest, texts, at = self._tokens.longest, self._tokens.texts, 0
        while at < len(raw):
            number = longest(raw, at)
            if number < 0 and (self._unk is None or raw[at] in self._first_bytes):
                raise self._cannot_spell(raw, at)
            end = at + len(texts[number]) if number >= 0 else at + 1
            yield at, end, number
            at = end

    def _cannot_spell(self, raw: bytes, at: int) -> ParameterError:
        why = (
            "has tokens that begin with it but none that ends here"
            if raw[at] in self._first_bytes
            else "has no token that begins with it and no unknown token"
        )
        return ParameterError(
            f"encode: the vocabulary {why}: byte 0x{raw[at]:02X} before {raw[at + 1 : at + 9]!r}; "
            "expected text this vocabulary can spell"
        )
