"""The operations of a transformer in NumPy: float32 in, float32 out, weights stay packed.

Written for all architectures at once; which operation a model uses, and with what numbers, is data
in `model/architectures.py`. A CUDA twin has the same names and arguments.

    T tokens of this call   S positions seen   H heads   K KV heads   D head_dim   E n_embd

Sources: ggml/src/ggml-cpu/ops.cpp (named at each function); sums run in another order than there.
Left out: integer arithmetic on quantized activations, which llama.cpp uses for speed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..quants import dequantize
from .packed import PackedTensor

__all__ = [
    "asarray",
    "attention",
    "concatenate",
    "expand",
    "get_rows",
    "linear",
    "mix_experts",
    "rms_norm",
    "rope",
    "route_experts",
    "silu",
    "softmax",
    "swiglu",
    "to_numpy",
    "zeros",
]

# Weights of one tile of a packed matrix, expanded to float32: 512 KiB, still in the cache when BLAS
# reads it. F16 4096 x 4096, one token: 14.4 ms; with 1<<15 19.2, with 1<<22 21.6 (2 cores).
TILE_WEIGHTS = 1 << 17
SCORES_PER_TILE = 1 << 18  # float32 scores that attention holds at once: 1 MiB
SMALLEST_HALF = np.float32(2.0**-14)  # smallest normal float16: ggml's floor for a sum of weights
HISTORY_PER_TILE = 1 << 24  # float32 numbers of K or V that attention widens at once: 64 MiB


def concatenate(pieces: list[np.ndarray]) -> np.ndarray:
    """Pieces one after the other along the first axis."""
    return np.concatenate(pieces)


def zeros(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of zeros; memory is taken only where it is written."""
    return np.zeros(shape, dtype)


def asarray(x: Any) -> np.ndarray:
    """`x` as an array of this device."""
    return np.asarray(x)


def to_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array in the host's memory."""
    return np.asarray(x)


def expand(weight: PackedTensor, rows: Any = ...) -> np.ndarray:
    """Rows of a packed weight as float32.

    rows: an index, slice or integer array of the first axis; all by default.
    Returns: (*rows, n) float32; a view where the weight is float32 already.
    """
    if weight.type == "F32":
        return weight.raw[rows]
    return dequantize(weight.raw[rows], weight.type, weight.byte_order)


def get_rows(weight: PackedTensor, row_ids: np.ndarray) -> np.ndarray:
    """Look rows up: the embeddings of tokens.

    weight: (V, E) packed; row_ids: (T,) integers. Returns: (T, E) float32, a copy.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_get_rows`.
    """
    return expand(weight, row_ids)


def linear(x: np.ndarray, weight: PackedTensor, bias: np.ndarray | None = None) -> np.ndarray:
    """x times the transposed weight: every row of the weight is one output.

    x: (T, n) float32; weight: (m, n) packed; bias: (m,) float32. Returns: (T, m) float32.

        packed rows   ████████████████     only one tile at a time exists as float32;
                      ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  →  float32 tile, then one BLAS product
                      ████████████████

    Source: ggml-cpu/ggml-cpu.c, `ggml_compute_forward_mul_mat` (its activations stay float32 here).
    """
    if weight.type == "F32":
        out = np.matmul(x, weight.raw.T)
    else:
        n_rows, n_cols = weight.shape
        step = max(1, TILE_WEIGHTS // n_cols)
        out = np.empty((len(x), n_rows), np.float32)
        for start in range(0, n_rows, step):
            tile = expand(weight, slice(start, start + step))
            np.matmul(x, tile.T, out=out[:, start : start + step])
    if bias is not None:
        out += bias
    return out


def rms_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, eps: float = 0.0
) -> np.ndarray:
    """Scale each vector to a root mean square of 1, then by the weight.

        x / sqrt(mean(x²) + eps) · weight

    x: (..., n) float32; weight, bias: (n,) float32; eps: added to the mean. Returns: (..., n).
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_rms_norm`; Zhang and Sennrich, arXiv:1910.07467.
    """
    mean = np.add.reduce(x * x, axis=-1, keepdims=True)
    mean /= np.float32(x.shape[-1])
    mean += np.float32(eps)
    out = x / np.sqrt(mean)
    out *= weight
    if bias is not None:
        out += bias
    return out


