"""Unigram tokenizer (`tokenizer.ggml.model` "t5"): the best path through all tokens of a text.

    "▁ab"     ends at   token        total          the best is kept, with where it began
              1         ▁            -3.0
              2         ▁a           -4.5           (▁, a: -3.0 - 2.5)
              3         ▁ | ab       -5.0   wins    (▁a, b: -4.5 - 3.0)     <- read back from here

The total of a path is the sum of its tokens' scores (Viterbi; user-defined tokens count 0). A
character that is no token itself may be the unknown token, 10 below the worst score; neighbouring
unknown ones become a single one.

Text is encoded in words only for speed: they are cut where no token of the vocabulary crosses, and
only where all sums are exact in float64, so that a sum from the start of the text decides no tie
otherwise than one from the start of the word.

Source: `llm_tokenizer_ugm`, `llm_tokenizer_ugm_session::tokenize` in llama.cpp src/llama-vocab.cpp.
"""

import sys
from dataclasses import replace
from itertools import accumulate

import numpy as np

from ..errors import ParameterError
from .piece_cache import PieceCache
from .prefixes import TokenPrefixes, raw_text, word_pattern
from .trace_steps import Edge, EncoderTrace, LatticeStep, Lookup, WordTrace, kept_losers
from .ugm_text import SPACE, UgmText
from .vocab import TokenAttribute, Vocabulary

__all__ = ["UgmEncoder"]

SEARCHED = TokenAttribute.NORMAL | TokenAttribute.USER_DEFINED | TokenAttribute.UNUSED
UNKNOWN_PENALTY = np.float32(10)
NOTHING = -sys.float_info.max
NO_ID = -1
UNITS = [1] * 12 + [2] * 2 + [3, 4]  # bytes of a character, by the upper half of its first byte


def _exact_bytes(scores: np.ndarray, of_characters: np.ndarray) -> float:
    """How long a text may be so that all sums of these scores are exact in float64.

    of_characters: those of single characters. A best path is never worse than the one through
    single characters, so rare tokens with enormous scores count only once in a sum.
    """
    sizes = np.abs(scores[scores != 0]).astype(np.float64)
    if not np.isfinite(sizes).all():
        return 0
    if not len(sizes):
        return np.inf
    smallest_bit = np.frexp(sizes.min())[1] - 24  # the last bit of a float32 of that size
    room = np.ldexp(1.0, 53 + int(smallest_bit)) - sizes.max()
    step = max(np.abs(of_characters).max(initial=0), scores.max())
    return float(room / step) if step > 0 else np.inf


