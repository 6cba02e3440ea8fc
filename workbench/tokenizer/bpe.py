"""Byte-level byte-pair encoding (`tokenizer.ggml.model` "gpt2").

    " café"  --bytes-->  20 63 61 66 c3 a9  --one character a byte-->  Ġ c a f Ã ©
             --merges by rank-->  Ġcaf Ã©  --vocabulary-->  ids

Every byte has a printable character of its own, so that vocabulary and merges are plain text.

Source: `llm_tokenizer_bpe_session`, `llama_decode_text` in llama.cpp src/llama-vocab.cpp; the byte
alphabet is that of GPT-2's encoder. Left out: byte-pair encoding on raw text (gemma4).
"""

from collections.abc import Mapping
from operator import sub
from typing import Any

from ..errors import GGUFError
from .merges import merge_symbols
from .piece_cache import PieceCache
from .pretokenize import PreTokenizer, split_words
from .vocab import Vocabulary, read_strings

__all__ = ["BYTE_CHARACTERS", "BytePairEncoder", "load_merges"]

MERGES = "tokenizer.ggml.merges"


def _byte_characters() -> str:
    """The character of each byte: itself where it is printable, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(
        chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)
    )


BYTE_CHARACTERS = _byte_characters()
BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def _well_formed(lines: list[str], ids: Mapping[str, int]) -> bool:
    """Whether every line is two symbols around one space that make a token: the quick way."""
    joined = "\n".join(["", *lines, ""])
    merged = joined.replace(" ", "").split("\n")[1:-1]
    return (
        len(merged) == len(lines)
        and set(map(sub, map(len, lines), map(len, merged))) <= {1}
        and "\n " not in joined
        and " \n" not in joined
        and all(map(ids.__contains__, merged))
    )


def load_merges(metadata: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    """Read the merges as "left right" -> rank; of equal ones the first counts.

    ids: text -> token id. Raises: GGUFError if the key is missing, for a line that is not two
    symbols with a space between them, and for one whose parts or result are no tokens.
    """
    lines = read_strings(metadata, MERGES)
    merges = dict(zip(reversed(lines), range(len(lines) - 1, -1, -1), strict=True))
    if _well_formed(lines, ids):
        return merges
    for rank, line in enumerate(lines):
        left, space, right = line.partition(" ")
        if not (left and space and right):
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

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""
        return self._words.collect(split_words(text, self._pre.regexes))

    def normal_piece(self, text: str) -> bytes:
        """The bytes that a NORMAL token of this text stands for."""
        try:
            return bytes(map(BYTE_OF_CHARACTER.__getitem__, text))
        except KeyError:  # characters outside the alphabet print the way llama.cpp prints them
            return b"".join(_byte_or_note(character, text) for character in text)

    def _encode_word(self, word: str) -> list[int]:
        ids = self._ids
        symbols = word.encode().decode("latin-1").translate(BYTE_CHARACTERS)
        if self._pre.ignore_merges and symbols in ids:
            return [ids[symbols]]
        found = []
        for symbol in merge_symbols(list(symbols), self._merges, " "):
            if symbol in ids:
                found.append(ids[symbol])
            else:  # llama.cpp looks each UTF-8 byte up as a text of its own, and drops the others
                singles = map(_single_byte, symbol.encode())
                found += [ids[single] for single in singles if single in ids]
        return found
