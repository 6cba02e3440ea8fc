"""On a GPU: tokens drawn by the kernels are those of the chain, and how long a draw takes.

Run as `python -m tests.gpu.check_sampling`; prints a table of checks and one of times.
"""

import time
import traceback

import cupy as cp
import numpy as np

from tests.ops.sampling_cases import assert_same
from workbench.ops import sampling_layout as layout
from workbench.ops.cuda_sampling import DeviceSampler
from workbench.sampling import SamplerChain, SamplingParams

N_DRAWS = 1000
CASES = {
    "default": dict(),
    "greedy": dict(temperature=0),
    "top_k 1": dict(top_k=1),
    "top_k 1000": dict(top_k=1000, top_p=0.999, min_p=0),
    "top_k 0": dict(top_k=0),
    "top_k 0, no min_p": dict(top_k=0, min_p=0),
    "all off": dict(top_k=0, top_p=1, min_p=0, temperature=1),
    "min_p only": dict(top_k=0, top_p=1, min_p=0.05),
    "flat": dict(top_k=0, top_p=0.9, min_p=0, temperature=5),
    "all in order": dict(top_k=10**6, top_p=1, min_p=0),
    "top_p of all in order": dict(top_k=10**6, top_p=0.95, min_p=0),
}


class Setup:
    """The kernels on a stream; step 0 is drawn from `row`."""

    def __init__(self, params: SamplingParams, row: np.ndarray):
        n_vocab = row.size
        self.stream = cp.cuda.Stream(non_blocking=True)
        with self.stream:
            self.logits, self.state = cp.zeros(n_vocab, np.float32), cp.zeros(64, np.uint32)
            self.sampler = DeviceSampler(self.logits, self.state)
        self.chain = SamplerChain(params)
        settings = layout.settings_record(
            params.top_k, params.top_p, params.min_p, params.temperature
        )
        generator = self.chain.generator_state()
        self.sampler.begin(cp.asarray(row), settings, generator, 0, 0, self.stream)


def logits_of(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n).astype(np.float32)
    return x * np.float32({"peaked": 3.0, "flat": 0.2}[kind])


def check(name: str, params: SamplingParams, kind: str, n_vocab: int, n_draws: int) -> str:
    """Equal tokens, candidates and log probabilities for rows of logits."""
    rows = [logits_of(kind, n_vocab, seed) for seed in range(16)]
    setup = Setup(params, rows[0])
    for step in range(n_draws):
        row = rows[step % 16]
        if step:
            with setup.stream:
                setup.logits.set(row)
                setup.sampler.enqueue()
        drawn = setup.sampler.wait(step, setup.stream)
        token_id, candidates = setup.chain.sample(row)
        assert_same(drawn, token_id, candidates, row)
    setup.stream.synchronize()
    assert int(setup.state[1]) == int(setup.state[2]) == n_draws
    return f"{n_draws} draws equal, {drawn.n_left} left in the last"


def microseconds(params: SamplingParams, kind: str, n_vocab: int = 128256) -> float:
    """Of one draw, in a CUDA graph of 20 of them."""
    setup = Setup(params, logits_of(kind, n_vocab, 0))
    setup.stream.synchronize()
    with setup.stream:
        setup.stream.begin_capture()
        for _ in range(20):
            setup.sampler.enqueue()
        return graph_microseconds(setup.stream.end_capture(), setup.stream, 20)


def graph_microseconds(graph, stream: cp.cuda.Stream, n_draws: int) -> float:
    """Of one of the draws that a graph makes."""
    start, end = cp.cuda.Event(), cp.cuda.Event()
    graph.launch(stream)
    start.record(stream)
    for _ in range(5):
        graph.launch(stream)
    end.record(stream)
    end.synchronize()
    return cp.cuda.get_elapsed_time(start, end) * 1000 / (5 * n_draws)


def microseconds_of_scan(n_vocab: int) -> float:
    """Of the first kernel alone."""
    setup = Setup(SamplingParams(), logits_of("peaked", n_vocab, 0))
    setup.stream.synchronize()
    scan, _ = setup.sampler._kernels
    arguments = (setup.logits, setup.state, setup.sampler._work, np.uint32(n_vocab))
    with setup.stream:
        setup.stream.begin_capture()
        for _ in range(20):
            scan((layout.n_tiles_of(n_vocab),), (layout.TILE,), arguments)
        return graph_microseconds(setup.stream.end_capture(), setup.stream, 20)


def attempt(label: str, call, *arguments) -> None:
    begin = time.time()
    try:
        print(f"{label:44s} {call(*arguments)}   ({time.time() - begin:.1f} s)", flush=True)
    except Exception:
        print(f"{label:44s} FAILED", flush=True)
        traceback.print_exc()


def main() -> None:
    """All checks, one line each."""
    attempt("us of sample_scan, V = 128256", microseconds_of_scan, 128256)
    for name, given in CASES.items():
        params = SamplingParams(seed=5, **given)
        for kind in ("peaked", "flat"):
            attempt(f"us a draw: {name}, {kind}", microseconds, params, kind)
    for name, given in CASES.items():
        params = SamplingParams(seed=5, **given)
        n_draws = N_DRAWS if name in ("default", "greedy") else 100
        arguments = (params, "peaked", 128256, n_draws)
        attempt(f"equal: {name}, V = 128256", check, name, *arguments)
        attempt(f"equal: {name}, flat", check, name, params, "flat", 128256, 20)
        for n in (1, 7, 1000, 32000):
            attempt(f"equal: {name}, V = {n}", check, name, params, "peaked", n, 50)


if __name__ == "__main__":
    main()
