"""Activations of feed-forward networks in NumPy, elementwise on float32.

Source: ggml-cpu/vec.h and ops.cpp, named at each function.
"""

import math
from functools import cache

import numpy as np

__all__ = [
    "geglu",
    "gelu",
    "gelu_table",
    "reglu",
    "relu_squared",
    "sigmoid",
    "silu",
    "soft_cap",
    "softplus",
    "swiglu",
    "swiglu_oai",
    "xielu",
]

OAI_ALPHA, OAI_LIMIT = np.float32(1.702), np.float32(7.0)
GELU_BEYOND = 10.0  # from here on ggml takes 0 and x


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)). Source: ggml-cpu/unary-ops.cpp, `op_sigmoid`."""
    with np.errstate(over="ignore"):  # exp(-x) may reach inf: the quotient is then the right 0
        return np.float32(1) / (np.exp(-x) + np.float32(1))


def silu(x: np.ndarray) -> np.ndarray:
    """x · sigmoid(x). Source: ggml-cpu/vec.h, `ggml_silu_f32`."""
    with np.errstate(over="ignore"):
        return x / (np.exp(-x) + np.float32(1))


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """silu(gate) · up, the gated activation of most networks; (T, F) float32 each.

    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_swiglu`; Shazeer, arXiv:2002.05202.
    """
    out = silu(gate)
    out *= up
    return out


def swiglu_oai(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """gpt-oss's SwiGLU: both sides clamped at 7, a steeper sigmoid, and up moved by one.

    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_swiglu_oai`.
    """
    gate = np.minimum(gate, OAI_LIMIT)
    up = np.clip(up, -OAI_LIMIT, OAI_LIMIT)
    return gate * sigmoid(OAI_ALPHA * gate) * (up + np.float32(1))


def relu_squared(x: np.ndarray) -> np.ndarray:
    """max(x, 0)². Source: ggml-cpu/vec.h, `ggml_vec_relu_f32` and `ggml_vec_sqr_f32`."""
    out = np.maximum(x, np.float32(0))
    out *= out
    return out


def reglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """max(gate, 0) · up. Source: ggml-cpu/vec.h, `ggml_vec_reglu_f32`."""
    out = np.maximum(gate, np.float32(0))
    out *= up
    return out


def xielu(x: np.ndarray, alpha_n: float, alpha_p: float, beta: float, eps: float) -> np.ndarray:
    """Apertus's activation: a parabola above 0, below it an exponential; both with slope beta at 0.

    Source: ggml.c, `ggml_xielu`; ggml-cpu/unary-ops.cpp, `op_xielu`; Huang, arXiv:2411.13010.
    """
    beta = np.float32(beta)
    slope, curve = beta + np.float32(softplus(alpha_n)), np.float32(softplus(alpha_p))
    below = (np.expm1(np.minimum(x, np.float32(eps))) - x) * slope
    return np.where(x > 0, curve * x * x, below) + beta * x


def softplus(x: float) -> float:
    """log(1 + exp(x)). Source: ggml.c, `ggml_xielu`, which takes it of its parameters."""
    return x if x > 20 else math.log1p(math.exp(x))


def gelu(x: np.ndarray) -> np.ndarray:
    """GELU in its tanh form, by ggml's table: input and output are rounded to float16.

    Source: ggml-cpu/vec.h, `ggml_vec_gelu_f32`; Hendrycks and Gimpel, arXiv:1606.08415.
    """
    out = gelu_table()[np.clip(x, -GELU_BEYOND, GELU_BEYOND).astype(np.float16).view(np.uint16)]
    np.copyto(out, x, where=x >= GELU_BEYOND)
    return out


def geglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """gelu(gate) · up; (T, F) float32 each. Source: ggml-cpu/vec.h, `ggml_vec_geglu_f32`."""
    out = gelu(gate)
    out *= up
    return out


def soft_cap(x: np.ndarray, cap: float) -> np.ndarray:
    """cap · tanh(x / cap): x where it is small, at most the cap."""
    return np.tanh(x / np.float32(cap)) * np.float32(cap)


@cache
def gelu_table() -> np.ndarray:
    """(65536,) float32: gelu of every float16, rounded to float16; index: its bits."""
    with np.errstate(all="ignore"):  # infinities and what is no number are never looked up
        x = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
        inner = np.float32(0.79788456080286535587989211986876) * x
        inner *= np.float32(1) + np.float32(0.044715) * x * x
        y = np.float32(0.5) * x * (np.float32(1) + np.tanh(inner))
        y = y.astype(np.float16).astype(np.float32)
    y[x <= -GELU_BEYOND] = 0
    return y
