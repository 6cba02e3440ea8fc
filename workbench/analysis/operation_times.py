"""Which operation of the plain pass takes how long: its functions called through a stopwatch.

    ops.linear(x, w)  ─►  stopwatch.time("linear", …)  ─►  ops.linear(x, w)

The sum is less than the pass: what Python does between operations belongs to none. On a GPU that
waits for Python, an operation's time is that of its launches.
Source: our own. Left out: the decode graph, which leaves its own clock stamps.
"""

from dataclasses import replace
from types import FunctionType
from typing import Any

import numpy as np

from ..model.transformer import Network, forward

__all__ = ["operation_times"]


class _Timed:
    """Operations of a device that go past a stopwatch."""

    def __init__(self, ops: Any, stopwatch: Any):
        self._ops, self._stopwatch = ops, stopwatch

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._ops, name)
        if name == "on_device" or not isinstance(value, FunctionType):
            return value
        return lambda *args, **named: self._stopwatch.time(name, lambda: value(*args, **named))


def operation_times(
    network: Network, cache: Any, token_ids: Any, at_once: int, stopwatch: Any
) -> dict[str, float]:
    """Microseconds of a token by operation, largest first.

    token_ids: (T,) sent through the plain pass, at_once in a call, which the cache then holds;
    stopwatch: of the device (`Machine.stopwatch`).
    """
    timed, ids = replace(network, ops=_Timed(network.ops, stopwatch)), np.asarray(token_ids)
    for start in range(0, len(ids), at_once):
        forward(timed, ids[start : start + at_once], cache, last_only=True)
    totals = stopwatch.totals()
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    return {name: seconds / len(ids) * 1e6 for name, seconds in ordered}
