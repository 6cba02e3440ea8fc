"""What a measurement of a model's speed is: its tests, and the run with all that belongs to it.

    pp512            a prompt of 512 tokens into an empty cache
    tg128            128 tokens one after the other
    tg128 @ d4096    the same behind 4096 tokens that do not count

A run keeps its machine, the ceilings measured in the same minute and the model beside the speeds,
and turns into one line of JSON and back; `data/h200_speed.json` is a list of such runs.
Source: llama.cpp tools/llama-bench (tests, their names and columns).
Left out: the measuring (`model_speed.py`).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ParameterError

__all__ = ["SpeedResult", "SpeedRun", "SpeedTest", "speed_tests"]


@dataclass(frozen=True)
class SpeedTest:
    """n_tokens behind depth others: "pp" in one call, "tg" one by one."""

    kind: str
    n_tokens: int
    depth: int = 0

    @property
    def at_once(self) -> int:
        """Tokens of one call."""
        return self.n_tokens if self.kind == "pp" else 1

    @property
    def name(self) -> str:
        """llama-bench's name for it."""
        return f"{self.kind}{self.n_tokens}" + (f" @ d{self.depth}" if self.depth else "")


@dataclass(frozen=True)
class SpeedResult:
    """How fast one backend was in one test; std over the rounds, None of a single one.

    bytes_per_token (read and written, half way through the test), floor_us (that at the measured
    copy bandwidth), gb_per_s and share_of_copy are None for prompts; family_bytes: those bytes by
    family; families: microseconds of a token by kernel or operation, {} where nobody measured them.
    """

    backend: str
    test: str
    n_tokens: int
    depth: int
    tokens_per_s: float
    std: float | None = None
    bytes_per_token: int | None = None
    floor_us: float | None = None
    gb_per_s: float | None = None
    share_of_copy: float | None = None
    family_bytes: Mapping[str, int] = field(default_factory=dict)
    families: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SpeedRun:
    """All that one measurement of a model found.

    machine: name, driver and so on; ceilings: what was measured of the memory, GB/s; model: name,
    size_bytes, n_params; load: seconds and GB/s of loading by precision; results: one a test and
    backend.
    """

    date: str
    workbench: str
    device: str
    threads: int
    machine: Mapping[str, Any]
    ceilings: Mapping[str, float]
    model: Mapping[str, Any]
    load: Mapping[str, Mapping[str, Any]]
    results: tuple[SpeedResult, ...]

    def to_frame(self) -> pd.DataFrame:
        """A row for each result: model, size_mb, mparams, backend, threads, test, tokens_per_s, std
        and, of single tokens, mb_per_token, gb_per_s, share_of_copy."""
        rows = [
            {
                "model": self.model["name"],
                "size_mb": self.model["size_bytes"] / 1e6,
                "mparams": self.model["n_params"] / 1e6,
                "backend": result.backend,
                "threads": self.threads,
                "test": result.test,
                "tokens_per_s": result.tokens_per_s,
                "std": _or_nan(result.std),
                "mb_per_token": _or_nan(result.bytes_per_token) / 1e6,
                "gb_per_s": _or_nan(result.gb_per_s),
                "share_of_copy": _or_nan(result.share_of_copy),
            }
            for result in self.results
        ]
        return pd.DataFrame(rows)

    def family_times(self) -> pd.DataFrame:
        """Microseconds of a token by kernel or operation; a column a test of single tokens."""
        timed = [result for result in self.results if result.families and result.floor_us]
        names = dict.fromkeys(name for result in timed for name in result.families)
        columns = {_label(r): pd.Series(dict(r.families), dtype=float) for r in timed}
        return pd.DataFrame(columns).reindex(list(names))

    def floors(self) -> dict[str, float]:
        """Microseconds that the bytes of a token take at the copy bandwidth, by those columns."""
        return {_label(r): r.floor_us for r in self.results if r.families and r.floor_us}

    def to_json(self) -> str:
        """The run as one line of JSON."""
        return json.dumps(asdict(self), default=_plain, allow_nan=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SpeedRun":
        """A run from what its JSON says. Raises: ParameterError if that is no run."""
        try:
            results = tuple(SpeedResult(**result) for result in values["results"])
            return cls(**{**values, "results": results})
        except (TypeError, KeyError) as error:
            raise ParameterError(
                f"speed run: not one that `workbench bench --json` wrote; expected its fields, "
                f"got a difference: {error}; measure again with this version"
            ) from None


def speed_tests(
    n_prompt: int | Sequence[int],
    n_gen: int | Sequence[int],
    depths: Sequence[int] = (0,),
    n_ctx_train: int | None = None,
) -> tuple[SpeedTest, ...]:
    """The tests of a run: prompts and single tokens, at each depth; 0 tokens leave a test out.

    n_prompt, n_gen: tokens, one number or several; n_ctx_train: of the model; a depth must leave
    room in it for each test.
    Raises: ParameterError for negative numbers, a depth with no room, or no test at all.
    """
    prompts, gens = (_numbers("n_prompt", n_prompt), _numbers("n_gen", n_gen))
    for depth in _numbers("depth", depths):
        _demand_room(depth, max([*prompts, *gens], default=0), n_ctx_train)
    kinds = [("pp", n) for n in prompts] + [("tg", n) for n in gens]
    tests = [SpeedTest(kind, n, int(depth)) for depth in depths for kind, n in kinds if n]
    if not tests:
        raise ParameterError(
            f"tests: there is nothing to measure; expected n_prompt or n_gen above 0 and a depth, "
            f"got {n_prompt}, {n_gen} and {list(depths)}; give one of them"
        )
    return tuple(dict.fromkeys(tests))


def _numbers(name: str, values: Any) -> list[int]:
    """One count or several as a list. Raises: ParameterError."""
    values = values if isinstance(values, list | tuple) else [values]
    for value in values:
        demand_count(name, value, 0)
    return [int(value) for value in values]


def _demand_room(depth: int, n_tokens: int, n_ctx_train: int | None) -> None:
    if depth and n_ctx_train is not None and depth + n_tokens > n_ctx_train:
        raise ParameterError(
            f"depth: the test would leave the context; expected depth and tokens up to the "
            f"{n_ctx_train} positions the model was trained for, got {depth} + {n_tokens}; choose "
            "a smaller depth"
        )


def demand_count(name: str, value: Any, least: int) -> None:
    """Raises: ParameterError unless value is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ParameterError(
            f"{name}: no such number; expected {least} or more, got {value!r}; give another"
        )


def mean_and_deviation(test: SpeedTest, seconds: Iterable[float]) -> tuple[float, float]:
    """Tokens per second over the rounds: their mean and standard deviation."""
    speeds = test.n_tokens / np.array(list(seconds))
    return float(np.mean(speeds)), float(np.std(speeds))


def _label(result: SpeedResult) -> str:
    return f"{result.backend}, {result.test}"


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which JSON knows."""
    return value.item() if isinstance(value, np.generic) else str(value)
