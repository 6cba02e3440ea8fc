"""Products of many tokens with packed weights on CUDA, by the tensor cores, in float16.

    packed rows ─► float16 slab ─┐                        x float32 ─► float16, and its scale
                                 ├─► cuBLAS, float32 sums ◄─┘
                                 └─► y float32  (· scale + bias, where there are any)

What is read by several products in turn (a norm's output by q, k and v) becomes float16 once, in
the kernel that makes it: the twin of an array is remembered as long as the array lives.
Float16 ends at 65504. A row of x with greater numbers is divided by a power of two and its outputs
multiplied by it (`kernels/prefill.cu`); of a norm it is known beforehand that it has none.

Source: cuBLAS, `cublasGemmEx`; llama.cpp ggml-cuda.cu, `ggml_cuda_op_mul_mat_cublas`.
Left out: products in float32, which are `cuda.linear`'s; weights beyond 65504, which become
infinite, and so does what they are multiplied by.
"""

import weakref
from collections.abc import Iterator
from functools import cache
from typing import Any

import cupy as cp
import numpy as np
from cupy.cuda.device import get_cublas_handle
from cupy_backends.cuda.libs import cublas

from . import cuda, kernels
from .packed import PackedTensor

__all__ = ["multiplies", "product", "remember_half", "rms_norm", "swiglu"]

SOURCE = kernels.SOURCES["prefill"]
ROW_THREADS = SOURCE.defines["ROW_THREADS"]
# Of the float16 form of a weight that exists at once. Smaller ones would stay in the L2 cache, but
# are slower: Q4_0 14336 x 4096, 512 tokens, H200: 144 us as a whole, 157 by 32 MiB, 219 by 16 MiB.
SLAB_BYTES = 256 << 20
LARGEST_HALF = 65504.0
ALIGNMENT = 8  # numbers of a row that the tensor cores and 16-byte loads want as a multiple
FLOAT16, FLOAT32 = 2, 0  # cudaDataType
FACTORS = np.array([1, 0], np.float32)  # cuBLAS reads them from the host: y = 1 · W x + 0 · y
ONE = FACTORS.ctypes.data
ZERO = ONE + FACTORS.itemsize


class Notes:
    """What is known about arrays, each note forgotten with its array."""

    def __init__(self):
        self._notes: dict[int, tuple[weakref.ref, Any]] = {}

    def put(self, x: cp.ndarray, note: Any) -> None:
        """From now on `note` is what is known about x."""
        key = id(x)
        self._notes[key] = (weakref.ref(x, lambda _: self._notes.pop(key, None)), note)

    def of(self, x: cp.ndarray) -> Any:
        """What is known about x, None for nothing."""
        array, note = self._notes.get(id(x), (None, None))
        return note if array is not None and array() is x else None


@cache
def _twins() -> Notes:
    """The float16 twins of arrays: (T, n) float16 and the scales of its rows, (T,) or None.

    Row · scale is the array's row, as long as nobody writes into the array: the forward pass and
    edits of its activations make new ones.
    """
    return Notes()


@cache
def _greatest_of() -> Notes:
    """The greatest magnitudes in the vectors of norms."""
    return Notes()


def remember_half(x: cp.ndarray, half: cp.ndarray, scales: cp.ndarray | None = None) -> None:
    """A product with x will read `half` instead: its rows times scales (T,) are those of x."""
    _twins().put(x, (half, scales))


def multiplies(weight: PackedTensor) -> bool:
    """Whether `product` takes this weight: a matrix of less than 32 bits a number, 8n a row."""
    wide = weight.type in ("F32", "F64", "I64", "I32")
    return not wide and len(weight.shape) == 2 and weight.shape[1] % ALIGNMENT == 0


def product(x: cp.ndarray, weight: PackedTensor, bias: cp.ndarray | None = None) -> cp.ndarray:
    """x times the transposed weight: every row of the weight is one output.

    x: (T, n) float32; weight: (m, n) that `multiplies`; bias: (m,) float32 or None.
    Returns: (T, m) float32. x and weight are rounded to float16, sums are float32.
    """
    half, scales = _twins().of(x) or _halved(x)
    y = cp.empty((len(x), weight.shape[0]), np.float32)
    start = 0
    for slab in _slabs(weight):
        _multiply(slab, half, y, start)
        start += len(slab)
    if scales is not None or bias is not None:
        _launch("finish_rows", y, scales, bias, np.int32(y.shape[1]), grid=len(y))
    return y


