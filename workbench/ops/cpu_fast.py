"""The operations of `cpu`, but products round their activations as llama.cpp does: the fast mode.

`linear` and what multiplies queries with keys are this module's; every other name is that of `cpu`.
Numbers are then close to those llama.cpp computes from the same file, and farther from those of the
expanded weights.

Source: ggml-cpu/ggml-cpu.c, `ggml_compute_forward_mul_mat` with its `vec_dot_type`, and
ggml-cpu/ops.cpp, `ggml_compute_forward_flash_attn_ext_f16`, which rounds queries the same way.
Left out: weights without a kernel, whose activations stay float32 as in `cpu`; keys of 16 and 32
bits, whose queries do.
"""

from typing import Any

import numpy as np

from ..quants import dequantize, quantize_online
from . import cpu
from .packed import PackedTensor
from .packed_linear import has_kernel, packed_linear
from .packed_rows import PackedRows

__all__ = ["attention", "attention_scores", "linear"]


def __getattr__(name: str) -> Any:
    return getattr(cpu, name)


def linear(x: np.ndarray, weight: PackedTensor, bias: np.ndarray | None = None) -> np.ndarray:
    """x, rounded to the form that llama.cpp multiplies the weight's type with, times the weight.

    x: (T, n) float32; weight: (m, n) packed; bias: (m,) float32. Returns: (T, m) float32.
    """
    if not has_kernel(weight):
        return cpu.linear(x, weight, bias)
    out = packed_linear(x, weight, fast=True)
    if bias is not None:
        out += bias
    return out


def attention(q: np.ndarray, k: Any, v: Any, rules: cpu.AttentionRules, first: int) -> np.ndarray:
    """`cpu.attention`, with queries rounded where keys are packed."""
    return cpu.attention(_rounded(q, k), k, v, rules, first)


def attention_scores(q: np.ndarray, k: Any) -> np.ndarray:
    """`cpu.attention_scores`, with queries rounded where keys are packed."""
    return cpu.attention_scores(_rounded(q, k), k)


def _rounded(q: np.ndarray, k: Any) -> np.ndarray:
    """q (T, H, D) as llama.cpp multiplies it with keys of this type."""
    if not isinstance(k, PackedRows):
        return q
    type = "BF16" if k.type == "BF16" else "Q8_0"
    return dequantize(quantize_online(np.ascontiguousarray(q), type), type)
