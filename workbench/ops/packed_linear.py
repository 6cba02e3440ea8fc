"""Products with a packed weight that read its blocks where they lie, by compiled kernels.

    one token      packed rows ──▶ codes, 256 at a time ──▶ sums       nothing is expanded
    many tokens    packed rows ──▶ float32 tile in the cache ──▶ sums of 4 rows x 4 tokens

In the exact mode activations stay float32. In the fast mode they are first rounded as llama.cpp
rounds them for the weight's type, so that the numbers are close to llama.cpp's own.

Source: ggml-cpu/ggml-cpu.c, `ggml_compute_forward_mul_mat` and its `vec_dot_type`.
Left out: types over grids and ternary ones, and big-endian files: `cpu` expands those by tiles.
"""

import math
import os
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

import numpy as np

from ..quants import codec_of, dequantize, quantize
from .packed import PackedTensor

__all__ = ["compile_kernels", "has_kernel", "n_threads", "packed_linear"]

HALVES = ("F16", "BF16")
INT8_FORMS = {  # weight type -> how llama.cpp rounds the activations
    **dict.fromkeys(("Q8_0", "Q4_0", "Q5_0", "IQ4_NL", "MXFP4"), "Q8_0"),
    **dict.fromkeys(("Q4_1", "Q5_1"), "Q8_1"),
    **dict.fromkeys(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"), "Q8_K"),
}
FEW_TOKENS = 2  # up to this many, decoding a row again for each costs less than a float32 tile
TILE_ROWS = 64  # a tile of 512 KiB
ROWS_AT_ONCE = 16  # rows a thread takes from the counter
SMALL_BYTES = 1 << 18  # a weight of fewer bytes is done before another thread has woken up
CHUNK = 256  # kernels read activations in whole chunks
LINE = 64  # bytes of a cache line


def has_kernel(weight: PackedTensor) -> bool:
    """Whether `packed_linear` takes this weight."""
    known = weight.type in INT8_FORMS or weight.type in HALVES
    return known and weight.byte_order == "little" and len(weight.shape) == 2


def packed_linear(x: np.ndarray, weight: PackedTensor, fast: bool = False) -> np.ndarray:
    """x times the transposed weight, as `cpu.linear`.

    x: (T, n) float32; weight: (m, n), one that `has_kernel`; fast: round x as llama.cpp does.
    Returns: (T, m) float32.
    """
    assert x.shape[1] == weight.shape[1] and weight.raw.shape == _packed_shape(weight)
    x = np.ascontiguousarray(x, np.float32)
    if weight.type in HALVES:
        return _times_floats(_as_stored(x, weight.type) if fast else x, weight)
    if not fast:
        return _times_floats(x, weight)
    kind = INT8_FORMS[weight.type]
    if len(x) > FEW_TOKENS and kind != "Q8_1":  # whose rounded sums are no sums of rounded numbers
        return _times_floats(_rounded(x, kind), weight)
    return _run("int_products", weight, _records(x, kind), len(x))


def compile_kernels(types: Iterable[str], fast: bool, progress: Callable = iter) -> None:
    """Compile the kernels of some types, or load them from numba's cache, before they are needed.

    progress: goes through a list of them, as tqdm does, to show how far it is.
    """
    jobs = []
    for type in types:
        if type in HALVES or type in INT8_FORMS:
            whole = fast and type in INT8_FORMS
            jobs += [("int_products" if whole else "float_products", type), ("tile_products", type)]
    for job in progress(jobs):
        _kernel(*job)


def _packed_shape(weight: PackedTensor) -> tuple[int, int]:
    codec, (rows, n) = codec_of(weight.type), weight.shape
    return rows, n // codec.block_size * codec.type_size


def _times_floats(x: np.ndarray, weight: PackedTensor) -> np.ndarray:
    if len(x) > FEW_TOKENS:
        return _run("tile_products", weight, _laid_out(x), len(x))
    return _run("float_products", weight, _laid_out(x), len(x))


def _run(family: str, weight: PackedTensor, x: np.ndarray, n_tokens: int) -> np.ndarray:
    """A kernel on all rows of a weight, by all threads."""
    rows, n = weight.shape
    tiles = family == "tile_products"
    out = (np.zeros if tiles else np.empty)((n_tokens, rows), np.float32)
    raw = _contiguous_rows(weight.raw)
    arguments = (raw.ctypes.data, raw.strides[0], rows, n, x.ctypes.data, n_tokens, out.ctypes.data)
    step = TILE_ROWS if tiles else ROWS_AT_ONCE
    _share(_kernel(family, weight.type), arguments, step, (raw, x, out), raw.nbytes * n_tokens)
    return out


def _contiguous_rows(raw: np.ndarray) -> np.ndarray:
    """Rows may lie anywhere, but the bytes of a row must follow each other."""
    return raw if raw.strides[1] == 1 else np.ascontiguousarray(raw)


# --- activations -----------------------------------------------------------------------------


def _laid_out(x: np.ndarray) -> np.ndarray:
    """x as the kernels read it: zeros after each row up to whole chunks and 64 bytes more.

    It starts at a multiple of 64 bytes, so that no load touches two cache lines.
    """
    n_tokens, n = x.shape
    out = _aligned((n_tokens, _whole(n) + LINE // 4))
    out[:, :n] = x
    out[:, n:] = 0
    return out


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialized float32 at a multiple of 64 bytes."""
    size = math.prod(shape)
    memory = np.empty(size + LINE // 4, np.float32)
    start = -memory.ctypes.data % LINE // 4
    return memory[start : start + size].reshape(shape)


def _whole(n: int) -> int:
    return -(-n // CHUNK) * CHUNK


def _chunks(x: np.ndarray) -> np.ndarray:
    """(T, n) -> (T, C, 256), with zeros at the end of a row."""
    gap = _whole(x.shape[1]) - x.shape[1]
    return (np.pad(x, ((0, 0), (0, gap))) if gap else x).reshape(len(x), -1, CHUNK)


def _as_stored(x: np.ndarray, type: str) -> np.ndarray:
    """x rounded to the weight's own 16 bits."""
    return dequantize(quantize(x, type), type)


def _records(x: np.ndarray, kind: str) -> np.ndarray:
    """x as int8 codes with all that the kernel needs about them, (T, chunks) records."""
    activations = _activations()
    chunks = _chunks(x)
    floats = activations.RECORD.itemsize // 4
    records = _aligned((*chunks.shape[:2], floats)).view(activations.RECORD)[..., 0]
    fields = (records[name] for name in activations.RECORD.names)
    activations.round_to_records(getattr(activations, kind), chunks, *fields)
    return records


def _rounded(x: np.ndarray, kind: str) -> np.ndarray:
    """The numbers that x's int8 codes stand for."""
    activations = _activations()
    chunks = _chunks(x)
    out = np.empty_like(chunks)
    activations.round_floats(getattr(activations, kind), chunks, out)
    return np.ascontiguousarray(out.reshape(len(x), -1)[:, : x.shape[1]])


# --- kernels and threads ---------------------------------------------------------------------


@cache
def _activations() -> Any:
    return import_module(".cpu_kernels.activations", __package__)  # numba: imported at first use


@cache
def _kernel(family: str, type: str) -> Callable:
    """A compiled kernel; all its arguments are whole numbers of 64 bits."""
    module = import_module(f".cpu_kernels.{family}", __package__)  # numba: imported at first use
    kernel = getattr(module, type.lower())
    counter = np.zeros(1, np.int64)
    kernel(*[0] * 7, counter.ctypes.data, 1)  # on 0 rows: compiles, or loads what was compiled
    return kernel


def n_threads() -> int:
    """Threads that share a product: numba's number, which NUMBA_NUM_THREADS sets."""
    from numba import config  # numba: imported at first use

    return config.NUMBA_NUM_THREADS


class _Job:
    """One kernel call that a thread may take; whoever closes `taken` first decides its fate.

    arrays: those whose addresses are among the arguments; held as long as a thread may use them.
    """

    __slots__ = ("arguments", "arrays", "done", "kernel", "taken")

    def __init__(self, kernel: Callable, arguments: tuple[int, ...], arrays: tuple):
        self.kernel, self.arguments, self.arrays = kernel, arguments, arrays
        self.taken, self.done = Lock(), Lock()
        self.done.acquire()


@cache
def _queue(process: int) -> SimpleQueue:
    """Where the other threads of a process wait for jobs; one that was forked gets its own."""
    queue = SimpleQueue()
    for number in range(n_threads() - 1):
        Thread(None, _work, f"workbench-product-{number}", (queue,), daemon=True).start()
    return queue


def _work(queue: SimpleQueue) -> None:
    """What the other threads do. Plain locks: a Future would cost as much as a small product."""
    while True:
        job = queue.get()
        if job.taken.acquire(blocking=False):
            try:
                job.kernel(*job.arguments)
            finally:
                job.done.release()
        del job


def _share(
    kernel: Callable, arguments: tuple[int, ...], step: int, arrays: tuple, n_bytes: int
) -> None:
    """Run a kernel in all threads; each takes rows from one counter until none are left.

    The calling thread works too, and what no other thread has begun by then is called off, so
    this waits for nobody, whatever else keeps the threads busy.
    """
    counter = np.zeros(1, np.int64)
    arguments = (*arguments, counter.ctypes.data, step)
    others = n_threads() - 1 if n_bytes >= SMALL_BYTES else 0
    jobs = [_Job(kernel, arguments, (arrays, counter)) for _ in range(others)]
    for job in jobs:
        _queue(os.getpid()).put(job)
    kernel(*arguments)
    for job in jobs:
        if not job.taken.acquire(blocking=False):
            job.done.acquire()
