"""The sampling kernels run on the CPU, and what they are compared with: the chain of NumPy."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.ops.fibers import compile_for_cpu, launch
from workbench.ops import sampling_layout as layout
from workbench.sampling import SamplerChain, SamplingParams
from workbench.sampling.device import device_settings

SHIM = Path(__file__).with_name("sample_shim.hpp")


class CpuSampler:
    """`workbench.ops.cuda_sampling.DeviceSampler` with its kernels on fibers; no streams."""

    n_records = 16

    def __init__(self, n_vocab: int):
        self.logits = np.zeros(n_vocab, np.float32)
        self.state = np.zeros(layout.STATE_WORDS, np.uint32)
        self.work = np.zeros(layout.work_nbytes(n_vocab), np.uint8)
        self.records = np.zeros(self.n_records, layout.RECORD)
        self.library = compile_for_cpu([SHIM, *layout.SOURCE.paths])

    def begin(
        self,
        logits: np.ndarray,
        settings: np.ndarray,
        generator: tuple[np.ndarray, int],
        token: int,
        position: int,
        stream: Any = None,
    ) -> None:
        """As that of the twin."""
        self.settings, self.logits[:] = settings, logits
        self.records["sequence"] = 0
        self.state[: layout.FIRST_RESERVED] = [token, position, 0, 0]
        self.work[: layout.WORK.itemsize] = layout.first_work(generator)
        self.enqueue()

    def enqueue(self) -> None:
        """Runs both kernels."""
        n, grid = self.logits.size, layout.n_tiles_of(self.logits.size)
        launch(self.library, "sample_scan", grid, 1024, 0, self.logits, self.state, self.work, n)
        buffers = (self.logits, self.state, self.work, self.settings, self.records)
        launch(self.library, "sample_pick", grid, 1024, 0, *buffers, self.n_records, n)

    def wait(self, step: int, stream: Any = None) -> layout.DrawnToken:
        """The record of a step, which must have run."""
        record = self.records[step % self.n_records]
        assert record["sequence"] == step + 1
        return layout.drawn_token(record)

    def stop(self, stream: Any = None) -> None:
        """No more draws."""
        self.state[layout.STOP] = 1

    def host_logits(self, stream: Any = None) -> np.ndarray:
        """The logits."""
        return self.logits


def first_draw(logits: np.ndarray, params: SamplingParams) -> layout.DrawnToken:
    """What the kernels draw from (V,) float32 logits."""
    sampler, chain = CpuSampler(logits.size), SamplerChain(params)
    sampler.begin(logits, device_settings(chain), chain.generator_state(), 0, 0)
    return sampler.wait(0)


def assert_same(drawn: layout.DrawnToken, token_id: int, candidates, logits: np.ndarray) -> None:
    """A step of the device is that of the chain: token, candidates, log probability."""
    assert drawn.token_id == token_id
    assert drawn.n_left == len(candidates)
    assert drawn.drew
    shifted = logits.astype(np.float64) - float(logits.max())
    want = shifted[token_id] - np.log(np.exp(shifted).sum())
    np.testing.assert_allclose(drawn.logprob, want, rtol=1e-12, atol=1e-12)
    if len(candidates) == len(drawn.ids):
        np.testing.assert_array_equal(drawn.ids, candidates.ids)
        np.testing.assert_array_equal(drawn.logits, candidates.logits)
        assert drawn.tail == 0 and drawn.sorted == candidates.sorted
        return
    assert layout.ENOUGH <= len(drawn.ids) <= layout.CAPACITY < drawn.n_left + layout.ENOUGH
    order = np.argsort(-candidates.logits, kind="stable")  # the best of them are listed
    order = order[: len(drawn.ids)] if np.isfinite(candidates.logits[order[1]]) else order[:1]
    np.testing.assert_array_equal(drawn.ids[: order.size], candidates.ids[order])
    np.testing.assert_array_equal(drawn.logits[: order.size], candidates.logits[order])
    shares = np.exp(candidates.logits.astype(np.float64) - float(candidates.logits.max()))
    tail = shares.sum() - shares[order].sum()
    np.testing.assert_allclose(drawn.tail, tail, rtol=1e-5, atol=1e-9)
