"""The operations of `cuda`, but products by the tensor cores in float16: the fast mode on a GPU.

`linear`, `attention`, `rms_norm` and `swiglu` are this module's; every other name is
that of `cuda`. Activations are rounded to float16 where they meet a weight, a key or a value, sums
are float32: numbers differ from the exact mode's by about a thousandth, as llama.cpp's on a GPU do.

Source: llama.cpp ggml-cuda.cu.
Left out: what `multiplies` and `can_flash` refuse; that is computed by `cuda`'s operation of the
same name, in float32.
"""

from typing import Any

import cupy as cp

from . import cuda
from .cuda_flash import can_flash, flash_attention
from .cuda_prefill import multiplies, product, remember_half
from .cuda_prefill import rms_norm as rms_norm_rows
from .cuda_prefill import swiglu as swiglu_rows
from .packed import PackedTensor

__all__ = ["TOKENS_AT_ONCE", "attention", "linear", "rms_norm", "swiglu"]

TOKENS_AT_ONCE = 2048  # a weight becomes float16 once for all of them
SHORTEST_ROW = 512  # of a norm to which a thread block of its own is worth it


def __getattr__(name: str) -> Any:
    return getattr(cuda, name)


def linear(x: cp.ndarray, weight: PackedTensor, bias: cp.ndarray | None = None) -> cp.ndarray:
    """x times the transposed weight, both as float16, sums in float32.

    x: (T, n) float32; weight: (m, n) packed; bias: (m,) float32. Returns: (T, m) float32.
    """
    if not multiplies(weight):
        return cuda.linear(x, weight, bias)
    return product(x, weight, bias)


def attention(q: cp.ndarray, k: cp.ndarray, v: cp.ndarray, rules: Any, first: int) -> cp.ndarray:
    """`cuda.attention` by one kernel without the matrix of scores, under every rule there is.

    Where `can_flash` does not hold (k or v not in float16, heads longer than 256 or no multiple of
    8, a scale of 0 or less), it is `cuda.attention`, in float32.
    """
    if not can_flash(q, k, v, rules):
        return cuda.attention(q, k, v, rules, first)
    out, half = flash_attention(q, k, v, rules, first)
    remember_half(out, half)
    return out


def rms_norm(
    x: cp.ndarray,
    weight: cp.ndarray | None = None,
    bias: cp.ndarray | None = None,
    eps: float = 0.0,
) -> cp.ndarray:
    """`cuda.rms_norm`; of long rows, which products read, with their float16 twin."""
    is_long = x.ndim == 2 and x.shape[1] >= SHORTEST_ROW and x.shape[1] % 4 == 0
    is_long = is_long and all(part is None or part.ndim == 1 for part in (weight, bias))
    return (rms_norm_rows if is_long else cuda.rms_norm)(x, weight, bias, eps)


def swiglu(gate: cp.ndarray, up: cp.ndarray) -> cp.ndarray:
    """`cuda.swiglu` with its float16 twin."""
    is_plain = gate.ndim == 2 and gate.flags.c_contiguous and up.flags.c_contiguous
    return (swiglu_rows if is_plain and gate.shape[1] % 4 == 0 else cuda.swiglu)(gate, up)
