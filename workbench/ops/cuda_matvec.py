"""Products of a few tokens with packed weights on CUDA, read where they lie: `kernels/matvec.cuh`.

Source: `cpu.linear`, which has the same float32 sums in another order.
Left out: many tokens, for which weights become float32 once (`cuda.linear`).
"""

from functools import cache

import cupy as cp
import numpy as np

from . import kernels
from .cuda_dequantize import alignment, device_table
from .packed import PackedTensor

__all__ = ["FEW_TOKENS", "can_matvec", "matvec"]

FEW_TOKENS = 4  # each reads all weights again, from the L2 cache at best
ROWS, THREADS = 8, 256  # of a thread block: a warp a row
FAMILY = {type: family for family, types in kernels.FAMILIES.items() for type in types}


def can_matvec(x: cp.ndarray, weight: PackedTensor) -> bool:
    """Whether `matvec` takes these: few tokens, and rows of whole eights at even addresses."""
    raw = weight.raw
    return (
        len(x) <= FEW_TOKENS
        and weight.shape[-1] % 8 == 0
        and weight.byte_order == "little"
        and raw.flags.c_contiguous
        and raw.data.ptr % (16 if FAMILY[weight.type] == "floats" else alignment(weight.type)) == 0
    )


def matvec(x: cp.ndarray, weight: PackedTensor) -> cp.ndarray:
    """x (T, n) float32 times the transposed weight (m, n), for which `can_matvec` holds: (T, m)."""
    x = cp.ascontiguousarray(x)
    x = x if x.data.ptr % 16 == 0 else x.copy()
    n_rows, n = weight.shape
    out = cp.empty((len(x), n_rows), np.float32)
    device = cp.cuda.Device().id
    arguments = (weight.raw, device_table(weight.type, device), x, out)
    kernel, grid = _kernel(weight.type, device), (-(-n_rows // ROWS), len(x))
    kernel(grid, (THREADS,), (*arguments, np.int32(n), np.int32(n_rows)))
    return out


@cache
def _kernel(type: str, device: int) -> cp.RawKernel:
    return _module(FAMILY[type], device).get_function(f"matvec_{type}")


@cache
def _module(family: str, device: int) -> cp.RawModule:
    """The kernels of a family for the current device, which is `device`."""
    source = kernels.SOURCES[f"matvec_{family}"]
    return cp.RawModule(code=source.text(), options=("-std=c++17",))
