"""PLaMo-2's tokenizer (`tokenizer.ggml.model` "plamo2"): the best way from each place to the end.

    text     a  b  c          from c: c              from b: bc | b c      from a: abc | ab c | a …
    read     <--------        at each place all tokens that stand there are tried, longest first;
                              the smallest cost (minus the scores, in 1/10000) wins, then the first

A character without a token costs 1000 and is spelled in bytes. The tokens at a place come from an
automaton that reads the text backwards: its state is the longest end of a token that stands there.
llama.cpp builds its whole table when the file is loaded; here states arise when a text needs them.

Text is encoded in words only for speed: they are cut where no token of the vocabulary crosses.

Source: `llm_tokenizer_plamo2` in llama.cpp src/llama-vocab.cpp.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..errors import GGUFError, UnsupportedError
from .piece_cache import PieceCache
from .prefixes import TokenPrefixes, raw_text, word_pattern
from .trace_steps import Edge, EncoderTrace, LatticeStep, Lookup, WordTrace, kept_losers
from .vocab import TokenAttribute, Vocabulary

__all__ = ["Plamo2Encoder"]

SCALE = 10_000  # costs are whole numbers of 1/SCALE
UNKNOWN, NEVER = -1000 * SCALE, -2000 * SCALE
BYTE_ORDER_MARK = "\ufeff"
BYTE_TEXT = re.compile(r"<0x([0-9A-Fa-f]{2})>")
MAX_TRANSITIONS = 1 << 20
NO_COST = 1 << 60
MAX_TOKEN_CHARACTERS = 4096

Row = tuple[int, int, int]  # characters, token id or -1, score


def _scaled(score: float) -> int:
    """The score as a whole number, halves away from zero; NEVER where int32 cannot hold it."""
    if not math.isfinite(score):
        return NEVER
    size = abs(score) * 1e4
    whole = math.floor(size)
    whole += size - whole >= 0.5
    return int(math.copysign(whole, score)) if whole < 1 << 31 else NEVER


def _byte_ids(vocab: Vocabulary) -> list[int]:
    """The token of each byte."""
    ids = [0] * 256
    for token_id in vocab.with_attribute(TokenAttribute.BYTE):
        byte = BYTE_TEXT.fullmatch(vocab.tokens[token_id])
        if byte:
            ids[int(byte[1], 16)] = token_id
    if 0 in ids:  # llama.cpp takes id 0 for "none" too
        raise GGUFError(
            f"tokenizer: plamo2 has no token of type byte for <0x{ids.index(0):02X}>, or only "
            "token 0; expected all of <0x00> to <0xFF>"
        )
    return ids


def _token_scores(vocab: Vocabulary) -> dict[str, tuple[int, int]]:
    """text -> (id, scaled score) of every token that is no byte."""
    scores = map(_scaled, vocab.scores.tolist())
    found = {text: (i, score) for (text, i), score in zip(vocab.ids.items(), scores, strict=True)}
    for token_id in vocab.with_attribute(TokenAttribute.BYTE):
        del found[vocab.tokens[token_id]]
    longest = max(map(len, found), default=0)
    if longest > MAX_TOKEN_CHARACTERS:
        raise UnsupportedError(
            f"tokenizer: a token of this plamo2 vocabulary has {longest} characters; "
            f"expected at most {MAX_TOKEN_CHARACTERS}"
        )
    return found


class _State:
    """An end of a token: `rows` are the tokens it begins with, `before` the states before it."""

    __slots__ = ("before", "rows", "text")

    def __init__(self, text: str, rows: tuple[Row, ...]):
        self.text, self.rows = text, rows
        self.before: dict[str, _State] = {}


class _Automaton:
    """Reads a text backwards and knows at each place the tokens that stand there."""

    def __init__(self, scores: dict[str, tuple[int, int]]):
        self._tokens = TokenPrefixes({raw_text(text): i for text, (i, _) in scores.items()})
        order = [text.decode("utf-8", "surrogateescape") for text in self._tokens.texts]
        self._rows_of = [(len(text), *scores[text]) for text in order]
        self._reversed = sorted(text[::-1] for text in order)
        self.stops = {text for text, (_, score) in scores.items() if score == UNKNOWN}
        self._forget()

    def _forget(self) -> None:
        self._states: dict[str, _State] = {}
        self._transitions = 0
        self.start = self._state("")

    def before(self, state: _State, character: str) -> _State:
        """The state one character further to the front."""
        found = state.before.get(character)
        if found is None:
            if self._transitions >= MAX_TRANSITIONS:
                self._forget()
            self._transitions += 1
            found = state.before[character] = self._find_before(state.text, character)
        return found

    def _find_before(self, text: str, character: str) -> _State:
        for n in range(len(text), -1, -1):
            if self._ends_a_token(character + text[:n]):
                return self._state(character + text[:n])
            if text[:n] in self.stops:
                break
        return self.start

    def _ends_a_token(self, text: str) -> bool:
        backwards = text[::-1]
        at = bisect_left(self._reversed, backwards)
        return at < len(self._reversed) and self._reversed[at].startswith(backwards)

    def _state(self, text: str) -> _State:
        if text not in self._states:
            self._states[text] = _State(text, tuple(self._rows(text)))
        return self._states[text]

    def _rows(self, text: str) -> Iterator[Row]:
        """The tokens that can be taken, longest first, and the unknown character last."""
        for number in self._tokens.all(raw_text(text), 0):
            row = self._rows_of[number]
            if row[2] > NEVER:
                yield row
            if row[2] == UNKNOWN:  # llama.cpp takes this score for the end of its list
                return
        yield 1, -1, UNKNOWN


class Plamo2Encoder:
    """Text to ids by the smallest cost; remembers the words it has seen."""

    def __init__(self, vocab: Vocabulary):
        """Raises: GGUFError if a byte has no token."""
        self._byte_ids = _byte_ids(vocab)
        self._byte_texts = {
            text: bytes([int(text[3:5], 16)])
            for text in map(vocab.tokens.__getitem__, vocab.with_attribute(TokenAttribute.BYTE))
            if BYTE_TEXT.fullmatch(text)
        }
        self._tokens, scores = vocab.tokens, _token_scores(vocab)
        self._automaton = _Automaton(scores)
        cuts = word_pattern(scores, " ")
        self._split = (cuts if not self._automaton.stops else re.compile("(?s:.+)")).findall
        self._words = PieceCache(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens; a byte order mark in front is dropped."""
        return self._words.collect(self._split(text.removeprefix(BYTE_ORDER_MARK)))

    def normal_piece(self, text: str) -> bytes:
        """The bytes that a token of this text stands for."""
        return self._byte_texts.get(text) or raw_text(text)

    def trace(self, text: str) -> EncoderTrace:
        """`encode`, watched: at each place, from the end, the best token and those that lost."""
        normalised = text.removeprefix(BYTE_ORDER_MARK)
        dropped = len(text) - len(normalised)
        words, at = [], 0
        for word in self._split(normalised):
            words.append(replace(self._trace_word(word), start=at, end=at + len(word)))
            at += len(word)
        places = np.arange(dropped, len(text), dtype=np.int32)
        origin = np.stack([places, places + 1], axis=1) if dropped else None
        return EncoderTrace(text, normalised, origin, tuple(words))

    def _encode_word(self, word: str) -> list[int]:
        ids, at = [], 0
        best = self._best(word)
        while at < len(word):
            n, token_id, _ = best[at]
            ids += self._ids(token_id, word[at])
            at += n
        return ids

    def _ids(self, token_id: int, character: str) -> list[int]:
        if token_id >= 0:
            return [token_id]
        return [self._byte_ids[byte] for byte in character.encode()]

    def _best(self, word: str) -> list[Row]:
        """The row to take at each place."""
        n = len(word)
        cost, best = [0] * (n + 1), [(1, -1, UNKNOWN)] * n
        state, before = self._automaton.start, self._automaton.before
        for at in range(n - 1, -1, -1):
            state = before(state, word[at])
            smallest = NO_COST
            for row in state.rows:
                total = cost[at + row[0]] - row[2]
                if total < smallest:
                    smallest, best[at] = total, row
            cost[at] = smallest
        return best

    def _trace_word(self, word: str) -> WordTrace:
        n, kept = len(word), kept_losers(len(word))
        cost, steps = [0] * (n + 1), []
        state = self._automaton.start
        for at in range(n - 1, -1, -1):
            state = self._automaton.before(state, word[at])
            rows = [(cost[at + row[0]] - row[2], row) for row in state.rows]
            rows.sort(key=lambda pair: pair[0])  # stable: of equal ones the longest stays first
            cost[at] = rows[0][0]
            edges = [self._edge(word, at, total, row) for total, row in rows[: kept + 1]]
            steps.append(LatticeStep(at, edges[0], tuple(edges[1:]), len(rows) - 1))
        lookups, at = [], 0
        by_place = {step.position: step.best for step in steps}
        while at < n:
            edge = by_place[at]
            ids = tuple(self._ids(-1 if edge.token_id is None else edge.token_id, word[at]))
            how = "bytes" if edge.token_id is None else "token"
            lookups.append(Lookup(edge.symbol, at, edge.end, ids, how))
            at = edge.end
        return WordTrace(word, 0, n, tuple(word), tuple(steps), tuple(lookups))

    def _edge(self, word: str, at: int, total: int, row: Row) -> Edge:
        n, token_id, score = row
        known = token_id if token_id >= 0 else None
        symbol = word[at : at + n]
        return Edge(at, at + n, symbol, known, score / SCALE, -total / SCALE)
