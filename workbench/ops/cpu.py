"""The operations of a transformer in NumPy: float32 in, float32 out, weights stay packed.

Written for all architectures at once; which operation a model uses, and with what numbers, is data
in `model/architectures/`. A CUDA twin has the same names and arguments.

    T tokens of this call   S positions seen   H heads   K KV heads   D head_dim   E n_embd

Sources: ggml/src/ggml-cpu/ops.cpp (named at each function); sums run in another order than there.
Left out: integer arithmetic on quantized activations, which llama.cpp uses for speed.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..quants import dequantize, quantize_online
from .cpu_activations import (
    geglu,
    gelu,
    reglu,
    relu_squared,
    sigmoid,
    silu,
    soft_cap,
    swiglu,
    swiglu_oai,
    xielu,
)
from .cpu_attention import (
    AttentionRules,
    attention,
    attention_probs,
    attention_scores,
    attention_values,
    softmax,
)
from .cpu_experts import (
    choose_experts,
    expert_probs,
    mix_experts,
    normalized_shares,
    shares_of_experts,
)
from .packed import PackedTensor
from .packed_linear import has_kernel, packed_linear
from .packed_rows import PackedRows

__all__ = [
    "AttentionRules",
    "asarray",
    "attention",
    "attention_probs",
    "attention_scores",
    "attention_values",
    "choose_experts",
    "concatenate",
    "demand_kv_memory",
    "expand",
    "expert_probs",
    "geglu",
    "gelu",
    "get_rows",
    "kv_zeros",
    "layer_norm",
    "linear",
    "mix_experts",
    "normalized_shares",
    "on_device",
    "packed_rows",
    "put_rows",
    "reglu",
    "relu_squared",
    "rms_norm",
    "rope",
    "sender",
    "shares_of_experts",
    "sigmoid",
    "silu",
    "soft_cap",
    "softmax",
    "swiglu",
    "swiglu_oai",
    "to_numpy",
    "xielu",
    "zeros",
]

# Weights of one tile of a packed matrix, expanded to float32: 512 KiB, still in the cache when BLAS
# reads it. F16 4096 x 4096, one token: 14.4 ms; with 1<<15 19.2, with 1<<22 21.6 (2 cores).
TILE_WEIGHTS = 1 << 17
TOKENS_AT_ONCE = 512  # of a long prompt that go through the layers together: llama.cpp's n_ubatch


def on_device(device: str) -> AbstractContextManager:
    """Where operations happen within a `with` statement: nothing to choose for "cpu"."""
    return nullcontext()


def demand_kv_memory(n_bytes: int, n_ctx: int, device: str) -> None:
    """Nothing: the operating system gives memory when it is written."""


def sender(n_bytes: int) -> AbstractContextManager:
    """A function that brings the file's arrays to this device, within a `with` statement."""
    return nullcontext(asarray)


def concatenate(pieces: list[np.ndarray]) -> np.ndarray:
    """Pieces one after the other along the first axis."""
    return np.concatenate(pieces)


