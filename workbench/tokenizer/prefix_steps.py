"""Longest prefixes, watched: what WordPiece and RWKV take at each place, and what they pass over.

    ▁unaffable    at 0  ▁un       lost  ▁u  ▁
                  at 3  aff       lost  a
                  at 6  able      lost  a

Source: `llm_tokenizer_wpm_session`, `llm_tokenizer_rwkv_session` in llama.cpp src/llama-vocab.cpp.
"""

from collections.abc import Iterable
from itertools import accumulate

from .bpe import BYTE_CHARACTERS
from .prefixes import TokenPrefixes
from .trace_steps import Lookup, PrefixStep, WordTrace, kept_losers

__all__ = ["watch_prefixes"]

Taken = tuple[int, int, int]  # first byte, last byte + 1, number in TokenPrefixes or -1


def watch_prefixes(
    tokens: TokenPrefixes, word: str, taken: Iterable[Taken], unk: int, give_up: bool
) -> WordTrace:
    """The trace of one word.

    taken: what was taken, from left to right, with number -1 where no token fits; unk: the unknown
    token's id; give_up: at such a place the whole word becomes `unk`, else that byte alone.
    Its symbols are characters, or bytes where a token ends inside a character.
    """
    raw, taken = word.encode(), list(taken)
    places = {at: i for i, at in enumerate(accumulate((len(c.encode()) for c in word), initial=0))}
    whole = all(start in places and end in places for start, end, _ in taken)
    symbols = tuple(word) if whole else tuple(_byte_text(raw))
    place, show = (places, _text) if whole else (range(len(raw) + 1), _byte_text)
    kept, steps, lookups = kept_losers(len(symbols)), [], []
    for start, end, number in taken:
        first, last = place[start], place[end]
        if number < 0 and give_up:
            lookups = [Lookup("".join(symbols), 0, len(symbols), (unk,), "unknown")]
            steps.append(PrefixStep(first, first, None, None))
            break
        symbol = show(raw[start:end])
        token_id, how = (tokens.ids[number], "token") if number >= 0 else (unk, "unknown")
        others = list(tokens.all(raw, start))[1:]
        losers = tuple(show(tokens.texts[i]) for i in others[:kept])
        steps.append(PrefixStep(first, last, symbol, token_id, losers, len(others)))
        lookups.append(Lookup(symbol, first, last, (token_id,), how))
    unit = "character" if whole else "byte"
    return WordTrace(word, 0, len(word), symbols, tuple(steps), tuple(lookups), unit)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _byte_text(raw: bytes) -> str:
    """Each byte as the character that byte-level byte-pair encoding shows it as."""
    return raw.decode("latin-1").translate(BYTE_CHARACTERS)
