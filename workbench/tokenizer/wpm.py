"""WordPiece (`tokenizer.ggml.model` "bert"): the longest token, again and again, word by word.

    "Unaffable!"  --normalize.py-->  unaffable  !  --a word begins with ▁-->  ▁unaffable  ▁!
                  --longest token from the left-->  ▁un aff able  ▁!

A word that comes to a place where no token fits is given up whole: it is the unknown token.

Source: `llm_tokenizer_wpm_session` in llama.cpp src/llama-vocab.cpp. The "##" of BERT's vocabulary
files is gone in GGUF: there, a token without ▁ continues a word.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..errors import ParameterError
from .normalize import FoldTable
from .piece_cache import PieceCache
from .prefix_steps import watch_prefixes
from .prefixes import TokenPrefixes, raw_text
from .trace_steps import EncoderTrace
from .vocab import Vocabulary

__all__ = ["WpmEncoder"]

SPACE = "▁"  # U+2581


class WpmEncoder:
    """Text to ids by longest prefixes; remembers the words it has seen."""

    def __init__(self, vocab: Vocabulary, unk: int | None, fold: FoldTable):
        """unk: the id of the unknown token; fold: what becomes of each character."""
        self._tokens = TokenPrefixes({raw_text(text): i for text, i in vocab.ids.items()})
        self._unk, self._fold = unk, fold
        self._words = PieceCache(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens.

        Raises: ParameterError for a word without tokens in a vocabulary without an unknown one.
        """
        return self._words.collect(text.translate(self._fold).split(" "))

    def normal_piece(self, text: str) -> bytes:
        """The bytes that a NORMAL token of this text stands for."""
        return raw_text(text.replace(SPACE, " "))

    def trace(self, text: str) -> EncoderTrace:
        """`encode`, watched: each word's prefixes and the shorter ones that were passed over."""
        folded = [(part, i) for i, c in enumerate(text) for part in self._fold[ord(c)]]
        words: list[list[tuple[str, int]]] = [[]]
        for part, i in folded:
            if part == " ":
                words.append([])
            else:
                words[-1].append((part, i))
        traced, origin = [], []
        for word in filter(None, words):
            spelled, start = SPACE + "".join(part for part, _ in word), len(origin)
            origin += [(word[0][1], word[0][1])] + [(i, i + 1) for _, i in word]
            taken = list(self._taken(spelled.encode()))
            unk = self._unk_id(spelled) if taken[-1][2] < 0 else -1
            made = watch_prefixes(self._tokens, spelled, taken, unk, True)
            traced.append(replace(made, start=start, end=len(origin)))
        normalised = "".join(word.text for word in traced)
        places = np.array(origin, np.int32).reshape(-1, 2)
        return EncoderTrace(text, normalised, places, tuple(traced))

    def _encode_word(self, word: str) -> list[int]:
        if not word:
            return []
        word = SPACE + word
        numbers = [number for _, _, number in self._taken(word.encode())]
        if numbers[-1] < 0:
            return [self._unk_id(word)]
        return [self._tokens.ids[number] for number in numbers]

    def _taken(self, raw: bytes) -> Iterator[tuple[int, int, int]]:
        """(start, end, number) of each token, up to the first place where none fits."""
        longest, texts, at = self._tokens.longest, self._tokens.texts, 0
        while at < len(raw):
            number = longest(raw, at)
            end = at + len(texts[number]) if number >= 0 else at + 1
            yield at, end, number
            if number < 0:
                return
            at = end

    def _unk_id(self, word: str) -> int:
        if self._unk is None:
            raise ParameterError(
                f"encode: {word[:40]!r} has no tokens and the vocabulary no unknown token; "
                "expected tokenizer.ggml.unknown_token_id, or text this vocabulary can spell"
            )
        return self._unk
