"""Byte-pair encoding with ranked merges (`tokenizer.ggml.model` "gpt2" and "gemma4").

    " café"  --bytes-->  20 63 61 66 c3 a9  --one character a byte-->  Ġ c a f Ã ©
             --merges by rank-->  Ġcaf Ã©  --vocabulary-->  ids

Every byte has a printable character of its own, so that vocabulary and merges are plain text. A
few vocabularies leave the bytes alone: symbols are the characters themselves, mostly with "▁" for
the space, and what has no token is spelled <0xC3> <0xA9>.

    " café"  --escape-->  ▁ c a f é  --merges by rank-->  ▁caf é  -->  ids

Source: `llm_tokenizer_bpe_session`, `llama_decode_text` in llama.cpp src/llama-vocab.cpp; the byte
alphabet is that of GPT-2's encoder. Left out: the tokenizer models "whitespace" and "hybriddna".
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from ..errors import GGUFError
from .merges import merge_symbols
from .piece_cache import PieceCache
from .prefixes import word_pattern
from .pretokenize import PreTokenizer, split_words
from .spm import SPACE
from .vocab import Vocabulary, read_strings

__all__ = ["BYTE_CHARACTERS", "MERGES", "BytePairEncoder", "load_merges"]

MERGES = "tokenizer.ggml.merges"
LINE_FEED, BLANK = b"\n "


def _byte_characters() -> str:
    """The character of each byte: itself where it is printable, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(
        chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)
    )


BYTE_CHARACTERS = _byte_characters()
BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def _joined(lines: list[str]) -> list[str] | None:
    """What each merge makes, None if a line is not two symbols around one space: at C speed."""
    text = "\n".join(["", *lines, ""])
    codes = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
    ends, blanks = np.flatnonzero(codes == LINE_FEED), np.flatnonzero(codes == BLANK)
    if not (len(ends) == len(lines) + 1 and len(blanks) == len(lines)):
        return None
    if not ((ends[:-1] + 1 < blanks).all() and (blanks + 1 < ends[1:]).all()):
        return None
    return text.replace(" ", "").split("\n")[1:-1]


def load_merges(metadata: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    """Read the merges as "left right" -> rank; of equal ones the first counts.

    ids: text -> token id. Raises: GGUFError if the key is missing, for a line that is not two
    symbols with a space between them, and for one that makes no token.
    """
    lines = read_strings(metadata, MERGES)
    merges = dict(zip(reversed(lines), range(len(lines) - 1, -1, -1), strict=True))
    made = _joined(lines)
    if made is not None and all(map(ids.__contains__, made)):
        return merges
    for rank, line in enumerate(lines):
        left, space, right = line.partition(" ")
        if not (left and space and right) or " " in right:
            raise GGUFError(
                f"tokenizer: {MERGES}[{rank}] is {line[:80]!a}; "
                "expected two symbols with a space between them"
            )
        if left + right not in ids:
            raise GGUFError(
                f"tokenizer: {MERGES}[{rank}] makes {(left + right)[:80]!a}; "
                "expected a text of tokenizer.ggml.tokens"
            )
    return merges


def _single_byte(byte: int) -> str:
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)


def _printed(text: str) -> bytes:
    """The bytes a text in the byte alphabet stands for, as llama.cpp prints it."""
    try:
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, text))
    except KeyError:  # characters outside the alphabet
        return b"".join(_byte_or_note(character, text) for character in text)


def _byte_or_note(character: str, text: str) -> bytes:
    if character in BYTE_OF_CHARACTER:
        return bytes([BYTE_OF_CHARACTER[character]])
    if 0xDC80 <= ord(character) <= 0xDCFF:
        character = "\ufffd"
    note = f"[UNK_BYTE_0x{character.encode().hex()}{text}]"
    return note.encode("utf-8", "surrogateescape")


class BytePairEncoder:
    """Text to ids by byte-pair encoding, word by word; remembers the words it has seen."""

    def __init__(self, vocab: Vocabulary, merges: dict[str, int], pre: PreTokenizer):
        self._ids, self._merges, self._pre = vocab.ids, merges, pre
        self._words = PieceCache(self._encode_word)
        self._cut = None
        if pre.escape_spaces:  # lines are long and seldom come twice; words do
            made = (line.replace(" ", "") for line in merges if SPACE in line)
            self._cut = word_pattern(made, SPACE)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""
        return self._words.collect(self.split(self.escape(text)))

    def escape(self, text: str) -> str:
        """The text as it is cut into words: with "▁" for the space where the vocabulary has it."""
        return text.replace(" ", SPACE) if self._pre.escape_spaces else text

    def split(self, text: str) -> list[str]:
        """Cut an escaped text into words that merge on their own."""
        words = split_words(text, self._pre.regexes)
        if self._cut is None:
            return words
        return list(chain.from_iterable(map(self._cut.findall, words)))

    def symbols(self, word: str) -> str:
        """The characters that merges of a word begin with."""
        if self._pre.byte_level:
            return word.encode().decode("latin-1").translate(BYTE_CHARACTERS)
        return word

    def is_whole(self, symbols: str) -> bool:
        """Whether a word becomes one token without any merge."""
        if not self._pre.ignore_merges and not (
            self._pre.whole_newlines and not symbols.strip("\n")
        ):
            return False
        return symbols in self._ids

    def spell(self, symbol: str) -> list[int]:
        """The ids of a symbol that is no token, byte by byte; bytes without a token are dropped."""
        if self._pre.byte_level:  # llama.cpp looks each UTF-8 byte up as a text of its own
            texts = map(_single_byte, symbol.encode())
        else:
            texts = (f"<0x{byte:02X}>" for byte in symbol.encode())
        return [self._ids[text] for text in texts if text in self._ids]

    def normal_piece(self, text: str) -> bytes:
        """The bytes that a NORMAL token of this text stands for."""
        if self._pre.escape_spaces:
            return text.replace(SPACE, " ").encode("utf-8", "surrogateescape")
        return _printed(text)

    def _encode_word(self, word: str) -> list[int]:
        ids, symbols, found = self._ids, self.symbols(word), []
        if self.is_whole(symbols):
            return [ids[symbols]]
        for symbol in merge_symbols(list(symbols), self._merges, " "):
            if symbol in ids:
                found.append(ids[symbol])
            else:
                found += self.spell(symbol)
        return found
