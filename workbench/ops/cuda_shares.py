"""Where the heads of one token looked, summed up on the GPU: `kernels/decode_shares.cu`.

    shares = DeviceShares(layout, buffers)   once a decode graph
    taken = shares.enqueue(stream, n_seen)   behind a token: one kernel, one copy to pinned memory
    stream.synchronize()                     now the numbers are in `taken`
    shares.keep()                            and stay there while the next ones come

Source: our own. Left out: what the arrays mean, and the NumPy twin: `token_shares.py`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import cupy as cp
import numpy as np

from . import kernels
from .token_shares import SIZES, SharesLayout, TokenShares

__all__ = ["DeviceShares"]

SOURCE = kernels.SOURCES["decode_shares"]
SHARED_BYTES = 3 * 4 * kernels.THREADS // 32
LEAST_BYTES = 1 << 20  # pinned memory is slow to get, and a text grows


class DeviceShares:
    """The kernel with its memory, for the buffers of one decode graph on the current device."""

    def __init__(self, layout: SharesLayout, buffers: Mapping[str, cp.ndarray]):
        """buffers: scores (L, H, n_rows), ends (L, H, 2) and norms (L, 2, K) as flat float32."""
        self.layout = layout
        self._given = tuple(buffers[name] for name in ("scores", "ends", "norms"))
        self._windows = cp.asarray(np.array(layout.windows, np.int32))
        self._sizes = np.zeros((), SIZES)
        for name in ("n_layer", "n_head", "n_head_kv", "n_first", "n_last"):
            self._sizes[name] = getattr(layout, name)
        self._sizes["n_rows"] = buffers["scores"].size // (layout.n_layer * layout.n_head)
        self._kernels = _kernels(cp.cuda.Device().id)
        self._out = cp.empty(0, np.uint8)
        self._pinned: list[np.ndarray] = []  # two, taken in turn

    def enqueue(
        self, stream: cp.cuda.Stream, n_seen: int, per_head: bool = True, type: Any = np.float16
    ) -> TokenShares:
        """Bring what the token before on the stream saw to the host; waits for nothing.

        n_seen: positions, the token's own is the last. per_head: shares of each head, else their
        mean. type: of the shares, float16 or float32.
        Returns: views of memory that is filled when the stream comes to its end, and written over
        by the next call, or after `keep` by the one behind it.
        """
        n_bytes = self.layout.nbytes(n_seen, per_head, type)
        if n_bytes > self._out.size:
            self._take_room(stream, max(2 * n_bytes, LEAST_BYTES))
        self._sizes["n_seen"], self._sizes["per_head"] = n_seen, per_head
        n_blocks = self.layout.n_layer * self.layout.n_head
        if not per_head:
            n_blocks += self.layout.n_layer * -(-n_seen // kernels.THREADS)
        arguments = (*self._given, self._windows, self._out, self._sizes)
        memory = self._pinned[0]
        with stream:
            kernel = self._kernels[np.dtype(type)]
            kernel((n_blocks,), (kernels.THREADS,), arguments, shared_mem=SHARED_BYTES)
            self._out[:n_bytes].get(stream, out=memory[:n_bytes], blocking=False)
        return self.layout.read(memory, n_seen, per_head, type)

    def keep(self) -> None:
        """Let the next call leave alone what the last one brought."""
        self._pinned.reverse()

    def _take_room(self, stream: cp.cuda.Stream, n_bytes: int) -> None:
        """What was taken before stays where it is as long as somebody has it."""
        stream.synchronize()
        with stream:  # whose memory it is in CuPy's pool
            self._out = cp.empty(n_bytes, np.uint8)
        pinned = (cp.cuda.alloc_pinned_memory(n_bytes) for _ in range(2))
        self._pinned = [np.frombuffer(memory, np.uint8, n_bytes) for memory in pinned]


@cache
def _kernels(device: int) -> dict[np.dtype, cp.RawKernel]:
    """The kernels by type of the shares, for the current device, which is `device`."""
    module = cp.RawModule(code=SOURCE.text(), options=("-std=c++17",))
    names = {np.dtype(type): f"decode_shares_{type}" for type in ("float16", "float32")}
    return {type: module.get_function(name) for type, name in names.items()}