class UgmEncoder:
    """Text to ids by the best sum of scores; remembers the words it has seen."""

    def __init__(self, vocab: Vocabulary, in_file: np.ndarray, unk: int | None, text: UgmText):
        """in_file: the attributes as the file has them, which decide what is searched for, while
        those of `vocab` decide which tokens are user-defined; unk: the id of the unknown token;
        text: how it is read before.
        """
        searched = np.flatnonzero(in_file & np.uint16(SEARCHED)).tolist()
        self._tokens = TokenPrefixes({raw_text(vocab.tokens[i]): i for i in searched})
        scores = vocab.scores.copy()
        scores[vocab.with_attribute(TokenAttribute.USER_DEFINED)] = 0
        self._scores = scores[self._tokens.ids].tolist()
        normal = vocab.scores[(in_file & np.uint16(TokenAttribute.NORMAL)) != 0]
        worst = normal.min() if len(normal) else np.finfo(np.float32).max
        with np.errstate(over="ignore", invalid="ignore"):
            self._unknown_score = float(worst - UNKNOWN_PENALTY)
        self._unk, self._text = NO_ID if unk is None else unk, text
        characters = [i for i in searched if len(vocab.tokens[i]) == 1]
        self._exact_bytes = _exact_bytes(
            np.append(scores[searched], self._unknown_score),
            np.append(scores[characters], self._unknown_score),
        )
        self._split = word_pattern((vocab.tokens[i] for i in searched), SPACE.decode()).findall
        self._words = PieceCache(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens.

        Raises: ParameterError for text without tokens in a vocabulary without an unknown one,
        GGUFError if the character map of the file is damaged.
        """
        raw = self._text.read(text)
        words = self._cut(raw)
        if words is None:
            ids = self._encode_raw(raw)
        else:
            ids = self._words.collect(words)
        if self._unk in ids:
            ids = self._joined_unknown(ids)
        return ids

    def normal_piece(self, text: str) -> bytes:
        """The bytes that a NORMAL token of this text stands for."""
        return raw_text(text).replace(SPACE, b" ")

    def trace(self, text: str) -> EncoderTrace:
        """`encode`, watched: the lattice of each word, at each place the best token and the rest.

        Where the text is no UTF-8 after its characters were replaced, it is one word of bytes,
        each shown as the character of that number.
        """
        units = list(self._text.read_with_origin(text))
        raw = b"".join(byte for byte, _, _ in units)
        words = self._cut(raw)
        try:
            normalised = raw.decode()
            bounds = _bounds(normalised)
        except UnicodeDecodeError:
            normalised, bounds = raw.decode("latin-1"), list(range(len(raw) + 1))
        traced, at, after_unknown = [], 0, False
        for word in [normalised] * bool(raw) if words is None else words:
            first, *rest = bounds[at : at + len(word) + 1]
            places = [0, *(place - first for place in rest)]
            made = self._trace_word(word, raw[first : rest[-1]], places, after_unknown)
            traced.append(replace(made, start=at, end=at + len(word)))
            at += len(word)
            after_unknown = made.lookups[-1].how == "unknown"
        return EncoderTrace(text, normalised, _origin(units, bounds), tuple(traced))

    def _cut(self, raw: bytes) -> list[str] | None:
        """The words that can be encoded by themselves, None if only the whole can."""
        if len(raw) > self._exact_bytes:
            return None
        try:
            return self._split(raw.decode())
        except UnicodeDecodeError:
            return None

    def _encode_word(self, word: str) -> list[int]:
        return self._encode_raw(word.encode())

    def _encode_raw(self, raw: bytes) -> list[int]:
        """The ids of the best path; unknown ones one by one."""
        tokens, scores = self._tokens, self._scores
        texts, ids, shorter, longest = tokens.texts, tokens.ids, tokens.shorter, tokens.longest
        n = len(raw)
        best, start_of, id_of = [NOTHING] * (n + 1), [0] * (n + 1), [self._unk] * (n + 1)
        best[0] = 0.0
        at = 0
        while at < n:
            base, character_end = best[at], min(at + UNITS[raw[at] >> 4], n)
            whole_character = False
            number = longest(raw, at)
            while number >= 0:
                end = at + len(texts[number])
                whole_character |= end == character_end
                total = base + scores[number]
                if total > best[end]:
                    best[end], start_of[end], id_of[end] = total, at, ids[number]
                number = shorter[number]
            if not whole_character:
                total = base + self._unknown_score
                if total > best[character_end]:
                    best[character_end], start_of[character_end] = total, at
                    id_of[character_end] = self._unk
            at = character_end
        found, at = [], n
        while at:
            found.append(id_of[at])
            at = start_of[at]
        return found[::-1]

    def _joined_unknown(self, ids: list[int]) -> list[int]:
        """Neighbouring unknown tokens made one."""
        if self._unk == NO_ID:
            raise ParameterError(
                "encode: the text has characters without tokens and the vocabulary no unknown "
                "token; expected tokenizer.ggml.unknown_token_id, or text it can spell"
            )
        unk = self._unk
        pairs = zip(ids, [NO_ID, *ids], strict=False)
        return [token_id for token_id, before in pairs if token_id != unk or before != unk]

    def _trace_word(
        self, word: str, raw: bytes, places: list[int], after_unknown: bool
    ) -> WordTrace:
        """places: at which byte each symbol begins, and the length."""
        ways = self._lattice(word, raw, places)
        kept, steps, best = kept_losers(len(word)), [], {}
        for position, edges in enumerate(ways):
            if edges:
                edges.sort(key=lambda edge: -edge.total)  # stable: the earliest of equal ones wins
                best[position] = edges[0]
                losers = tuple(edges[1 : kept + 1])
                steps.append(LatticeStep(position, edges[0], losers, len(edges) - 1))
        path, at = [], len(word)
        while at and at in best:
            path.append(best[at])
            at = best[at].start
        if not path:  # no path has a finite sum
            steps, path = [], [Edge(0, len(word), word, self._unk, 0.0, NOTHING)]
        lookups = self._lookups(path[::-1], after_unknown)
        return WordTrace(word, 0, len(word), tuple(word), tuple(steps), lookups)

    def _lattice(self, word: str, raw: bytes, places: list[int]) -> list[list[Edge]]:
        """All edges by the position they end at."""
        position_of = {place: i for i, place in enumerate(places)}
        ways: list[list[Edge]] = [[] for _ in places]
        at = 0
        while at < len(raw):
            start = position_of[at]
            base = max((edge.total for edge in ways[start]), default=NOTHING if at else 0.0)
            character_end = min(at + UNITS[raw[at] >> 4], len(raw))
            found = [
                (at + len(self._tokens.texts[i]), self._tokens.ids[i], self._scores[i])
                for i in self._tokens.all(raw, at)
            ]
            if all(end != character_end for end, _, _ in found):
                found.append((character_end, self._unk, self._unknown_score))
            for end, token_id, score in found:
                total, stop = base + score, position_of.get(end)
                if total > NOTHING and stop is not None:
                    symbol = word[start:stop]
                    ways[stop].append(Edge(start, stop, symbol, token_id, score, total))
            at = character_end
        return ways

    def _lookups(self, path: list[Edge], after_unknown: bool) -> tuple[Lookup, ...]:
        lookups: list[Lookup] = []
        for edge in path:
            if edge.token_id != self._unk:
                lookups.append(Lookup(edge.symbol, edge.start, edge.end, (edge.token_id,)))
            elif lookups and lookups[-1].how == "unknown":
                symbol, start = lookups[-1].symbol + edge.symbol, lookups[-1].start
                ids = lookups[-1].token_ids
                lookups[-1] = Lookup(symbol, start, edge.end, ids, "unknown")
            else:
                joins = after_unknown and not lookups
                ids = () if joins else tuple(self._joined_unknown([self._unk]))
                lookups.append(Lookup(edge.symbol, edge.start, edge.end, ids, "unknown"))
        return tuple(lookups)


def _bounds(text: str) -> list[int]:
    """At which byte each character begins, and the length."""
    return list(accumulate((len(character.encode()) for character in text), initial=0))


def _origin(units: list[tuple[bytes, int, int]], bounds: list[int]) -> np.ndarray:
    """(n, 2): where the bytes between two bounds came from."""
    sizes = [len(made) for made, _, _ in units]
    starts = np.repeat(np.array([start for _, start, _ in units], np.int32), sizes)
    ends = np.repeat(np.array([end for _, _, end in units], np.int32), sizes)
    first, last = np.array(bounds[:-1], np.intp), np.array(bounds[1:], np.intp) - 1
    return np.stack([starts[first], ends[last]], axis=1).reshape(-1, 2)
