"""The operations of a transformer in CuPy, with the names and the arguments of `cpu.py`.

    cuda_rows         norms, softmax, rope           cuda_attention    scores, shares, values
    cuda_activations  elementwise functions          cuda_dequantize   packed blocks to numbers
    cuda_matvec       products of a few tokens

Products of many tokens are cuBLAS's in float32 (TF32 off, as CuPy leaves it).
Everything happens on CuPy's current device, in the order of its current stream.
Measured on an NVIDIA H200, a 1b shape in Q4_0: a prompt of 512 tokens at 17 200 tokens/s, single
tokens at 128 a second, which is the time of the launches from Python.

Source: named at each function's twin in `cpu.py`, the truth they are held to.
Left out: products in float16 (`cuda_fast.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cupy as cp
import numpy as np

from ..quants import quantize_online
from .cpu_attention import AttentionRules
from .cpu_experts import (
    choose_experts,
    mix_experts,
    normalized_shares,
    shares_of_experts,
)
from .cuda_activations import (
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
from .cuda_attention import attention, attention_probs, attention_scores, attention_values
from .cuda_dequantize import DTYPES, dequantize
from .cuda_matvec import can_matvec, matvec
from .cuda_rows import layer_norm, rms_norm, rope, softmax
from .cuda_rows import put_rows as put_numbers
from .cuda_upload import Uploader, free_memory
from .device_memory import MemoryNeed, demand_memory
from .packed import PackedTensor
from .packed_rows import PackedRows

__all__ = [
    "DTYPES",
    "AttentionRules",
    "asarray",
    "attention",
    "attention_probs",
    "attention_scores",
    "attention_values",
    "choose_experts",
    "concatenate",
    "demand_kv_memory",
    "dequantize",
    "expand",
    "expert_probs",
    "free_memory",
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

TOKENS_AT_ONCE = 512  # of a long prompt that go through the layers together
FEW_BYTES = 64 << 20  # below this, pinned memory costs more time than it saves
TILE_WEIGHTS = 1 << 26  # of a packed matrix that exist as float32 at once: 256 MiB


def on_device(device: str) -> AbstractContextManager:
    """The device of a name such as "cuda:1" as the current one, within a `with` statement."""
    return cp.cuda.Device(int(device.partition(":")[2] or 0))


def demand_kv_memory(n_bytes: int, n_ctx: int, device: str) -> None:
    """Nothing if a cache of n_ctx positions fits into the current device, which is `device`.

    Raises: DeviceMemoryError that names the n_ctx that would.
    """
    need = MemoryNeed(0, 0, kv_per_position=-(-n_bytes // n_ctx), n_ctx=n_ctx)
    demand_memory(need, free_memory(), device)


@contextmanager
def sender(n_bytes: int) -> Iterator[Callable[[np.ndarray], cp.ndarray]]:
    """A function that brings the file's arrays to this device, all there at the end of the `with`.

    n_bytes: of all of them; many are sent as fast as the bus goes, with a progress bar.
    """
    if n_bytes < FEW_BYTES:
        yield cp.asarray
        return
    with Uploader(n_bytes) as uploader:
        yield uploader.send


def concatenate(pieces: list[cp.ndarray]) -> cp.ndarray:
    """Pieces one after the other along the first axis."""
    return cp.concatenate(pieces)


def zeros(shape: tuple[int, ...], dtype: str) -> cp.ndarray:
    """An array of zeros."""
    return cp.zeros(shape, dtype)


def kv_zeros(shape: tuple[int, int, int], dtype: str) -> cp.ndarray:
    """Room for keys or values: (n_rows, K, D) of zeros, where the rows of a head lie together.

        memory    head 0: row 0, row 1, …    head 1: row 0, row 1, …    a head is one stream

    The memory itself is `out.transpose(1, 0, 2)`, which is contiguous.
    """
    n_rows, n_head_kv, length = shape
    return cp.zeros((n_head_kv, n_rows, length), dtype).transpose(1, 0, 2)


def packed_rows(raw: cp.ndarray, type: str, length: int) -> PackedRows:
    """Keys or values of `length` numbers a head in room for their bytes, (n_rows, K, bytes).

    Numbers are packed on the host, which the rows of new tokens go through, and unpacked here.
    """
    return PackedRows(raw, type, length, _pack, dequantize)


def _pack(x: cp.ndarray, type: str) -> cp.ndarray:
    return cp.asarray(quantize_online(cp.asnumpy(x.astype(np.float32, copy=False)), type))


def put_rows(room_k: Any, room_v: Any, row: int, k: Any, v: Any) -> None:
    """Put keys and values (T, K, D) float32 into rooms of `kv_zeros` or `packed_rows`, from a row
    on."""
    if not isinstance(room_k, PackedRows) and not isinstance(room_v, PackedRows):
        put_numbers(room_k, room_v, row, k, v)
        return
    room_k[row : row + len(k)] = k
    room_v[row : row + len(v)] = v


def asarray(x: Any) -> cp.ndarray:
    """`x` as an array of this device."""
    return cp.asarray(x)


def to_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array in the host's memory."""
    return cp.asnumpy(x)


def expand(weight: PackedTensor, rows: Any = ...) -> cp.ndarray:
    """Rows of a packed weight as float32.

    rows: an index, slice or integer array of the first axis; all by default.
    Returns: (*rows, n) float32; a view where the weight is float32 already.
    """
    if rows is ...:
        raw = weight.raw
    else:
        raw = weight.raw[cp.asarray(rows) if isinstance(rows, np.ndarray) else rows]
    if weight.type == "F32":
        return raw
    return dequantize(raw, weight.type, byte_order=weight.byte_order)


def get_rows(weight: PackedTensor, row_ids: np.ndarray) -> cp.ndarray:
    """Look rows up. weight: (V, E) packed; row_ids: (T,) integers. Returns: (T, E) float32."""
    return expand(weight, row_ids)


def linear(x: cp.ndarray, weight: PackedTensor, bias: cp.ndarray | None = None) -> cp.ndarray:
    """x times the transposed weight; of many tokens, one tile of it at a time becomes float32.

    x: (T, n) float32; weight: (m, n) packed; bias: (m,) float32. Returns: (T, m) float32.
    """
    out = matvec(x, weight) if can_matvec(x, weight) else _product(x, weight)
    if bias is not None:
        out += bias
    return out


def _product(x: cp.ndarray, weight: PackedTensor) -> cp.ndarray:
    n_rows, n_cols = weight.shape
    step = max(1, TILE_WEIGHTS // n_cols)
    if weight.type == "F32" or n_rows <= step:
        return cp.matmul(x, expand(weight).T)
    out = cp.empty((len(x), n_rows), np.float32)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        out[:, rows] = cp.matmul(x, expand(weight, rows).T)
    return out


def expert_probs(logits: cp.ndarray, gating: str) -> cp.ndarray:
    """What the router's scores mean, as `cpu.expert_probs`."""
    if gating == "softmax":
        return softmax(logits)
    return sigmoid(logits) if gating == "sigmoid" else logits
