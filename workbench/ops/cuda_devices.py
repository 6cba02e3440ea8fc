"""Which GPUs there are, as CuPy sees them. Source: the CUDA runtime. Left out: choosing one."""

import cupy as cp

__all__ = ["count_devices"]


def count_devices() -> tuple[int, str]:
    """How many GPUs there are, and why none can be asked for, "" where some can."""
    try:
        return cp.cuda.runtime.getDeviceCount(), ""
    except cp.cuda.runtime.CUDARuntimeError as error:
        return 0, str(error)