def _slabs(weight: PackedTensor) -> Iterator[cp.ndarray]:
    """The rows of a weight as float16, SLAB_BYTES at a time."""
    n_rows, step = weight.shape[0], max(1, SLAB_BYTES // (2 * weight.shape[1]))
    if n_rows <= step:
        yield _as_halves(weight)
        return
    for start in range(0, n_rows, step):
        yield _as_halves(weight.rows(start, min(start + step, n_rows)))


def _as_halves(weight: PackedTensor) -> cp.ndarray:
    """(m, n) float16, contiguous; a view where the weight is float16 already."""
    raw = weight.raw
    is_plain = weight.type == "F16" and weight.byte_order == "little" and raw.data.ptr % 16 == 0
    if is_plain and raw.flags.c_contiguous:
        return raw.view(np.float16)
    return cuda.dequantize(raw, weight.type, "float16", weight.byte_order)


def _multiply(weight: cp.ndarray, x: cp.ndarray, y: cp.ndarray, start: int) -> None:
    """y[:, start : start + m] = x times the transposed weight.

    cuBLAS counts columns first: to it, y (T, M) is y^T with columns of M numbers, so this is
    y^T = W x^T with W, stored (n, m) to its eyes, transposed.
    """
    (m, n), n_tokens = weight.shape, len(x)
    cublas.gemmEx(
        *(get_cublas_handle(), cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, m, n_tokens, n),
        *(ONE, weight.data.ptr, FLOAT16, n, x.data.ptr, FLOAT16, n),
        *(ZERO, y.data.ptr + start * y.itemsize, FLOAT32, y.shape[1]),
        *(cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT),
    )


def _readable(x: cp.ndarray) -> cp.ndarray:
    """x as the kernels read it: float32, contiguous, at a multiple of 16 bytes."""
    x = cp.ascontiguousarray(x, np.float32)
    return x if x.data.ptr % 16 == 0 else x.copy()


def _halved(x: cp.ndarray) -> tuple[cp.ndarray, cp.ndarray]:
    """A new twin of x."""
    half, scales = cp.empty(x.shape, np.float16), cp.empty(len(x), np.float32)
    _launch("half_rows", _readable(x), half, scales, np.int32(x.shape[1]), grid=len(x))
    remember_half(x, half, scales)
    return half, scales


def rms_norm(
    x: cp.ndarray, weight: cp.ndarray | None, bias: cp.ndarray | None, eps: float
) -> cp.ndarray:
    """`cuda.rms_norm` of (T, n) float32, n a multiple of 4, and its float16 twin; one launch.

    No output exceeds sqrt(n) · max|weight| + max|bias|; where that may not fit into float16, the
    product makes the twin, with scales.
    """
    given = [None if part is None else _readable(part) for part in (x, weight, bias)]
    out, half = cp.empty(x.shape, np.float32), cp.empty(x.shape, np.float16)
    sizes = (np.int32(x.shape[1]), np.float32(eps))
    _launch("rms_norm_rows", *given, out, half, *sizes, grid=len(x))
    most = x.shape[1] ** 0.5 * _greatest(weight, 1.0) + _greatest(bias, 0.0)
    if most <= LARGEST_HALF:
        remember_half(out, half)
    return out


def swiglu(gate: cp.ndarray, up: cp.ndarray) -> cp.ndarray:
    """silu(gate) · up and its float16 twin; (T, F) float32 each, contiguous, F a multiple of 4."""
    out, half = cp.empty(gate.shape, np.float32), cp.empty(gate.shape, np.float16)
    scales = cp.empty(len(gate), np.float32)
    width = np.int32(gate.shape[1])
    _launch("swiglu_rows", gate, up, out, half, scales, width, grid=len(gate))
    remember_half(out, half, scales)
    return out


def _greatest(vector: cp.ndarray | None, default: float) -> float:
    """The greatest magnitude in a vector, read when first asked for."""
    if vector is None:
        return default
    known = _greatest_of().of(vector)
    if known is None:
        known = float(cp.abs(vector).max())
        _greatest_of().put(vector, known)
    return known


def _launch(name: str, *arguments: Any, grid: int) -> None:
    """Start a kernel of prefill.cu with a thread block a row."""
    kernel = _kernel(name, cp.cuda.Device().id)
    kernel((grid,), (ROW_THREADS,), arguments, shared_mem=ROW_THREADS // 32 * 4)


@cache
def _kernel(name: str, device: int) -> cp.RawKernel:
    """A kernel for the current device, which is `device`."""
    return _module(device).get_function(name)


@cache
def _module(device: int) -> cp.RawModule:
    return cp.RawModule(code=SOURCE.text(), options=("-std=c++17",))
