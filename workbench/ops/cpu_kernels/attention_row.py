"""Attention of one token on keys and values of 16 bits, which are widened in registers.

    scores   query head h, a dot product with each key row of KV head h // (H/K)
    values   query head h, 64 dimensions at a time: rows of values times their shares

Rows lie a stride of bytes apart for each position and each head, as in the KV cache.
Source: ggml-cpu/ops.cpp, `ggml_compute_forward_flash_attn_ext_f16`; here sums are float32.
Leaves out: what lies between the two (`cpu_attention`); head_dim that is no multiple of 16.
"""

from numba import float32, njit

from .entry import entry
from .simd import fused, load_f16_16, load_f32, load_floats16, plus, splat, store
from .simd_lanes import total

__all__ = ["row_scores", "row_values"]

LANES = 16
VALUES = 64  # dimensions of a value that are summed at once
POSITIONS = 32  # whose values stay in the nearest cache meanwhile

attend = njit(nogil=True, error_model="numpy")


@attend
def _dot(row, query, n):
    """n halves at `row` times n floats at `query`; n is a multiple of 16."""
    a, b = splat(float32(0)), splat(float32(0))
    for i in range(0, n // 32 * 32, 32):
        a = fused(load_f16_16(row + 2 * i), load_floats16(query + 4 * i), a)
        b = fused(load_f16_16(row + 2 * i + 32), load_floats16(query + 4 * i + 64), b)
    if n % 32:
        a = fused(load_f16_16(row + 2 * n - 32), load_floats16(query + 4 * n - 64), a)
    return total(plus(a, b))


@entry
def row_scores(q, n_head_kv, keys, of_position, of_head, scores):
    """scores (H, S) float32 = q (H, D) float32 times keys.

    keys: address of the first key's first half; of_position, of_head: strides in bytes.
    """
    n_head, n = q.shape
    query, group = q.ctypes.data, n_head // n_head_kv
    for position in range(scores.shape[1]):
        for head in range(n_head):
            row = keys + position * of_position + head // group * of_head
            scores[head, position] = _dot(row, query + 4 * n * head, n)


@attend
def _mix_64(row, of_position, shares, n, out):
    """Adds 64 dimensions of n positions' values, each times its share, to `out`."""
    a, b = load_floats16(out), load_floats16(out + 64)
    c, d = load_floats16(out + 128), load_floats16(out + 192)
    for position in range(n):
        share = splat(load_f32(shares + 4 * position))
        a = fused(load_f16_16(row), share, a)
        b = fused(load_f16_16(row + 32), share, b)
        c = fused(load_f16_16(row + 64), share, c)
        d = fused(load_f16_16(row + 96), share, d)
        row += of_position
    store(out, a)
    store(out + 64, b)
    store(out + 128, c)
    store(out + 192, d)


@attend
def _mix_16(row, of_position, shares, n, out):
    """The same for 16 dimensions."""
    a = load_floats16(out)
    for position in range(n):
        a = fused(load_f16_16(row), splat(load_f32(shares + 4 * position)), a)
        row += of_position
    store(out, a)


@entry
def row_values(shares, n_head_kv, values, of_position, of_head, out):
    """out (H, Dv) float32 += shares (H, S) float32 times values; the rest as in `row_scores`.

    Some positions at a time for all heads, so that values come from memory once.
    """
    n_head, n_seen = shares.shape
    n, group = out.shape[1], n_head // n_head_kv
    for first in range(0, n_seen, POSITIONS):
        part = min(POSITIONS, n_seen - first)
        for head in range(n_head):
            row = values + first * of_position + head // group * of_head
            share = shares.ctypes.data + 4 * (n_seen * head + first)
            to = out.ctypes.data + 4 * n * head
            for i in range(0, n // VALUES * VALUES, VALUES):
                _mix_64(row + 2 * i, of_position, share, part, to + 4 * i)
            for i in range(n // VALUES * VALUES, n, LANES):
                _mix_16(row + 2 * i, of_position, share, part, to + 4 * i)
