"""Bytes from the host to the GPU at the speed of the bus: mapped file, pinned memory, device.

    file's pages --copy by a thread--> pinned piece --DMA--> device       worker 0, piece 0
            --copy by a thread--> pinned piece --DMA--> device            worker 1, piece 1
    ...

The GPU's copy engine reads pinned (page-locked) memory at the bus's full rate, but a mapped file
is not pinned. So each worker copies a piece into pinned memory, leaves it to the copy engine, and
takes the next pinned piece while that runs; a piece is used again when its event says it has left.
One thread copies about 10 GB/s, a bus of today carries 50: hence several.
Measured (NVIDIA H200, PCIe 5 x16, 4.9 GB in the page cache): 42 to 48 GB/s with 8 workers, 9.5 with
one; pinned memory alone 55.5, pageable 9.6. The first use takes 45 ms more for its pinned memory.
Source: CUDA C++ Best Practices Guide, "Pinned Memory" and "Asynchronous Transfers".
Left out: GPUDirect Storage; whether all fits, which is `device_memory`.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import cupy as cp
import numpy as np

from ..errors import ParameterError

__all__ = ["Uploader", "free_memory", "upload"]

PIECE_BYTES = 8 << 20
MOST_WORKERS = 8
PIECES_PER_WORKER = 2  # one is filled while the other is on its way
BYTES_AHEAD = 256 << 20  # how far `Uploader.each` sends before it hands out the first array


@dataclass(frozen=True)
class _Piece:
    """Pinned memory with the stream that empties it and the event that says it did."""

    memory: np.ndarray
    stream: cp.cuda.Stream
    left: cp.cuda.Event


class Uploader:
    """Sends arrays to the current GPU; a context manager, which waits for all of them at its end.

    total_bytes: of all that will be sent, for the progress bar; None shows none. n_workers: threads
    that copy, by default one a processor up to MOST_WORKERS.
    Example:
        with Uploader(sum(raw.nbytes for raw in raws)) as uploader:
            on_device = [uploader.send(raw) for raw in raws]
    """

    def __init__(self, total_bytes: int | None = None, n_workers: int | None = None):
        from tqdm.auto import tqdm  # a tenth of a second, which `import workbench` need not pay

        n_workers = n_workers or min(MOST_WORKERS, os.cpu_count() or 1)
        self._device = cp.cuda.Device()
        self._pool = ThreadPoolExecutor(n_workers)
        self._pieces: SimpleQueue[_Piece] = SimpleQueue()
        for _ in range(n_workers * PIECES_PER_WORKER):
            self._pieces.put(_new_piece())
        self._sent: list[Future] = []
        self._bar = tqdm(
            total=total_bytes,
            desc="to the GPU",
            unit="B",
            unit_scale=True,
            delay=0.5,
            leave=False,
            disable=total_bytes is None,
        )

    def __enter__(self) -> "Uploader":
        return self

    def __exit__(self, error: Any, *rest: Any) -> None:
        try:
            if error is None:
                self._wait(self._sent)
        finally:
            self._pool.shutdown(cancel_futures=True)
            while not self._pieces.empty():
                self._pieces.get().stream.synchronize()
            self._bar.close()

    def send(self, array: np.ndarray, out: cp.ndarray | None = None) -> cp.ndarray:
        """Begins to send a contiguous array of any dtype and shape.

        out: where to, (array.nbytes,) or more of uint8; by default new memory.
        Returns: the array on the device, whose content arrives later: `wait`, or the end of the
        `with` block, sees to that. Raises: ParameterError for an array that is not contiguous.
        """
        target, futures = self._begin(array, out)
        self._sent += futures
        return target

    def wait(self) -> None:
        """Makes the current stream wait for all that was sent; the host waits for its part."""
        self._wait(self._sent)
        self._sent.clear()

    def each(self, arrays: Iterable[np.ndarray]) -> Iterator[cp.ndarray]:
        """The arrays on the device, one by one, the later ones on their way meanwhile.

        Kernels of the current stream may use each at once. One that is dropped makes room for
        another, so that a file can pass through a small part of the memory.
        """
        ahead: deque[tuple[cp.ndarray, list[Future]]] = deque()
        n_bytes = 0
        for array in arrays:
            ahead.append(self._begin(array))
            n_bytes += array.nbytes
            while n_bytes > BYTES_AHEAD:
                target, futures = ahead.popleft()
                n_bytes -= target.nbytes
                self._wait(futures)
                yield target
                del target
        while ahead:
            target, futures = ahead.popleft()
            self._wait(futures)
            yield target

    def _begin(
        self, array: np.ndarray, out: cp.ndarray | None = None
    ) -> tuple[cp.ndarray, list[Future]]:
        """The target and the futures of its pieces' events."""
        source = _as_bytes(array)
        target = cp.empty(array.shape, array.dtype) if out is None else _view_of(out, array)
        free = cp.cuda.Event(disable_timing=True)
        free.record()  # kernels of the current stream may still use what was there before
        futures = []
        for start in range(0, source.size, PIECE_BYTES):
            piece = source[start : start + PIECE_BYTES]
            futures.append(self._pool.submit(self._send_piece, piece, target, start, free))
        return target, futures

    def _send_piece(
        self, source: np.ndarray, target: cp.ndarray, start: int, free: cp.cuda.Event
    ) -> tuple[cp.cuda.Event, int]:
        """In a worker: through the next pinned piece to the target; its event and the bytes.

        The event may stand for a later piece by the time it is waited for: no harm.
        """
        piece = self._pieces.get()
        try:
            with self._device:
                piece.left.synchronize()
                np.copyto(piece.memory[: source.size], source)  # other threads run meanwhile
                piece.stream.wait_event(free)
                cp.cuda.runtime.memcpyAsync(
                    target.data.ptr + start,
                    piece.memory.ctypes.data,
                    source.size,
                    cp.cuda.runtime.memcpyHostToDevice,
                    piece.stream.ptr,
                )
                piece.left.record(piece.stream)
        finally:
            self._pieces.put(piece)
        return piece.left, source.size

    def _wait(self, futures: Iterable[Future]) -> None:
        stream = cp.cuda.get_current_stream()
        for future in futures:
            event, n_bytes = future.result()
            stream.wait_event(event)
            self._bar.update(n_bytes)


