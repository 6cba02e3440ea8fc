"""Threads that share the rows of products: Python's part of `cpu_kernels/team.py`.

    call ──▶ a job in memory ──▶ all threads take rows until none are left

Helpers look for the next product in a loop without Python's lock, and go to sleep when none has
come for half a millisecond: they are awake between the products of one token, and cost nothing
when the model rests.

Source: our own; ggml-cpu's threads poll before they sleep, too (`poll` in ggml_threadpool_params).
Left out: more threads than numba's number, and a choice of cores.
"""

import os
import time
from collections import deque
from functools import cache
from importlib import import_module
from threading import Lock, Thread
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Job", "n_threads", "run_job"]

SMALL_BYTES = 1 << 16  # what one thread reads before another has begun
SHORT_SECONDS = 2e-5
AWAKE_SECONDS = 5e-4  # helpers look so long for the next product
TURNS = 2000  # of the loop in which they look, to measure how long one takes


class Job(NamedTuple):
    """One product: a kernel's address, and what it reads and writes.

    raw: packed rows, the bytes of each in order; n: weights in a row; x: the address of T tokens'
    activations, laid out for the kernel in memory; out: (T, M) float32; step: rows taken at once.
    """

    memory: np.ndarray
    kernel: int
    raw: np.ndarray
    n: int
    x: int
    tokens: int
    out: np.ndarray
    step: int


def n_threads() -> int:
    """Threads that share a product: numba's number, which NUMBA_NUM_THREADS sets."""
    from numba import config  # numba: imported at first use

    return config.NUMBA_NUM_THREADS


def run_job(job: Job) -> None:
    """Do a product with all threads that are not busy otherwise.

    The calling thread works too, and what no helper has begun by then is called off, so this waits
    for nobody, whatever else keeps the threads busy.
    """
    team = _team(os.getpid())
    if team.lock.acquire(blocking=False):
        team.run(job)  # gives the lock back
    else:
        memory, address = _memory()
        _compiled().write_job(address, 1, *job[1:])
        _compiled().work_alone(address)
        del memory


@cache
def _compiled() -> Any:
    return import_module(".cpu_kernels.team", __package__)  # numba: imported at first use


def _memory() -> tuple[np.ndarray, int]:
    """Room for a job, and its address, a multiple of 64."""
    memory = np.zeros(_compiled().MEMORY_BYTES + 64, np.uint8)
    return memory, (memory.ctypes.data + 63) // 64 * 64


@cache
def _team(process: int) -> "_Team":
    """The helpers of a process; one that was forked gets its own."""
    return _Team()


class _Team:
    """Helpers, and the memory in which they find a job. Whoever holds `lock` may write there."""

    def __init__(self) -> None:
        self.memory, self.address = _memory()
        self.lock, self.asleep = Lock(), deque()
        self.job = None  # held while it is under way
        self.helpers = n_threads() - 1
        _compiled().serve(self.address, 1)  # compiles, or loads what was compiled
        start = time.perf_counter()
        _compiled().serve(self.address, TURNS)
        turn = (time.perf_counter() - start) / TURNS
        self.patience = max(1, int(AWAKE_SECONDS / turn))
        for number in range(self.helpers):
            Thread(None, self._help, f"workbench-product-{number}", daemon=True).start()

    def _help(self) -> None:
        """What a helper does."""
        sleep = Lock()
        sleep.acquire()
        while True:
            _compiled().serve(self.address, self.patience)
            self.asleep.append(sleep)
            sleep.acquire()

    def run(self, job: Job) -> None:
        """Do a job and give the lock back.

        Whatever interrupts it, the lock stays taken and the arrays live as long as a helper is at
        work; all who come meanwhile work alone.
        """
        self.job = job
        compiled = _compiled()
        try:
            compiled.write_job(self.address, self.helpers + 1, *job[1:])
            if not self.helpers or job.raw.nbytes * job.tokens < SMALL_BYTES:
                compiled.work_alone(self.address)
            else:
                while self.asleep:
                    self.asleep.pop().release()
                compiled.work(self.address)
        finally:
            while not compiled.wait(self.address, self.patience):
                time.sleep(SHORT_SECONDS)  # lets run whatever holds up a helper
            self.job = None
            self.lock.release()
