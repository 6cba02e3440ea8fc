"""Attention of a prompt on CUDA, its scores never in memory: `kernels/flash_attention.cu`.

    K, V in float16, as cached ─► tiles in shared memory ─► tensor cores ─► (T, H · Dv)

Source: Dao, arXiv:2307.08691; llama.cpp ggml-cuda/fattn-mma-f16.cuh does the same.
Left out: whole score matrices for who wants to see them, which are `cuda`'s.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import cupy as cp
import numpy as np

from . import kernels
from .cpu_attention import AttentionRules

__all__ = ["HEAD_DIMS", "can_flash", "flash_attention", "shared_bytes"]

HEAD_DIMS = (64, 80, 96, 128, 256)  # heads of other lengths are padded with zeros to the next
WARPS, ROWS_PER_TILE = 4, 16

# The C struct `Sizes`.
SIZES = np.dtype(
    [(name, "<u4") for name in ("k_row", "k_head", "v_row", "v_head")]
    + [(name, "<i4") for name in ("n_tokens", "n_seen", "n_head_kv", "group")]
    + [(name, "<i4") for name in ("head_dim", "head_dim_v", "window", "chunked", "before")]
    + [(name, "<f4") for name in ("scale", "softcap")],
    align=True,
)


def can_flash(q: Any, k: Any, v: Any, rules: AttentionRules) -> bool:
    """Whether `flash_attention` takes these.

    It does where k and v are float16, heads at most 256 long and a multiple of 8, each head's
    numbers side by side at addresses that are multiples of 16, less than 2**32 numbers from the
    first to the last, and the scale above 0; with every window, cap, sink and slope there is.
    """
    return (
        q.dtype == np.float32
        and k.dtype == v.dtype == np.float16
        and max(q.shape[2], v.shape[2]) <= HEAD_DIMS[-1]
        and q.shape[2] % 8 == 0
        and rules.scale > 0
        and all(_is_readable(x) for x in (k, v))
    )


def _is_readable(x: Any) -> bool:
    """Whether the kernel's copies of 16 bytes find the heads of x."""
    steps = (*x.strides[:2], x.data.ptr, 2 * x.shape[2])
    return (
        x.strides[2] == 2
        and all(step % 16 == 0 for step in steps)
        and x.shape[0] * x.strides[0] < 1 << 33
    )


def flash_attention(
    q: cp.ndarray, k: cp.ndarray, v: cp.ndarray, rules: AttentionRules, first: int
) -> tuple[cp.ndarray, cp.ndarray]:
    """Causal attention of T queries on all positions before them and themselves.

    q: (T, H, D) float32; k: (S, K, D) and v: (S, K, Dv) float16, for which `can_flash` holds, of
    the S positions that end with the last query's; first: position of the first query.
    Returns: (T, H * Dv) float32, and the same as float16.

    Queries (clamped to ±65504) and shares are rounded to float16; scores, greatest scores, totals
    and sums are float32. NumPy twin: `cpu_attention.attention`.
    """
    n_tokens, n_head, head_dim = q.shape
    n_seen, n_head_kv, head_dim_v = v.shape
    q, group = cp.ascontiguousarray(q), n_head // n_head_kv
    steps = (*k.strides[:2], *v.strides[:2])
    numbers = (
        *(step // 2 for step in steps),
        *(n_tokens, n_seen, n_head_kv, group, head_dim, head_dim_v),
        *(rules.window, rules.chunked, first + n_tokens - n_seen),
        *(rules.scale, rules.softcap),
    )
    sizes = np.array(numbers, SIZES).view(f"V{SIZES.itemsize}")  # CuPy is slow to describe fields
    out = cp.empty((n_tokens, n_head * head_dim_v), np.float32)
    half = cp.empty(out.shape, np.float16)
    has_rules = bool(rules.softcap) or rules.slopes is not None
    longest = max(head_dim, head_dim_v)
    kernel, n_rows, n_bytes = _kernel(longest, has_rules, cp.cuda.Device().id)
    grid = n_head_kv * -(-n_tokens * group // n_rows)
    arguments = (q, k, v, rules.sinks, rules.slopes, out, half, sizes)
    kernel((grid,), (32 * WARPS,), arguments, shared_mem=n_bytes)
    return out, half


def shared_bytes(head_dim: int, row_tiles: int) -> int:
    """Shared memory of a thread block: the queries and two tiles each of keys and values."""
    n_keys = 32 if head_dim > 128 else 64
    return (WARPS * row_tiles * ROWS_PER_TILE + 4 * n_keys) * (head_dim + 8) * 2


@cache
def _kernel(longest: int, has_rules: bool, device: int) -> tuple[cp.RawKernel, int, int]:
    """The kernel for heads of up to `longest` numbers, its rows and bytes of a thread block.

    32 rows a warp read the shared memory half as often; where their registers or the GPU's shared
    memory do not suffice, it is 16.
    """
    head_dim = next(length for length in HEAD_DIMS if length >= longest)
    room = cp.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"]
    is_roomy = not has_rules and head_dim <= 128 and shared_bytes(head_dim, 2) <= room
    row_tiles = 2 if is_roomy else 1
    sizes = {"HEAD_DIM": head_dim, "RULES": int(has_rules), "ROW_TILES": row_tiles}
    code = replace(kernels.SOURCES["flash_attention"], defines=sizes).text()
    kernel = cp.RawModule(code=code, options=("-std=c++17",)).get_function("flash_attention")
    n_bytes = shared_bytes(head_dim, row_tiles)
    kernel.max_dynamic_shared_size_bytes = n_bytes
    return kernel, WARPS * row_tiles * ROWS_PER_TILE, n_bytes
