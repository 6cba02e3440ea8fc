"""Activations of feed-forward networks on CUDA: launches of `kernels/plain.cu`.

Source: `cpu_activations.py`, which names ggml's functions. Left out: what is not elementwise.
"""

from functools import cache
from typing import Any

import cupy as cp
import numpy as np

from .cpu_activations import gelu_table, softplus
from .cuda_rows import THREADS, launch

__all__ = [
    "geglu",
    "gelu",
    "reglu",
    "relu_squared",
    "sigmoid",
    "silu",
    "soft_cap",
    "swiglu",
    "swiglu_oai",
    "xielu",
]


def sigmoid(x: cp.ndarray) -> cp.ndarray:
    """1 / (1 + exp(-x))."""
    return _elementwise("sigmoid", x)


def silu(x: cp.ndarray) -> cp.ndarray:
    """x · sigmoid(x)."""
    return _elementwise("silu", x)


def swiglu(gate: cp.ndarray, up: cp.ndarray) -> cp.ndarray:
    """silu(gate) · up; (T, F) float32 each."""
    return _elementwise("swiglu", gate, _like(gate, up))


def swiglu_oai(gate: cp.ndarray, up: cp.ndarray) -> cp.ndarray:
    """gpt-oss's SwiGLU."""
    return _elementwise("swiglu_oai", gate, _like(gate, up))


def relu_squared(x: cp.ndarray) -> cp.ndarray:
    """max(x, 0)²."""
    return _elementwise("relu_squared", x)


def reglu(gate: cp.ndarray, up: cp.ndarray) -> cp.ndarray:
    """max(gate, 0) · up."""
    return _elementwise("reglu", gate, _like(gate, up))


def xielu(x: cp.ndarray, alpha_n: float, alpha_p: float, beta: float, eps: float) -> cp.ndarray:
    """Apertus's activation."""
    beta = np.float32(beta)
    slope, curve = beta + np.float32(softplus(alpha_n)), np.float32(softplus(alpha_p))
    return _elementwise("xielu", x, slope, curve, beta, np.float32(eps))


def gelu(x: cp.ndarray) -> cp.ndarray:
    """GELU in its tanh form, by ggml's table."""
    return _elementwise("gelu", x, _table(cp.cuda.Device().id))


def geglu(gate: cp.ndarray, up: cp.ndarray) -> cp.ndarray:
    """gelu(gate) · up; (T, F) float32 each."""
    return _elementwise("geglu", gate, _like(gate, up), _table(cp.cuda.Device().id))


def soft_cap(x: cp.ndarray, cap: float) -> cp.ndarray:
    """cap · tanh(x / cap)."""
    return _elementwise("soft_cap", x, np.float32(cap))


def _elementwise(kernel: str, x: cp.ndarray, *arguments: Any) -> cp.ndarray:
    x, out = cp.ascontiguousarray(x), cp.empty(x.shape, np.float32)
    n_blocks = -(-x.size // THREADS)
    launch(kernel, n_blocks, THREADS, x, *arguments, out, np.uint64(x.size))
    return out


def _like(x: cp.ndarray, y: cp.ndarray) -> cp.ndarray:
    """y, which a kernel reads along with x."""
    assert y.shape == x.shape
    return cp.ascontiguousarray(y)


@cache
def _table(device: int) -> cp.ndarray:
    """The table of gelu in the memory of the current device, which is `device`."""
    table = cp.asarray(gelu_table())
    cp.cuda.get_current_stream().synchronize()  # kernels of other streams will read it too
    return table
