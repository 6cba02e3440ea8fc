"""Recorded speeds: what one machine reached, beside llama.cpp and beside its ceilings.

`data/h200_speed.json` holds the runs of `workbench bench --json` on an H200, llama.cpp's speeds on
the same machine and files of the same shape, and what the machine can do at most. The tables
here are made from it; nothing in them is typed by hand.
Source: the record itself says where each figure comes from.
Left out: measuring.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ParameterError
from ..resources import builtin_model_path
from .speed_run import SpeedResult, SpeedRun

__all__ = ["SpeedRecord", "read_speed_record"]

RECORD = "h200_speed.json"
PHASES = 5  # of a layer: queries, keys and values; attention; its output; gate and up; down


@dataclass(frozen=True)
class SpeedRecord:
    """Speeds of one machine.

    gpu: its name; ceilings: copy_gb_per_s, f16_matmul_tflops, and microseconds of a launch; models:
    name -> n_layer, size_bytes, layer_params, head_params, launches, and family_bytes of a token by
    test; peer: model -> test -> tokens per second, peer_name and peer_source say of whom; runs: our
    own.
    """

    gpu: str
    ceilings: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    peer_name: str
    peer_source: str
    peer: Mapping[str, Mapping[str, float]]
    runs: tuple[SpeedRun, ...]

    def run_of(self, model: str, test: str) -> tuple[SpeedRun, SpeedResult] | None:
        """Our latest run of a model with a test in it, and its fastest result; None without one."""
        for run in reversed(self.runs):
            found = [result for result in run.results if result.test == test]
            if found and run.model["name"].split()[-1] == model:
                return run, max(found, key=lambda result: result.tokens_per_s)
        return None

    def compare(self, test: str) -> pd.DataFrame:
        """One test of all models: model, ours and peer (tokens per second), ratio = ours / peer,
        floor (tokens per second that the bytes of a token allow at the copy bandwidth; NaN for
        prompts), share = ours / floor and peer_share. What was not measured is NaN."""
        floors, rows = self.floors(test), []
        for model in self.models:
            found = self.run_of(model, test)
            ours = found[1].tokens_per_s if found else math.nan
            peer = self.peer[model].get(test, math.nan)
            floor = 1e6 / floors.get(model, math.nan)
            rows.append((model, ours, peer, ours / peer, floor, ours / floor, peer / floor))
        columns = ["model", "ours", "peer", "ratio", "floor", "share", "peer_share"]
        return pd.DataFrame(rows, columns=columns)

    def floors(self, test: str) -> dict[str, float]:
        """Microseconds that the bytes of a token take, by model: at the copy bandwidth of our run,
        else at the recorded one; {} for prompts."""
        floors = {}
        for model in self.models:
            found = self.run_of(model, test)
            if found and found[1].floor_us:
                floors[model] = found[1].floor_us
            elif nbytes := self._token_nbytes(model, test):
                floors[model] = nbytes / self.ceilings["copy_gb_per_s"] / 1e3
        return floors

    def family_floors(self, test: str) -> pd.DataFrame:
        """Microseconds that the bytes of each family take at the recorded copy bandwidth, a column
        for each model."""
        columns = {
            model: pd.Series(facts["family_bytes"][test]) / self.ceilings["copy_gb_per_s"] / 1e3
            for model, facts in self.models.items()
            if test in facts["family_bytes"]
        }
        return pd.DataFrame(columns)

    def _token_nbytes(self, model: str, test: str) -> int:
        return sum(self.models[model]["family_bytes"].get(test, {}).values())

    def rooflines(self, tests: Sequence[str]) -> pd.DataFrame:
        """Where each of our results and the peer's lies under the machine's roof.

        Returns: DataFrame: who, model, test, flop_per_byte (of memory, weights read once a call)
        and tflops (two for each weight multiplied; of a prompt the head counts once).
        """
        rows = []
        for model, test in product(self.models, tests):
            flop, nbytes = self._work(model, test)
            found = self.run_of(model, test)
            speeds = {
                "workbench": found[1].tokens_per_s if found else math.nan,
                self.peer_name: self.peer[model].get(test, math.nan),
            }
            for who, speed in speeds.items():
                rows.append((who, model, test, flop / nbytes, flop * speed / 1e12))
        frame = pd.DataFrame(rows, columns=["who", "model", "test", "flop_per_byte", "tflops"])
        return frame.dropna(ignore_index=True)

    def _work(self, model: str, test: str) -> tuple[float, float]:
        """Operations of one token, and bytes of memory that it costs."""
        facts = self.models[model]
        n_tokens = 1 if test.startswith("tg") else int(test.split()[0][2:])
        flop = 2.0 * (facts["layer_params"] + facts["head_params"] / n_tokens)
        return flop, self._token_nbytes(model, test) or facts["size_bytes"] / n_tokens

    def ways(self, launches: int, n_layer: int, floor_us: float) -> pd.DataFrame:
        """What gaps between kernels add to a token on this machine, by the way it is run.

        launches: kernels of a token, one an operation; n_layer: of the model; floor_us: its bytes
        over the copy bandwidth. Returns: DataFrame: way, n (launches or barriers), floor_us, gap_us
        (their overhead, if nothing hides it) and tokens_per_s, the most that leaves.
        """
        barriers = PHASES * n_layer + 1
        ways = (
            ("a launch an operation, from Python", launches, self.ceilings["launch_us"]),
            ("the same in a CUDA graph", launches, self.ceilings["graph_node_us"]),
            ("one kernel, barriers between phases", barriers, self.ceilings["grid_barrier_us"]),
        )
        rows = [(way, n, floor_us, n * cost, 1e6 / (floor_us + n * cost)) for way, n, cost in ways]
        return pd.DataFrame(rows, columns=["way", "n", "floor_us", "gap_us", "tokens_per_s"])

    def to_markdown(self, tests: Sequence[str]) -> str:
        """A table for a text: for each model and test ours, the peer's, the ratio; and for single
        tokens the share of the floor."""
        head = ["model"]
        for test in tests:
            head += [test, self.peer_name, "ratio"] + ["of the floor"] * test.startswith("tg")
        lines = [head, ["---"] * len(head)]
        tables = {test: self.compare(test).set_index("model") for test in tests}
        for model in self.models:
            line = [model]
            for test, table in tables.items():
                row = table.loc[model]
                line += [_rate(row.ours), _rate(row.peer), _with_unit(row.ratio, "{:.2f}")]
                line += [_with_unit(row.share, "{:.0%}")] * test.startswith("tg")
            lines.append(line)
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read_speed_record(path: str | Path | None = None) -> SpeedRecord:
    """The record in a file, by default that of an H200 that comes with the package.

    Raises: ParameterError if it is no record.
    """
    path = Path(path) if path else builtin_model_path().with_name(RECORD)
    try:
        values = json.loads(path.read_text("utf-8"))
        peer = values["peer"]
        return SpeedRecord(
            values["gpu"],
            values["ceilings"],
            values["models"],
            peer["name"],
            peer["source"],
            peer["tokens_per_s"],
            tuple(SpeedRun.from_dict(run) for run in values["runs"]),
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{path}: no record of speeds; expected gpu, ceilings, peer and runs as in {RECORD}, "
            f"got a difference: {error!r}; take the file as it came"
        ) from None


def _rate(value: float) -> str:
    return _with_unit(value, "{:,.0f}" if value >= 1000 else "{:.1f}")


def _with_unit(value: float, form: str) -> str:
    """A number as text, empty where it is missing."""
    return "" if math.isnan(value) else form.format(value)
