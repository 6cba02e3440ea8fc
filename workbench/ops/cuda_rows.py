"""Norms, softmax, rope and the cache's rows on CUDA: launches of `kernels/plain.cu`.

Source: named at each function's twin in `cpu.py`.
Left out: the shares of attention, which `cuda_attention.py` has.
"""

from functools import cache
from typing import Any

import cupy as cp
import numpy as np

from . import kernels

__all__ = [
    *("launch", "layer_norm", "put_rows", "rms_norm", "rope", "shares_in_place", "softmax"),
]

THREADS = 256


def rms_norm(
    x: cp.ndarray,
    weight: cp.ndarray | None = None,
    bias: cp.ndarray | None = None,
    eps: float = 0.0,
) -> cp.ndarray:
    """`cpu.rms_norm` of (..., n) float32."""
    return _norm("rms_norm", x, weight, bias, eps)


def layer_norm(
    x: cp.ndarray,
    weight: cp.ndarray | None = None,
    bias: cp.ndarray | None = None,
    eps: float = 0.0,
) -> cp.ndarray:
    """`cpu.layer_norm` of (..., n) float32."""
    return _norm("layer_norm", x, weight, bias, eps)


def _norm(kernel: str, x: cp.ndarray, weight: Any, bias: Any, eps: float) -> cp.ndarray:
    x, n = cp.ascontiguousarray(x), x.shape[-1]
    weight_rows = 1
    if any(part is not None and part.ndim > 1 for part in (weight, bias)):
        weight, bias = _same_rows(x, weight, bias)
        weight_rows = next(part.size // n for part in (weight, bias) if part is not None)
    out = cp.empty(x.shape, np.float32)
    sizes = (np.int32(n), np.int32(weight_rows), np.float32(eps))
    launch(kernel, x.size // n, _threads(n), x, weight, bias, out, *sizes)
    return out


def _same_rows(x: cp.ndarray, *parts: Any) -> list[Any]:
    """Weight and bias contiguous and of one shape, None where there is none."""
    shapes = [part.shape for part in parts if part is not None]
    shape = max(shapes, key=len, default=())
    assert shape == x.shape[x.ndim - len(shape) :], "a weight of the last axes of x"
    return [
        None if part is None else cp.ascontiguousarray(cp.broadcast_to(part, shape))
        for part in parts
    ]


def softmax(x: cp.ndarray) -> cp.ndarray:
    """Probabilities from scores along the last axis, (..., n) float32; -inf gives 0."""
    out = cp.array(x, np.float32, order="C")
    n = x.shape[-1]
    rows = out.reshape(1, -1, n)
    _launch_shares(rows, None, None, n, 0, 0, 0, 1.0, 0.0)
    return out


def shares_in_place(scores: cp.ndarray, rules: Any, first: int, before: int) -> cp.ndarray:
    """Shares in the place of scores (H, T, S), contiguous.

    rules: AttentionRules; first: position of the first query, before: of the first key.
    """
    assert scores.flags.c_contiguous
    return _launch_shares(
        scores,
        *(rules.sinks, rules.slopes),
        *(first, before),
        *(rules.window, rules.chunked),
        *(rules.scale, rules.softcap),
    )


def _launch_shares(scores, sinks, slopes, first, before, window, chunked, scale, softcap) -> Any:
    n_head, n_tokens, n_seen = scores.shape
    sizes = map(np.int32, (n_tokens, n_seen, first, before, window, chunked))
    factors = np.float32(scale), np.float32(softcap)
    grid = n_head * n_tokens
    launch("shares", grid, _threads(n_seen), scores, sinks, slopes, *sizes, *factors)
    return scores


def rope(x: cp.ndarray, rotation: cp.ndarray, kind: str) -> cp.ndarray:
    """`cpu.rope`: x (T, H, D) float32; rotation (T, n_rot/2) complex64; kind "norm" or "neox"."""
    x = cp.ascontiguousarray(x)
    _, n_head, head_dim = x.shape
    out = cp.empty(x.shape, np.float32)
    sizes = map(np.int32, (n_head * head_dim, head_dim, rotation.shape[-1], kind == "neox"))
    launch("rope", -(-x.size // THREADS), THREADS, x, rotation, out, np.uint64(x.size), *sizes)
    return out


def put_rows(room_k: cp.ndarray, room_v: cp.ndarray, row: int, k: Any, v: Any) -> None:
    """Put keys and values (T, K, D) float32 into rooms of `cuda.kv_zeros`, from a row on."""
    rooms = [room.transpose(1, 0, 2) for room in (room_k, room_v)]
    assert all(room.flags.c_contiguous for room in rooms)
    k, v = cp.ascontiguousarray(k), cp.ascontiguousarray(v)
    sizes = (k.shape[1], k.shape[2], v.shape[2], row, len(room_k))
    halves = (room_k.itemsize == 2, room_v.itemsize == 2)
    totals = np.uint64(k.size), np.uint64(v.size)
    n_blocks = -(-(k.size + v.size) // THREADS)
    arguments = (k, v, *rooms, *totals, *map(np.int32, (*sizes, *halves)))
    launch("store_rows", n_blocks, THREADS, *arguments)


def launch(name: str, n_blocks: int, n_threads: int, *arguments: Any) -> None:
    """Start a kernel of plain.cu on the current device; nothing where there is no work."""
    if n_blocks:
        kernel, a_number_a_warp = _kernel(name, cp.cuda.Device().id), n_threads // 32 * 4
        kernel((n_blocks,), (n_threads,), arguments, shared_mem=a_number_a_warp)


def _threads(n: int) -> int:
    """Threads for a row of n numbers: whole warps."""
    return min(THREADS, -(-n // 32) * 32)


@cache
def _kernel(name: str, device: int) -> cp.RawKernel:
    return _module(device).get_function(name)


@cache
def _module(device: int) -> cp.RawModule:
    """The kernels of plain.cu for the current device, which is `device`."""
    return cp.RawModule(code=kernels.SOURCES["plain"].text(), options=("-std=c++17",))
