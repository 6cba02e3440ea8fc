"""Attention of a single token, by kernels that read a float16 cache as it lies.

Left out: anything but float16 keys and values whose head_dim is a multiple of 16; `cpu_attention`
widens those first.
"""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["compile_row_kernels", "reads", "row_scores", "row_values"]

LANES = 16  # numbers that a kernel takes at once


def reads(x: np.ndarray) -> bool:
    """Whether the kernels read these keys or values, (S, K, D)."""
    return x.dtype == np.float16 and x.shape[2] % LANES == 0 and x.strides[2] == 2 and x.size > 0


def row_scores(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """One token's queries times keys. q: (H, D) float32; k: (S, K, D). Returns: (H, S)."""
    scores = np.empty((len(q), len(k)), np.float32)
    q = np.ascontiguousarray(q, np.float32)
    _kernels().row_scores(q, k.shape[1], _address(k), *k.strides[:2], scores)
    return scores


def row_values(probs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values mixed by shares. probs: (H, S) float32; v: (S, K, Dv). Returns: (H, Dv)."""
    out = np.zeros((len(probs), v.shape[2]), np.float32)
    probs = np.ascontiguousarray(probs, np.float32)
    _kernels().row_values(probs, v.shape[1], _address(v), *v.strides[:2], out)
    return out


def compile_row_kernels() -> None:
    """Compile the kernels, or load them from numba's cache, before they are needed."""
    k = np.zeros((1, 1, LANES), np.float16)
    row_values(row_scores(np.zeros((1, LANES), np.float32), k), k)


@cache
def _kernels() -> Any:
    return import_module(".cpu_kernels.attention_row", __package__)  # numba: imported at first use


def _address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]
