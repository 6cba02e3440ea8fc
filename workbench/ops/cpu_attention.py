"""Attention in NumPy: scores, what may be seen, shares, values.

    T tokens of this call   S positions before and with them   H heads   K KV heads   D head_dim

    position of query i = first + i          keys are the S positions up to the last query's

    all before    1 . . . .      window 2   1 . . . .     pieces of 2   1 . . . .
                  1 1 . . .                 1 1 . . .                   1 1 . . .
                  1 1 1 . .                 . 1 1 . .                   . . 1 . .
                  1 1 1 1 .                 . . 1 1 .                   . . 1 1 .

Source: llama.cpp src/llama-graph.cpp (`build_attn_mha`), src/llama-hparams.h (`is_masked_swa`),
ggml-cpu/ops.cpp (`ggml_compute_forward_soft_max`). Left out: sums in half precision.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..quants import dequantize
from .cpu_attention_row import reads, row_scores, row_values
from .cpu_wide_rows import wide_rows
from .packed_rows import PackedRows

__all__ = [
    "AttentionRules",
    "attention",
    "attention_probs",
    "attention_scores",
    "attention_values",
    "softmax",
]

SCORES_PER_TILE = 1 << 18  # float32 scores that attention holds at once: 1 MiB
HISTORY_PER_TILE = 1 << 24  # float32 numbers of K or V that attention widens at once: 64 MiB
MINUS_INFINITY = np.float32(-np.inf)


@dataclass(frozen=True, eq=False)
class AttentionRules:
    """How scores become shares, for one layer.

    scale: multiplies the scores; softcap: they saturate at it, 0 never; window: positions that a
    token sees, itself included, 0 for all; chunked: fixed pieces of `window` positions instead
    sinks: (H,) float32, a score of each head for nothing at all; slopes: (H,) float32, what a
    score loses per position of distance (ALiBi)
    """

    scale: float
    softcap: float = 0.0
    window: int = 0
    chunked: bool = False
    sinks: Any = None
    slopes: Any = None

    def oldest(self, position: int) -> int:
        """The first position that a token at `position` sees."""
        if not self.window:
            return 0
        if self.chunked:
            return position // self.window * self.window
        return max(0, position - self.window + 1)

    def of_heads(self, heads: slice) -> "AttentionRules":
        """The rules with what belongs to some heads only."""
        if self.sinks is None and self.slopes is None:
            return self
        sinks = None if self.sinks is None else self.sinks[heads]
        slopes = None if self.slopes is None else self.slopes[heads]
        return replace(self, sinks=sinks, slopes=slopes)


def softmax(
    x: np.ndarray, out: np.ndarray | None = None, sinks: np.ndarray | None = None
) -> np.ndarray:
    """Probabilities from scores along the last axis; -inf gives 0.

    x: (..., n) float32; out: where to put them, may be x; sinks: (..., 1) float32, one more score
    whose share is dropped. Returns: (..., n) float32.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_soft_max`.
    """
    greatest = np.maximum.reduce(x, axis=-1, keepdims=True)
    if sinks is not None:
        greatest = np.maximum(greatest, sinks)
    out = np.subtract(x, greatest, out=out)
    np.exp(out, out=out)
    total = np.add.reduce(out, axis=-1, keepdims=True)
    if sinks is not None:
        total += np.exp(sinks - greatest)
    out /= total
    return out


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, rules: AttentionRules, first: int
) -> np.ndarray:
    """Causal attention of T queries on all positions before them and themselves.

    q: (T, H, D) float32; k: (S, K, D) and v: (S, K, Dv) float16, float32 or packed, H a multiple of
    K, of the S positions that end with the last query's; first: position of the first query.
    Returns: (T, H * Dv) float32.

    Query head h reads KV head h // (H/K): the queries of one KV head are stacked as rows of one
    product, so K and V are never repeated. Queries go by tiles, KV heads by parts, so that memory
    stays bounded for any T and S; positions outside all windows of a tile are not read.
    Source: llama.cpp src/llama-graph.cpp, `build_attn_mha`; Ainslie et al., arXiv:2305.13245.
    """
    if len(q) == 1 and reads(k) and reads(v):
        return _attend_one(q[0], k, v, rules, first)
    n_tokens, n_head, head_dim = q.shape
    n_seen, n_head_kv, head_dim_v = v.shape
    group = n_head // n_head_kv
    out = np.empty((n_tokens, n_head, head_dim_v), np.float32)
    part = max(1, min(n_head_kv, HISTORY_PER_TILE // (n_seen * max(head_dim, head_dim_v))))
    for start in range(0, n_head_kv, part):
        kv_heads = slice(start, start + part)
        heads = slice(start * group, min(start + part, n_head_kv) * group)
        _attend_heads(
            q[:, heads],
            _widen(k[:, kv_heads]).transpose(1, 2, 0),  # (K, D, S)
            _widen(v[:, kv_heads]).transpose(1, 0, 2),  # (K, S, Dv)
            rules.of_heads(heads),
            first,
            out[:, heads],
        )
    return out.reshape(n_tokens, n_head * head_dim_v)


def _attend_one(q, k, v, rules: AttentionRules, position: int) -> np.ndarray:
    """`attention` for one token, q (H, D), on a float16 cache that is not widened. (1, H * Dv)."""
    before = position + 1 - len(k)  # position of the first key
    low = max(0, rules.oldest(position) - before)
    scores = row_scores(q, k[low:])
    probs = _probs(scores[:, None], rules, position, before + low)
    return row_values(probs[:, 0], v[low:]).reshape(1, -1)


def _attend_heads(q, k, v, rules: AttentionRules, first: int, out) -> None:
    """`attention` for some KV heads, tile by tile of queries, written to out (T, H, Dv)."""
    n_tokens, n_head = q.shape[:2]
    n_seen = k.shape[2]
    before = first + n_tokens - n_seen  # position of the first key
    step = max(1, SCORES_PER_TILE // (n_head * n_seen))
    for start in range(0, n_tokens, step):
        tile = q[start : start + step]
        position = first + start
        low = max(0, rules.oldest(position) - before)
        high = position + len(tile) - before  # keys after the tile's last query are not read
        scores = _scores(tile, k[:, :, low:high])
        probs = _probs(scores, rules, position, before + low)
        out[start : start + len(tile)] = _values(probs, v[:, low:high])


def attention_scores(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Products of all queries and keys, the whole matrix: `kq` for who wants to see or change it.

    q: (T, H, D) float32; k: (S, K, D). Returns: (H, T, S) float32.
    """
    if len(q) == 1 and reads(k):
        return row_scores(q[0], k)[:, None]
    return _scores(q, _widen(k).transpose(1, 2, 0))


def attention_probs(kq: np.ndarray, rules: AttentionRules, first: int) -> np.ndarray:
    """Shares from scores, the whole matrix: scaled, capped, masked, `kq_soft_max`.

    kq: (H, T, S) float32; first: position of the first query. Returns: (H, T, S) float32.
    """
    return _probs(kq.copy(), rules, first, first + kq.shape[1] - kq.shape[2])


def attention_values(probs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values mixed by shares. probs: (H, T, S) float32; v: (S, K, Dv). Returns: (T, H * Dv)."""
    if probs.shape[1] == 1 and reads(v):
        return row_values(probs[:, 0], v).reshape(1, -1)
    return _values(probs, _widen(v).transpose(1, 0, 2)).reshape(probs.shape[1], -1)


def _scores(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """q: (T, H, D), k: (K, D, S) -> (H, T, S)."""
    n_tokens, n_head, head_dim = q.shape
    n_head_kv, _, n_seen = k.shape
    group = n_head // n_head_kv
    rows = q.reshape(n_tokens, n_head_kv, group, head_dim).transpose(1, 2, 0, 3)
    scores = np.matmul(rows.reshape(n_head_kv, group * n_tokens, head_dim), k)
    return scores.reshape(n_head, n_tokens, n_seen)


def _probs(scores: np.ndarray, rules: AttentionRules, first: int, before: int) -> np.ndarray:
    """Shares in the place of scores (H, T, S); before: position of the first key."""
    if rules.softcap:
        scores /= np.float32(rules.softcap)
        np.tanh(scores, out=scores)
        scores *= np.float32(rules.softcap)
    scores *= np.float32(rules.scale)
    n_tokens, n_seen = scores.shape[1:]
    positions = np.arange(first, first + n_tokens)[:, None]
    keys = np.arange(before, before + n_seen)
    if rules.slopes is not None:
        scores -= rules.slopes[:, None, None] * (positions - keys).astype(np.float32)
    hidden = _hidden(rules, positions, keys)
    if hidden is not None:
        np.copyto(scores, MINUS_INFINITY, where=hidden)
    sinks = None if rules.sinks is None else rules.sinks[:, None, None]
    return softmax(scores, out=scores, sinks=sinks)


def _hidden(rules: AttentionRules, positions: np.ndarray, keys: np.ndarray) -> np.ndarray | None:
    """(T, S): what each query must not see, None if it may see all."""
    last, oldest = positions[0, 0], rules.oldest(int(positions[-1, 0]))
    if keys[-1] <= last and keys[0] >= oldest:
        return None
    hidden = keys > positions
    if rules.window and rules.chunked:
        hidden |= keys < positions // rules.window * rules.window
    elif rules.window:
        hidden |= keys <= positions - rules.window
    return hidden


def _values(probs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """probs: (H, T, S), v: (K, S, Dv) -> (T, H, Dv)."""
    n_head, n_tokens, n_seen = probs.shape
    n_head_kv, _, head_dim_v = v.shape
    rows = probs.reshape(n_head_kv, n_head // n_head_kv * n_tokens, n_seen)
    mixed = np.matmul(rows, v).reshape(n_head, n_tokens, head_dim_v)
    return mixed.transpose(1, 0, 2)


def _widen(x: np.ndarray | PackedRows) -> np.ndarray:
    """Numbers of the cache, (S, K, D) in whatever form, as float32."""
    if x.dtype == np.float32:
        return x
    if isinstance(x, PackedRows):
        return wide_rows(x)
    return dequantize(np.ascontiguousarray(x).view(np.uint8), "F16")  # faster than `astype`
