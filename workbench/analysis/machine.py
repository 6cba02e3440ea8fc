"""The machine under a measurement: who it is, how fast its memory is, and its clock.

    host   copies by all threads      time.perf_counter
    GPU    copies on the device       CUDA events, which do not wait (ops/cuda_clock.py)

Source: our own. Left out: what arithmetic could reach.
"""

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..ops.packed_linear import n_threads

__all__ = ["Machine", "copy_bandwidth", "machine_of"]

COPIED_BYTES = 1 << 28  # more than caches hold


@dataclass(frozen=True)
class Machine:
    """What a measurement asks of the device it runs on.

    facts: name and versions; ceilings: measures GB/s now, "copy" (each byte read and written) and
    on a GPU "upload"; synchronize: waits for the device; stopwatch: makes one that times calls;
    cached_kernels: names of those compiled.
    """

    device: str
    facts: dict[str, Any]
    ceilings: Callable[[], dict[str, float]]
    synchronize: Callable[[], None]
    stopwatch: Callable[[], Any]
    cached_kernels: Callable[[], set[str]]


def machine_of(device: str) -> Machine:
    """The machine behind a model's device, "cpu" or a GPU's name, which is the current one."""
    if not device.startswith("cuda"):
        return Machine(device, _host_facts(), _host_ceilings, lambda: None, Stopwatch, set)
    from ..ops import cuda_clock  # imports cupy, which only a GPU needs

    return Machine(
        device,
        cuda_clock.device_facts(),
        lambda: {
            "copy": cuda_clock.copy_bandwidth() / 1e9,
            "upload": cuda_clock.upload_bandwidth() / 1e9,
        },
        cuda_clock.synchronize,
        cuda_clock.Stopwatch,
        cuda_clock.cached_kernels,
    )


def copy_bandwidth(threads: int) -> float:
    """Bytes per second that threads move when they copy memory, each byte read and written."""
    sources = np.ones((threads, COPIED_BYTES // threads), np.uint8)
    targets = np.empty_like(sources)
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(4):
            start = time.perf_counter()
            list(pool.map(np.copyto, targets, sources))
            best = min(best, time.perf_counter() - start)
    return 2 * sources.nbytes / best


class Stopwatch:
    """Adds up the seconds of named calls; the host's twin of `ops.cuda_clock.Stopwatch`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def time(self, name: str, run: Callable[[], Any]) -> Any:
        """What `run` returns; its time counts for the name."""
        start = time.perf_counter()
        result = run()
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start
        return result

    def totals(self) -> dict[str, float]:
        """Seconds by name."""
        return dict(self._seconds)


def _host_ceilings() -> dict[str, float]:
    return {"copy": copy_bandwidth(n_threads()) / 1e9}


def _host_facts() -> dict[str, Any]:
    return {"name": _processor(), "cores": os.cpu_count(), "system": platform.system()}


def _processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