def upload(array: np.ndarray) -> cp.ndarray:
    """One contiguous array on the current GPU, such as the bytes of a tensor in a mapped file.

    array: of any dtype and shape. Returns: the same on the GPU, in the order of the current stream.
    Raises: ParameterError for an array that is not contiguous. For many arrays, `Uploader` is
    faster: it makes its pinned memory once.
    """
    with Uploader() as uploader:
        return uploader.send(array)


def free_memory() -> int:
    """Bytes that the current GPU can still give: free ones and those that CuPy holds unused."""
    free, _ = cp.cuda.runtime.memGetInfo()
    return free + cp.get_default_memory_pool().free_bytes()


def _new_piece() -> _Piece:
    pinned = cp.cuda.alloc_pinned_memory(PIECE_BYTES)
    memory = np.frombuffer(pinned, np.uint8, PIECE_BYTES)
    stream = cp.cuda.Stream(non_blocking=True)
    left = cp.cuda.Event(disable_timing=True)
    left.record(stream)
    return _Piece(memory, stream, left)


def _as_bytes(array: np.ndarray) -> np.ndarray:
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        got = f"strides {array.strides}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ParameterError(
            "upload: not a contiguous array of the host; expected a NumPy array in C order, got "
            f"{got}; pass it through np.ascontiguousarray"
        )
    return array.reshape(-1).view(np.uint8)


def _view_of(out: cp.ndarray, array: np.ndarray) -> cp.ndarray:
    """The first bytes of `out` as an array like `array`."""
    assert out.dtype == np.uint8 and out.ndim == 1 and out.size >= array.nbytes
    return out[: array.nbytes].view(array.dtype).reshape(array.shape)
