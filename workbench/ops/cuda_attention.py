"""Attention on CUDA in float32: the steps of `cpu_attention.py`, which explains them.

    q, K ─► cuBLAS ─► scores (H, T, S) ─► one kernel: capped, scaled, hidden, softmax
                                      ─► cuBLAS with V ─► (T, H · Dv)

Source: as in `cpu_attention.py`. Left out: attention without the matrix of scores, `cuda_flash.py`.
"""

import cupy as cp
import numpy as np

from .cpu_attention import AttentionRules
from .cuda_rows import shares_in_place
from .packed_rows import PackedRows

__all__ = ["attention", "attention_probs", "attention_scores", "attention_values"]

SCORES_PER_TILE = 1 << 26  # float32 scores that attention holds at once: 256 MiB
HISTORY_PER_TILE = 1 << 26  # float32 numbers of K or V that attention widens at once: 256 MiB


def attention(
    q: cp.ndarray, k: cp.ndarray, v: cp.ndarray, rules: AttentionRules, first: int
) -> cp.ndarray:
    """`cpu_attention.attention`: by parts of the KV heads and tiles of queries.

    q: (T, H, D) float32; k: (S, K, D) and v: (S, K, Dv) float16, float32 or packed; first: position
    of the first query. Returns: (T, H * Dv) float32.
    """
    n_tokens, n_head, head_dim = q.shape
    n_seen, n_head_kv, head_dim_v = v.shape
    group = n_head // n_head_kv
    part = max(1, min(n_head_kv, HISTORY_PER_TILE // (n_seen * max(head_dim, head_dim_v))))
    if part == n_head_kv:
        out = _attend_heads(q, _heads_first(k), _heads_first(v), rules, first)
    else:
        out = cp.empty((n_tokens, n_head, head_dim_v), np.float32)
        for start in range(0, n_head_kv, part):
            kv_heads = slice(start, start + part)
            heads = slice(start * group, min(start + part, n_head_kv) * group)
            keys, values = _heads_first(k[:, kv_heads]), _heads_first(v[:, kv_heads])
            out[:, heads] = _attend_heads(q[:, heads], keys, values, rules.of_heads(heads), first)
    return out.reshape(n_tokens, n_head * head_dim_v)


def _attend_heads(q, k, v, rules: AttentionRules, first: int) -> cp.ndarray:
    """q (T, H, D), k (K, S, D), v (K, S, Dv) -> (T, H, Dv), tile by tile of queries."""
    n_tokens, n_head = q.shape[:2]
    n_seen = k.shape[1]
    before = first + n_tokens - n_seen  # position of the first key
    step = max(1, SCORES_PER_TILE // (n_head * n_seen))
    pieces = []
    for start in range(0, n_tokens, step):
        tile, position = q[start : start + step], first + start
        low = max(0, rules.oldest(position) - before)
        high = position + len(tile) - before  # keys after the tile's last query are not read
        scores = _scores(tile, k[:, low:high])
        probs = shares_in_place(scores, rules, position, before + low)
        pieces.append(_values(probs, v[:, low:high]))
    return pieces[0] if len(pieces) == 1 else cp.concatenate(pieces)


def attention_scores(q: cp.ndarray, k: cp.ndarray) -> cp.ndarray:
    """`cpu_attention.attention_scores`: q (T, H, D), k (S, K, D) -> (H, T, S) float32."""
    return _scores(q, _heads_first(k))


def attention_probs(kq: cp.ndarray, rules: AttentionRules, first: int) -> cp.ndarray:
    """`cpu_attention.attention_probs`: (H, T, S) float32 -> (H, T, S) float32."""
    before = first + kq.shape[1] - kq.shape[2]
    return shares_in_place(cp.array(kq, order="C"), rules, first, before)


def attention_values(probs: cp.ndarray, v: cp.ndarray) -> cp.ndarray:
    """`cpu_attention.attention_values`: (H, T, S) float32, v (S, K, Dv) -> (T, H * Dv)."""
    return _values(probs, _heads_first(v)).reshape(probs.shape[1], -1)


def _scores(q: cp.ndarray, k: cp.ndarray) -> cp.ndarray:
    """q: (T, H, D), k: (K, S, D) -> (H, T, S)."""
    n_tokens, n_head, head_dim = q.shape
    n_head_kv, n_seen, _ = k.shape
    group = n_head // n_head_kv
    rows = q.reshape(n_tokens, n_head_kv, group, head_dim).transpose(1, 2, 0, 3)
    rows = rows.reshape(n_head_kv, group * n_tokens, head_dim)
    return cp.matmul(rows, k.transpose(0, 2, 1)).reshape(n_head, n_tokens, n_seen)


def _values(probs: cp.ndarray, v: cp.ndarray) -> cp.ndarray:
    """probs: (H, T, S), v: (K, S, Dv) -> (T, H, Dv)."""
    n_head, n_tokens, n_seen = probs.shape
    n_head_kv, _, head_dim_v = v.shape
    rows = probs.reshape(n_head_kv, n_head // n_head_kv * n_tokens, n_seen)
    return cp.matmul(rows, v).reshape(n_head, n_tokens, head_dim_v).transpose(1, 0, 2)


def _heads_first(x: cp.ndarray | PackedRows) -> cp.ndarray:
    """Numbers of the cache, (S, K, D) float16, float32 or packed, as (K, S, D) float32.

    They lie head by head already (`cuda.kv_zeros`), so that this reads and writes in one stream.
    """
    if isinstance(x, PackedRows):
        return x.unpack(cp.ascontiguousarray(x.raw.transpose(1, 0, 2)), x.type)
    return x.transpose(1, 0, 2).astype(np.float32, copy=False)