def zeros(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of zeros; memory is taken only where it is written."""
    return np.zeros(shape, dtype)


def kv_zeros(shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    """Room for keys or values: (n_rows, K, D) of zeros, row by row."""
    return zeros(shape, dtype)


def packed_rows(raw: np.ndarray, type: str, length: int) -> PackedRows:
    """Keys or values of `length` numbers a head in room for their bytes, (n_rows, K, bytes)."""
    return PackedRows(raw, type, length, _pack, dequantize)


def _pack(x: np.ndarray, type: str) -> np.ndarray:
    return quantize_online(x.astype(np.float32, copy=False), type)


def put_rows(room_k: np.ndarray, room_v: np.ndarray, row: int, k: Any, v: Any) -> None:
    """Put keys and values (T, K, D) into rooms (n_rows, K, D), from a row on."""
    room_k[row : row + len(k)] = k
    room_v[row : row + len(v)] = v


def asarray(x: Any) -> np.ndarray:
    """`x` as an array of this device."""
    return np.asarray(x)


def to_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array in the host's memory."""
    return np.asarray(x)


def expand(weight: PackedTensor, rows: Any = ...) -> np.ndarray:
    """Rows of a packed weight as float32.

    rows: an index, slice or integer array of the first axis; all by default.
    Returns: (*rows, n) float32; a view where the weight is float32 already.
    """
    if weight.type == "F32":
        return weight.raw[rows]
    return dequantize(weight.raw[rows], weight.type, weight.byte_order)


def get_rows(weight: PackedTensor, row_ids: np.ndarray) -> np.ndarray:
    """Look rows up: the embeddings of tokens.

    weight: (V, E) packed; row_ids: (T,) integers. Returns: (T, E) float32, a copy.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_get_rows`.
    """
    return expand(weight, row_ids)


def linear(x: np.ndarray, weight: PackedTensor, bias: np.ndarray | None = None) -> np.ndarray:
    """x times the transposed weight: every row of the weight is one output.

    x: (T, n) float32; weight: (m, n) packed; bias: (m,) float32. Returns: (T, m) float32.

        packed rows   ████████████████     only one tile at a time exists as float32;
                      ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  →  float32 tile, then one BLAS product
                      ████████████████     (types of `packed_linear`: compiled kernels)

    Source: ggml-cpu/ggml-cpu.c, `ggml_compute_forward_mul_mat` (its activations stay float32 here).
    """
    if weight.type == "F32":
        out = np.matmul(x, weight.raw.T)
    elif has_kernel(weight):
        out = packed_linear(x, weight)
    else:
        n_rows, n_cols = weight.shape
        step = max(1, TILE_WEIGHTS // n_cols)
        out = np.empty((len(x), n_rows), np.float32)
        for start in range(0, n_rows, step):
            tile = expand(weight, slice(start, start + step))
            np.matmul(x, tile.T, out=out[:, start : start + step])
    if bias is not None:
        out += bias
    return out


def rms_norm(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 0.0,
) -> np.ndarray:
    """Scale each vector to a root mean square of 1, then by the weight.

        x / sqrt(mean(x²) + eps) · weight

    x: (..., n) float32; weight, bias: (n,) or of the last axes of x, float32, None for none; eps:
    added to the mean. Returns: (..., n), a new array.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_rms_norm`; Zhang and Sennrich, arXiv:1910.07467.
    """
    mean = np.add.reduce(x * x, axis=-1, keepdims=True)
    mean /= np.float32(x.shape[-1])
    mean += np.float32(eps)
    return _affine(x / np.sqrt(mean), weight, bias)


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 0.0,
) -> np.ndarray:
    """Shift each vector to a mean of 0 and scale it to a variance of 1, then weight and bias.

    x: (..., n) float32; weight, bias: as for rms_norm; eps: added to the variance. Returns:
    (..., n), a new array.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_norm`; Ba et al., arXiv:1607.06450.
    """
    n = np.float32(x.shape[-1])
    out = x - np.add.reduce(x, axis=-1, keepdims=True) / n
    variance = np.add.reduce(out * out, axis=-1, keepdims=True) / n
    out /= np.sqrt(variance + np.float32(eps))
    return _affine(out, weight, bias)


def _affine(x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None) -> np.ndarray:
    """x · weight + bias, in place."""
    if weight is not None:
        x *= weight
    if bias is not None:
        x += bias
    return x


def rope(x: np.ndarray, rotation: np.ndarray, kind: str) -> np.ndarray:
    """Turn pairs of numbers of each head by the angles of their position.

    x: (T, H, D) float32, contiguous; rotation: (T, n_rot/2) complex64, cos + i sin.
    kind: which numbers are a pair; those from n_rot on stay as they are.

        "norm"   (0 1) (2 3) (4 5) …          "neox"   (0 h) (1 h+1) (2 h+2) …   h = n_rot/2

    Returns: (T, H, D) float32.
    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_rope`; Su et al., arXiv:2104.09864.
    """
    half = rotation.shape[-1]
    turn = rotation[:, None, :]  # (T, 1, n_rot/2), the same for all heads
    if kind == "norm" and 2 * half == x.shape[-1]:
        return (x.view(np.complex64) * turn).view(np.float32)
    out = x.copy()
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    if kind == "neox":
        first, second = slice(0, half), slice(half, 2 * half)
    a, b = x[..., first], x[..., second]
    out[..., first] = a * turn.real - b * turn.imag
    out[..., second] = a * turn.imag + b * turn.real
    return out
