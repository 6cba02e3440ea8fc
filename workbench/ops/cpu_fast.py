"""The operations of `cpu`, but products round their activations as llama.cpp does: the fast mode.

`linear` is this module's; every other name is that of `cpu`. Numbers are then close to those
llama.cpp computes from the same file, and farther from those of the expanded weights.

Source: ggml-cpu/ggml-cpu.c, `ggml_compute_forward_mul_mat` with its `vec_dot_type`.
Left out: weights without a kernel, whose activations stay float32 as in `cpu`.
"""

from typing import Any

import numpy as np

from . import cpu
from .packed import PackedTensor
from .packed_linear import has_kernel, packed_linear

__all__ = ["linear"]


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
