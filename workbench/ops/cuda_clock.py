"""What a GPU is and how fast its memory moves, measured now: the yardsticks of a speed.

    copy      bytes of the device's memory read and written again    the floor of decode
    upload    pinned memory of the host to the device                the floor of loading

Everything here is about the current device. Copies go by a kernel and by the driver's own memcpy;
the faster one counts, so that a share of it flatters nobody.
Source: our own. Left out: the arithmetic's ceilings.
"""

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cupy as cp
import numpy as np

__all__ = [
    "Stopwatch",
    "cached_kernels",
    "copy_bandwidth",
    "device_facts",
    "synchronize",
    "upload_bandwidth",
]

REPEATS = 9
COPY_BYTES = 2 << 30  # many times any L2 cache, and so long that its beginning does not count
PINNED_BYTES = 1 << 28
THREADS = 1024
COPY_KERNEL = """
extern "C" __global__ void copy(const uint4* from, uint4* to, unsigned long long n) {
    unsigned long long step = gridDim.x * (unsigned long long)blockDim.x;
    for (unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x; i < n;
         i += step)
        to[i] = from[i];
}"""


def synchronize() -> None:
    """Wait until the device has done everything asked of it."""
    cp.cuda.Device().synchronize()


def device_facts() -> dict[str, Any]:
    """Name, memory and processors of the GPU; versions of the driver, CUDA and CuPy."""
    properties = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": int(properties["multiProcessorCount"]),
        "memory_bytes": int(properties["totalGlobalMem"]),
        "l2_bytes": int(properties["l2CacheSize"]),
        "driver": _driver(),
        "cuda_driver": _version(cp.cuda.runtime.driverGetVersion()),
        "cuda_runtime": _version(cp.cuda.runtime.runtimeGetVersion()),
        "cupy": cp.__version__,
    }


def copy_bandwidth(nbytes: int = COPY_BYTES) -> float:
    """Bytes per second, read and written, of the faster way to copy within the device's memory."""
    nbytes = min(nbytes, cp.cuda.Device().mem_info[0] // 4) // 16 * 16
    source, target = cp.ones(nbytes, cp.uint8), cp.empty(nbytes, cp.uint8)
    kernel = cp.RawKernel(COPY_KERNEL, "copy")
    grid = 2 * cp.cuda.Device().attributes["MultiProcessorCount"]
    stream = cp.cuda.get_current_stream()
    ways = (
        lambda: target.data.copy_from_device_async(source.data, nbytes, stream),
        lambda: kernel((grid,), (THREADS,), (source, target, np.uint64(nbytes // 16))),
    )
    return max(2 * nbytes / _seconds(way) for way in ways)


def upload_bandwidth(nbytes: int = PINNED_BYTES) -> float:
    """Bytes per second from pinned memory of the host into the device's."""
    target = cp.empty(nbytes, cp.uint8)
    pinned = cp.cuda.alloc_pinned_memory(nbytes)
    stream = cp.cuda.get_current_stream()
    return nbytes / _seconds(lambda: target.data.copy_from_host_async(pinned.ptr, nbytes, stream))


def cached_kernels() -> set[str]:
    """Names of the compiled kernels that CuPy keeps on disk."""
    folder = os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache"
    return {path.name for path in Path(folder).glob("*.cubin")}


class Stopwatch:
    """Adds up what the device needs for named calls, without waiting for any of them."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Any, Any]] = []

    def time(self, name: str, run: Callable[[], Any]) -> Any:
        """What `run` returns; its time counts for the name."""
        start, end = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        result = run()
        end.record()
        self._events.append((name, start, end))
        return result

    def totals(self) -> dict[str, float]:
        """Seconds by name."""
        synchronize()
        sums: dict[str, float] = {}
        for name, start, end in self._events:
            sums[name] = sums.get(name, 0.0) + cp.cuda.get_elapsed_time(start, end) * 1e-3
        return sums


def _seconds(run: Callable[[], Any]) -> float:
    """Median seconds of the device for some runs, after one that does not count."""
    run()
    times = []
    for _ in range(REPEATS):
        start, end = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(start, end) * 1e-3)
    return median(times)


def _version(number: int) -> str:
    """13000 -> "13.0"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver() -> str:
    """The driver's own version, "" where the system does not say it."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return ""
    return next((word for word in words if word[:1].isdigit() and "." in word), "")
