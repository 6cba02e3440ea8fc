"""What another text can reuse of a KV cache, and why no more.

    held     <s> Once upon a time there was a cat
    text     <s> Once upon a time there was a dog and …      n = 9: token 9 differs

Source: llama.cpp tools/server (`common_prefix`, `cache_prompt`), which does not say why.
Left out: keeping it, which is `KVCache.reuse`'s.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError

__all__ = ["PrefixMatch", "checked_ids", "common_prefix", "explain_match"]


@dataclass(frozen=True)
class PrefixMatch:
    """n: tokens at the start of a text whose keys and values the cache holds and can go on from;
    reason: why there are no more, in words."""

    n: int
    reason: str


def common_prefix(held: np.ndarray, ids: np.ndarray) -> int:
    """How many tokens two texts begin with alike; (n,) and (m,) integers."""
    n = min(len(ids), len(held))
    differs = np.flatnonzero(ids[:n] != held[:n])
    return int(differs[0]) if differs.size else n


def explain_match(held: np.ndarray, ids: np.ndarray, least: int, tokenizer: Any) -> PrefixMatch:
    """Compare tokens held with those of a text.

    least: positions below which sliding windows are gone (0: none); tokenizer: to show the pieces
    of tokens, or None.
    """
    n = common_prefix(held, ids)
    if 0 < n < least:
        return PrefixMatch(
            0,
            f"the first {n} tokens are the same, but layers kept only their sliding window, which "
            f"needs all before position {least}",
        )
    if n < min(len(held), len(ids)):
        here, there = (_token(tokenizer, int(x[n])) for x in (held, ids))
        return PrefixMatch(n, f"token {n} differs: {here} in the cache, {there} in the text")
    if n == len(ids):
        return PrefixMatch(n, f"the text ends after its {n} tokens, all of which are in the cache")
    return PrefixMatch(n, f"the cache ends after the {n} tokens it holds, all of which are reused")


def _token(tokenizer: Any, token_id: int) -> str:
    return str(token_id) if tokenizer is None else f"{tokenizer.decode([token_id])!r} ({token_id})"


def checked_ids(token_ids: Any, argument: str = "token_ids") -> np.ndarray:
    """(n,) int64. Raises: ParameterError for anything but a sequence of integers."""
    try:
        ids = np.asarray(token_ids)
    except (ValueError, TypeError, OverflowError):  # ragged lists, integers beyond 64 bits
        ids = np.empty((0, 0))
    is_integers = ids.dtype.kind in "iu" and int(ids.max(initial=0)) <= np.iinfo(np.int64).max
    if ids.ndim != 1 or (ids.size and not is_integers):
        raise ParameterError(
            f"{argument}: not token ids; expected a one-dimensional sequence of integers, got "
            f"{token_ids!r:.80}"
        )
    return ids.astype(np.int64)
