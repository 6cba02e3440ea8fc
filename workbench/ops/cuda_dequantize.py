"""Rows of packed blocks as numbers on the GPU: launches of `kernels/dequantize_*.cu`.

Kernels are compiled at first use for the GPU at hand; CuPy keeps them on disk.
Source: ggml-quants.c, `dequantize_row_*`; `workbench.quants` is the truth they are held to.
Left out: multiplying what comes out, which is `cuda.linear`'s.
"""

from functools import cache
from typing import Any

import cupy as cp
import numpy as np

from ..errors import ParameterError
from ..quants import Codec, codec_of
from . import kernels

__all__ = ["DTYPES", "alignment", "dequantize", "device_table"]

DTYPES = ("float32", "float16")


def dequantize(
    raw: cp.ndarray, type: str, dtype: str = "float32", byte_order: str = "little"
) -> cp.ndarray:
    """Decodes rows of raw blocks on the GPU, bit-equal to `workbench.quants.dequantize`.

    raw: (..., bytes) uint8 on the GPU, rows of whole blocks.
    type: a type name that `workbench.quants.CODECS` has, in any letter case.
    dtype: "float32", or "float16": the float32 numbers rounded to nearest, ties to even.
    byte_order: "little" or "big", the byte order of the numbers within the blocks.

    Returns: (..., n) of that dtype, a new array, filled in the order of the current stream. NaN
    stays NaN, but not with the same bits.
    Raises: ParameterError for another dtype, a length that is no whole number of blocks, or an
    unknown name; UnsupportedError for a ggml type that cannot be read.
    Example: dequantize(asarray(gguf.raw(name)), gguf.tensors[name].type, "float16").
    Source: ggml-quants.c, `dequantize_row_*`.
    """
    codec = codec_of(type)
    _check_arguments(raw, codec, dtype, byte_order)
    shape = (*raw.shape[:-1], raw.shape[-1] // codec.type_size * codec.block_size)
    out = cp.empty(shape, dtype)
    if out.size:
        _launch(
            _aligned(raw, codec) if byte_order == "little" else _swapped(raw, codec), codec, out
        )
    return out


def _launch(blocks: cp.ndarray, codec: Codec, out: cp.ndarray) -> None:
    """Fills out from little-endian blocks at an aligned address; allocates nothing once it ran."""
    device = cp.cuda.Device().id
    grid = -(-out.size // kernels.WEIGHTS_PER_THREAD_BLOCK)
    n_blocks = np.uint64(out.size // codec.block_size)
    arguments = (blocks, device_table(codec.name, device), out, n_blocks)
    kernel = _kernel(codec.name, "float32" if out.itemsize == 4 else "float16")
    kernel((grid,), (kernels.THREADS,), arguments)


def _check_arguments(raw: Any, codec: Codec, dtype: str, byte_order: str) -> None:
    """Raises ParameterError unless raw is rows of whole blocks on the GPU and the names exist."""
    if not isinstance(raw, cp.ndarray) or raw.dtype != np.uint8 or raw.ndim == 0:
        got = f"{raw.shape} {raw.dtype}" if hasattr(raw, "dtype") else raw.__class__.__name__
        raise ParameterError(
            "dequantize: raw is no array of bytes on the GPU; expected a CuPy array (..., bytes) "
            f"uint8, got {raw.__class__.__module__} {got}; pass it through asarray"
        )
    if raw.shape[-1] % codec.type_size:
        raise ParameterError(
            f"dequantize: a row is no whole number of {codec.name} blocks; expected a multiple of "
            f"{codec.type_size} bytes, got {raw.shape[-1]}; check the type and the row's bounds"
        )
    if dtype not in DTYPES:
        raise ParameterError(
            f"dequantize: no such dtype; expected one of {', '.join(DTYPES)}, got {dtype!r}; "
            "name one of those"
        )
    if byte_order not in ("little", "big"):
        raise ParameterError(
            f"dequantize: no such byte order; expected 'little' or 'big', got {byte_order!r}; "
            "take the file's"
        )


def _aligned(raw: cp.ndarray, codec: Codec) -> cp.ndarray:
    """The bytes one after the other, from an address that the kernels' widest loads can use."""
    blocks = cp.ascontiguousarray(raw)
    return blocks if blocks.data.ptr % alignment(codec.name) == 0 else blocks.copy()


@cache
def alignment(type: str) -> int:
    """What the addresses of a type's blocks are multiples of, and the kernels' loads at most."""
    size = codec_of(type).type_size
    return min(16, size & -size)


def _swapped(raw: cp.ndarray, codec: Codec) -> cp.ndarray:
    """A copy of the blocks in which the bytes of each number are reversed."""
    blocks = raw.reshape(-1, codec.type_size).copy()
    fields = codec.dtype.fields or {"": (codec.dtype, 0)}
    for field, start in fields.values():
        width = field.base.itemsize
        if width > 1:
            part = blocks[:, start : start + field.itemsize]
            part[...] = part.reshape(len(blocks), -1, width)[..., ::-1].reshape(part.shape).copy()
    return blocks


@cache
def _kernel(type: str, dtype: str) -> cp.RawKernel:
    """The kernel that writes a type as a dtype."""
    family = next(name for name, types in kernels.FAMILIES.items() if type in types)
    return _module(family).get_function(f"dequantize_{type}_{dtype}")


@cache
def _module(family: str) -> cp.RawModule:
    """The kernels of a family, compiled when one of them is first asked for."""
    source = kernels.join_sources([*kernels.SHARED, kernels.FOLDER / f"dequantize_{family}.cu"])
    return cp.RawModule(code=source, options=("-std=c++17",))


@cache
def device_table(type: str, device: int) -> cp.ndarray | None:
    """The table of a type in the memory of the current device, which is `device`."""
    table = kernels.dequantize_table(type)
    if table is None:
        return None
    on_device = cp.asarray(table)
    cp.cuda.get_current_stream().synchronize()  # kernels of other streams will read it too
    return on_device
