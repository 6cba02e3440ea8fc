"""SentencePiece's byte-pair encoding with scores (`tokenizer.ggml.model` "llama").

    "a cat"  --escape-->  ▁a▁cat  --merge the pair whose text scores best-->  ▁a ▁cat  -->  ids

What is left and no token is spelled in bytes, <0xE2> <0x91> …

Merges may cross spaces, but only where some token contains that crossing. Where none does, the text
is cut beforehand; the pieces cannot influence one another, so this changes nothing but the speed.

Source: `llm_tokenizer_spm_session`, `llama_vocab::byte_to_token` in llama.cpp src/llama-vocab.cpp.
"""

import numpy as np

from ..errors import ParameterError
from .merges import merge_symbols
from .piece_cache import PieceCache
from .prefixes import word_pattern
from .vocab import Vocabulary

__all__ = ["SPACE", "SpmEncoder"]

SPACE = "▁"  # U+2581


def _ranks(vocab: Vocabulary) -> dict[str, int]:
    """text -> rank, the best score first; equal scores have equal ranks."""
    _, ranks = np.unique(-vocab.scores, return_inverse=True)
    return dict(zip(vocab.tokens, ranks.tolist(), strict=True))


def _byte_ids(vocab: Vocabulary) -> list[int | None]:
    """The id of each byte: <0xE2>, else the token that is just this byte."""
    ids = vocab.ids
    single = [chr(byte if byte < 0x80 else 0xDC00 + byte) for byte in range(256)]
    return [ids.get(f"<0x{byte:02X}>", ids.get(single[byte])) for byte in range(256)]


class SpmEncoder:
    """Text to ids by scores, piece by piece; remembers the pieces it has seen."""

    def __init__(self, vocab: Vocabulary):
        self._ids, self._ranks, self._byte_ids = vocab.ids, _ranks(vocab), _byte_ids(vocab)
        self._split = word_pattern(vocab.tokens, SPACE).findall
        self._words = PieceCache(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens.

        Raises: ParameterError for a character without a token in a vocabulary without bytes.
        """
        return self._words.collect(self._split(text.replace(" ", SPACE)))

    def normal_piece(self, text: str) -> bytes:
        """The bytes that a NORMAL token of this text stands for."""
        return text.replace(SPACE, " ").encode("utf-8", "surrogateescape")

    def _encode_word(self, word: str) -> list[int]:
        ids, found = self._ids, []
        for symbol in merge_symbols(list(word), self._ranks, ""):
            if symbol in ids:
                found.append(ids[symbol])
            else:
                found += [self._byte_id(byte, symbol) for byte in symbol.encode()]
        return found

    def _byte_id(self, byte: int, symbol: str) -> int:
        token_id = self._byte_ids[byte]
        if token_id is None:
            raise ParameterError(
                f"encode: {symbol!r} has no token and the vocabulary none for its byte "
                f"0x{byte:02X}; expected text this vocabulary can spell"
            )
        return token_id
