"""Our own turns in a measurement of speed: prompts and single tokens of one loaded model.

    depth d      fill a cache with d random tokens, once
    pp           one call of the plain pass behind them
    tg           on a GPU the decode graph, launched once a token; elsewhere the plain pass

In the plain pass the next token is random, as in llama-bench; the graph draws the likeliest one, so
its time includes that. llama-bench waits for every token, here the host waits for the last.
Source: llama.cpp tools/llama-bench (`test_prompt`, `test_gen`).
Left out: how often, and what it means.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..errors import NO_DECODE_GRAPH
from ..model import Model
from .machine import Machine
from .operation_times import operation_times
from .speed_run import SpeedTest

__all__ = ["WARM_UP", "OurTurns"]

PROFILED_TOKENS = 3  # that go one by one through the stopwatch
WARM_UP = (SpeedTest("tg", 4), SpeedTest("pp", 8))  # what a backend does before it counts


class OurTurns:
    """A loaded model that takes a turn at a test when called; keeps a cache for each depth.

    make_graph: (network, cache) -> decode graph, None for a device without one.
    """

    def __init__(
        self,
        model: Model,
        machine: Machine,
        tests: Iterable[SpeedTest],
        make_graph: Callable[[Any, Any], Any] | None = None,
    ):
        self.model, self._machine, self._make_graph = model, machine, make_graph
        self._room: dict[int, int] = {}
        for test in (*WARM_UP, *tests):
            room = self._room.get(test.depth, 0)
            self._room[test.depth] = max(room, test.n_tokens, PROFILED_TOKENS)
        self._caches: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}
        self.why_plain = ""  # why single tokens go through the plain pass, "" if they do not

    def warm_up(self) -> float:
        """Seconds until a few tokens and a prompt have gone through, kernels compiled."""
        start = time.perf_counter()
        for test in WARM_UP:
            self(test)
        return time.perf_counter() - start

    def __call__(self, test: SpeedTest) -> float:
        """Seconds of one turn."""
        cache = self._cache(test.depth)
        graph = self._graph(test.depth) if test.kind == "tg" else None
        ids = self._ids(test.n_tokens)
        if graph is not None:
            graph.start(int(ids[0]))
        self._machine.synchronize()
        start = time.perf_counter()
        if graph is not None:
            for _ in range(test.n_tokens):
                graph.launch()
        else:
            for first in range(0, test.n_tokens, test.at_once):
                self.model.forward(ids[first : first + test.at_once], cache, last_only=True)
        self._machine.synchronize()
        seconds = time.perf_counter() - start
        cache.truncate(test.depth)
        return seconds

    def families(self, test: SpeedTest) -> dict[str, float]:
        """Microseconds of a token by kernel of the decode graph, or by operation."""
        cache = self._cache(test.depth)
        graph = self._graph(test.depth) if test.kind == "tg" else None
        if graph is not None:
            graph.start(0)
            return dict(graph.phase_times())
        n_tokens = test.n_tokens if test.kind == "pp" else PROFILED_TOKENS
        stopwatch = self._machine.stopwatch()
        try:
            network, ids = self.model.network, self._ids(n_tokens)
            at_once = n_tokens if test.kind == "pp" else 1
            return operation_times(network, cache, ids, at_once, stopwatch)
        finally:
            cache.truncate(test.depth)

    def _ids(self, n_tokens: int) -> np.ndarray:
        return np.random.default_rng(n_tokens).integers(0, self.model.config.n_vocab, n_tokens)

    def _cache(self, depth: int) -> Any:
        """A cache of the model with `depth` tokens in it, and room for the tests behind them."""
        if depth not in self._caches:
            cache = self.model.new_cache(n_ctx=depth + self._room[depth])
            if depth:
                self.model.forward(self._ids(depth), cache, last_only=True)
            self._caches[depth] = cache
        return self._caches[depth]

    def _graph(self, depth: int) -> Any:
        """The decode graph behind `depth` tokens; None where there is none, which says why."""
        if self._make_graph is None or self.why_plain:
            return None
        if depth not in self._graphs:
            try:
                graph = self._make_graph(self.model.network, self._cache(depth))
            except NO_DECODE_GRAPH as error:
                self.why_plain = str(error)
                return None
            self._graphs[depth] = graph
        return self._graphs[depth]
