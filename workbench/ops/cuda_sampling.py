"""Draws tokens on the GPU: logits that lie there become the next token without the host's help.

    sampler = DeviceSampler(logits, state)     once a model; buffers and addresses never change
    sampler.begin(first, settings, …)          a text: its first logits, settings, generator
    sampler.enqueue()                          two kernels; also while a CUDA graph is captured
    sampler.wait(step) -> DrawnToken           reads behind: the record of a step in host memory

    state (64,) uint32:  [0] token, the next input  [1] its position  [2] steps done  [3] stop: the
                         kernels do nothing any more  the others belong to whoever made the array

Each step draws into [0] and adds one to [1] and [2].
Source: kernels/sample.cu. Left out: which settings the kernels can serve
(`workbench.sampling.device`), and the loop around them.
"""

import time
from functools import cache

import cupy as cp
import numpy as np

from ..errors import WorkbenchError
from . import sampling_layout as layout

__all__ = ["DeviceSampler"]

POLL_SECONDS = 20e-6


class DeviceSampler:
    """The sampling kernels with their memory, for one array of logits and one state.

    n_records: how many steps the host may be behind.
    """

    n_records = 64

    def __init__(self, logits: cp.ndarray, state: cp.ndarray):
        """logits: (V,) float32; state: (64,) uint32, as above; both on the current device."""
        assert logits.dtype == np.float32 and logits.ndim == 1 and logits.flags.c_contiguous
        assert state.dtype == np.uint32 and state.size >= layout.STATE_WORDS
        self.logits, self.state = logits, state
        self._work = cp.zeros(layout.work_nbytes(logits.size), np.uint8)
        self._settings = cp.zeros(layout.SETTINGS.itemsize, np.uint8)
        # pinned memory, which kernels write over the bus; its address is the same on both sides
        self._pinned = cp.cuda.alloc_pinned_memory(self.n_records * layout.RECORD.itemsize)
        self.records = np.frombuffer(self._pinned, layout.RECORD, self.n_records)
        self.records["sequence"] = 0
        stop = layout.WORK.fields["host_stop"][1]
        self._host_stop = self._work[stop : stop + 4].view(np.uint32)
        self._aside, self._device = cp.cuda.Stream(non_blocking=True), cp.cuda.Device()
        self._kernels = _kernels(cp.cuda.Device().id)

    def begin(
        self,
        logits: cp.ndarray,
        settings: np.ndarray,
        generator: tuple[np.ndarray, int],
        token: int,
        position: int,
        stream: cp.cuda.Stream,
    ) -> None:
        """Start a text on a stream, on which step 0 is drawn from logits that are there already.

        logits: (V,) float32, written on the current stream. settings: (1,) SETTINGS. generator: the
        Mersenne Twister's words and place. token, position: what the logits are of.
        """
        start = np.zeros(layout.FIRST_RESERVED, np.uint32)
        start[layout.TOKEN], start[layout.POSITION] = token, position
        with self._device:
            cp.cuda.get_current_stream().synchronize()
            stream.synchronize()
        self.records["sequence"] = 0
        with self._device, stream:
            self.logits[...] = logits
            self.state[: start.size].set(start)
            self._work[: layout.WORK.itemsize].set(layout.first_work(generator))
            self._settings.set(settings.view(np.uint8).reshape(-1))
            self.enqueue()

    def choose_likeliest(self, stream: cp.cuda.Stream) -> None:
        """Let the steps launched from here on draw the token with the largest logit."""
        settings = layout.settings_record(top_k=1, top_p=1.0, min_p=0.0, temperature=0.0)
        stream.synchronize()
        with self._device:
            self._settings.set(settings.view(np.uint8).reshape(-1))
            self._host_stop.fill(0)
            cp.cuda.get_current_stream().synchronize()

    def stop(self, stream: cp.cuda.Stream) -> None:
        """Let the steps that are still on their way do nothing, and wait for the last one."""
        with self._device, self._aside:  # beside the stream that is at work
            self._host_stop.set(np.ones(1, np.uint32))
        stream.synchronize()

    def host_logits(self, stream: cp.cuda.Stream) -> np.ndarray:
        """(V,) float32: a copy of the logits in the host's memory."""
        with self._device:
            stream.synchronize()
            return cp.asnumpy(self.logits)

    def enqueue(self) -> None:
        """Launch the kernels on the current stream: logits -> state and a record."""
        scan, pick = self._kernels
        n_vocab = np.uint32(self.logits.size)
        grid, threads = (layout.n_tiles_of(self.logits.size),), (layout.TILE,)
        scan(grid, threads, (self.logits, self.state, self._work, n_vocab))
        records = np.uint64(self._pinned.ptr)
        counts = (np.uint32(self.n_records), n_vocab)
        buffers = (self.logits, self.state, self._work, self._settings, records)
        pick(grid, threads, (*buffers, *counts))

    def is_there(self, step: int) -> bool:
        """Whether the record of a step, counted from `begin`, has arrived."""
        return int(self.records["sequence"][step % self.n_records]) == step + 1

    def wait(self, step: int, stream: cp.cuda.Stream) -> layout.DrawnToken:
        """The record of a step that was launched on the stream, as soon as it is there.

        Raises: WorkbenchError if the stream has come to its end without it.
        """
        while not self.is_there(step):
            if stream.done and not self.is_there(step):
                raise WorkbenchError(
                    f"sampling: the GPU drew no token for step {step}; expected its record, got "
                    "none though all work is done; a kernel may have failed, start Python again"
                )
            time.sleep(POLL_SECONDS)
        return layout.drawn_token(self.records[step % self.n_records])


@cache
def _kernels(device: int) -> tuple[cp.RawKernel, cp.RawKernel]:
    """Both kernels for the current device, which is `device`."""
    module = cp.RawModule(code=layout.SOURCE.text(), options=("-std=c++17",))
    return module.get_function("sample_scan"), module.get_function("sample_pick")
