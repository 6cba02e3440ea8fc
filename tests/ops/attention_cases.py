"""Attention of odd sizes under every rule there is, for whatever computes it.

CASES name what a kernel may get wrong: one query, rows that end within a tile, many queries a KV
head, windows that leave out whole tiles, caps, sinks, slopes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.ops.cpu_attention import AttentionRules

__all__ = ["CASES", "HEAD_DIMS", "Case", "made", "normwise"]

HEAD_DIMS = (64, 80, 96, 128, 256, 40, 192)  # the last two are padded


@dataclass(frozen=True)
class Case:
    """Sizes and rules; head_major: whether the cache holds a head's positions side by side."""

    n_tokens: int
    n_seen: int
    n_head: int = 4
    n_head_kv: int = 2
    window: int = 0
    chunked: bool = False
    forgotten: int = 0
    softcap: float = 0.0
    sinks: bool = False
    slopes: bool = False
    head_major: bool = True


CASES = (
    Case(1, 1, 4, 4),
    Case(7, 7, 8, 2),
    Case(1, 300, 16, 1),
    Case(130, 1000),
    Case(65, 129, 3, 3, head_major=False),
    Case(33, 517, 6, 2, window=100, forgotten=37),
    Case(150, 151, window=20),
    Case(64, 300, window=50, chunked=True, forgotten=13),
    Case(45, 333, softcap=3.0),
    Case(45, 200, sinks=True),
    Case(77, 200, 8, 8, slopes=True),
    Case(100, 110, window=30, softcap=2.0, sinks=True, slopes=True),
)


def made(case: Case, head_dim: int, asarray: Callable[[np.ndarray], Any]) -> tuple[Any, ...]:
    """Arguments of `attention` for a case: q, k, v, rules, first, as arrays of a device.

    k and v are pieces of longer ones, surrounded by what is no number. Values are as long as keys,
    but for heads of 192, where they are 128 long, as deepseek's.
    """
    rng = np.random.default_rng(head_dim + case.n_seen)
    q = rng.standard_normal((case.n_tokens, case.n_head, head_dim), np.float32)
    held = []
    for length in (head_dim, 128 if head_dim == 192 else head_dim):
        shape = (case.n_head_kv, case.n_seen + 5, length)
        whole = np.full(shape, np.nan, np.float16)
        whole[:, 2:-3] = rng.standard_normal((case.n_head_kv, case.n_seen, length), np.float32)
        if case.head_major:
            held.append(asarray(whole).transpose(1, 0, 2)[2:-3])
        else:
            held.append(asarray(np.ascontiguousarray(whole.transpose(1, 0, 2)))[2:-3])
    sinks = asarray(rng.random(case.n_head, np.float32) * 3) if case.sinks else None
    slopes = asarray(rng.random(case.n_head, np.float32) / 20) if case.slopes else None
    scale = head_dim**-0.5
    rules = AttentionRules(scale, case.softcap, case.window, case.chunked, sinks, slopes)
    return asarray(q), *held, rules, case.n_seen - case.n_tokens + case.forgotten


def normwise(got: np.ndarray, want: np.ndarray) -> float:
    """The length of the difference over the length of what was wanted."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))