def rope(x: np.ndarray, rotation: np.ndarray, kind: str) -> np.ndarray:
    """Turn pairs of numbers of each head by the angles of their position.

    x: (T, H, D) float32, contiguous; rotation: (T, n_rot/2) complex64, cos + i sin.
    kind: which numbers are a pair; those from n_rot on stay as they are.

        "norm"   (0 1) (2 3) (4 5) …          "neox"   (0 h) (1 h+1) (2 h+2) …   h = n_rot/2

    Returns: (T, H, D) float32.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_rope`; Su et al., arXiv:2104.09864.
    """
    half = rotation.shape[-1]
    turn = rotation[:, None, :]  # (T, 1, n_rot/2), the same for all heads
    if kind == "norm" and 2 * half == x.shape[-1]:
        return (x.view(np.complex64) * turn).view(np.float32)
    out = x.copy()
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    if kind == "neox":
        first, second = slice(0, half), slice(half, 2 * half)
    a, b = x[..., first], x[..., second]
    out[..., first] = a * turn.real - b * turn.imag
    out[..., second] = a * turn.imag + b * turn.real
    return out


def softmax(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Probabilities from scores along the last axis; -inf gives 0.

    x: (..., n) float32; out: where to put them, may be x. Returns: (..., n) float32.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_soft_max`.
    """
    out = np.subtract(x, np.maximum.reduce(x, axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= np.add.reduce(out, axis=-1, keepdims=True)
    return out


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    scale: float,
    kq: np.ndarray | None = None,
    kq_soft_max: np.ndarray | None = None,
) -> np.ndarray:
    """Causal attention of the last T of S positions on all before them and themselves.

    q: (T, H, D) float32; k: (S, K, D) and v: (S, K, Dv) float16 or float32, H a multiple of K.
    scale: multiplies the scores, usually 1/sqrt(D).
    kq, kq_soft_max: (H, T, S) float32 to be filled with scores (before the scale and the mask) and
    probabilities, for who wants to see them; the result is the same without.
    Returns: (T, H * Dv) float32.

    Query head h reads KV head h // (H/K): the queries of one KV head are stacked as rows of one
    product, so K and V are never repeated. Queries go by tiles, KV heads by parts, so that memory
    stays bounded for any T and S.
    Source: llama.cpp src/llama-graph.cpp, `build_attn_mha`; Ainslie et al., arXiv:2305.13245.
    """
    n_tokens, n_head, head_dim = q.shape
    n_seen, n_head_kv, head_dim_v = v.shape
    group = n_head // n_head_kv
    out = np.empty((n_tokens, n_head, head_dim_v), np.float32)
    part = max(1, min(n_head_kv, HISTORY_PER_TILE // (n_seen * max(head_dim, head_dim_v))))
    for first in range(0, n_head_kv, part):
        heads = slice(first * group, min(first + part, n_head_kv) * group)
        _attend_heads(
            q[:, heads],
            _widen(k[:, first : first + part]).transpose(1, 2, 0),  # (K, D, S)
            _widen(v[:, first : first + part]).transpose(1, 0, 2),  # (K, S, Dv)
            scale,
            out[:, heads],
            None if kq is None else kq[heads],
            None if kq_soft_max is None else kq_soft_max[heads],
        )
    return out.reshape(n_tokens, n_head * head_dim_v)


def _attend_heads(q, k, v, scale, out, kq, kq_soft_max) -> None:
    """`attention` for some KV heads, tile by tile of queries, written to out (T, H, Dv)."""
    n_tokens, n_head, head_dim = q.shape
    n_head_kv, n_seen, head_dim_v = v.shape
    group = n_head // n_head_kv
    step = max(1, SCORES_PER_TILE // (n_head * n_seen))
    for start in range(0, n_tokens, step):
        tile = q[start : start + step]
        t = len(tile)
        past = n_seen - n_tokens + start  # positions before the first query of the tile
        seen = past + t if kq is None else n_seen  # scores of the future only for who looks at kq
        rows = tile.reshape(t, n_head_kv, group, head_dim).transpose(1, 2, 0, 3)
        scores = np.matmul(rows.reshape(n_head_kv, group * t, head_dim), k[:, :, :seen])
        if kq is not None:
            kq[:, start : start + t] = scores.reshape(n_head, t, seen)
        scores *= np.float32(scale)
        if seen > past + 1:
            _mask_future(scores.reshape(n_head, t, seen), past)
        softmax(scores, out=scores)
        if kq_soft_max is not None:
            kq_soft_max[:, start : start + t, :seen] = scores.reshape(n_head, t, seen)
        heads = np.matmul(scores, v[:, :seen]).reshape(n_head, t, head_dim_v)
        out[start : start + t] = heads.transpose(1, 0, 2)


def _mask_future(scores: np.ndarray, past: int) -> None:
    """Write -inf where query i of (H, t, seen) scores would see a position after past + i."""
    t, seen = scores.shape[1:]
    future = np.arange(seen - past) > np.arange(t)[:, None]  # (t, seen - past)
    np.copyto(scores[:, :, past:], np.float32(-np.inf), where=future)


def _widen(x: np.ndarray) -> np.ndarray:
    """float16 or float32 numbers of the cache, (S, K, D), as float32."""
    if x.dtype == np.float32:
        return x
    return dequantize(np.ascontiguousarray(x).view(np.uint8), "F16")  # faster than `astype`


def silu(x: np.ndarray) -> np.ndarray:
    """x · sigmoid(x), elementwise on float32. Source: ggml-cpu/vec.h, `ggml_silu_f32`."""
    with np.errstate(over="ignore"):  # exp(-x) may reach inf: the quotient is then the right -0
        return x / (np.exp(-x) + np.float32(1))


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """silu(gate) · up, the gated activation of the feed-forward network; (T, F) float32 each.

    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_swiglu`; Shazeer, arXiv:2002.05202.
    """
    out = silu(gate)
    out *= up
    return out


def route_experts(logits: np.ndarray, n_used: int) -> tuple[np.ndarray, ...]:
    """Choose each token's experts by a softmax over all of them.

    logits: (T, n_expert) float32 of the router. Returns: probabilities (T, n_expert); ids of the
    n_used best (T, n_used), best first; their probabilities; the same made to sum to 1.
    Source: llama.cpp src/llama-graph.cpp, `build_moe_ffn` with softmax gating and norm_w;
    Jiang et al., arXiv:2401.04088.
    """
    probs = softmax(logits)
    ids = np.argsort(-probs, axis=-1, kind="stable")[:, :n_used]
    weights = np.take_along_axis(probs, ids, axis=-1)
    total = np.add.reduce(weights, axis=-1, keepdims=True)
    return probs, ids, weights, weights / np.maximum(total, SMALLEST_HALF)


def mix_experts(
    x: np.ndarray,
    ids: np.ndarray,
    weights: np.ndarray,
    experts: tuple[PackedTensor, PackedTensor, PackedTensor],
    activation: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """The weighted sum of the feed-forward networks that each token was given.

    x: (T, E) float32; ids, weights: (T, n_used); experts: gate and up (n_expert, F, E) and down
    (n_expert, E, F), packed, of which only the chosen are expanded. Returns: (T, E) float32.
    Source: llama.cpp src/llama-graph.cpp, `build_moe_ffn`.
    """
    gate, up, down = experts
    out = np.zeros(x.shape, np.float32)
    for expert in np.unique(ids):
        rows, choice = np.nonzero(ids == expert)
        hidden = activation(linear(x[rows], gate[expert]), linear(x[rows], up[expert]))
        out[rows] += linear(hidden, down[expert]) * weights[rows, choice, None]
    return out
