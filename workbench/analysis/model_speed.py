"""How fast a model reads a prompt and writes tokens, beside llama.cpp on the same file.

    pp512            a prompt of 512 tokens, in tokens per second       bound by arithmetic
    tg128            128 tokens one after the other                     bound by memory: all weights
    tg128 @ d4096    the same behind 4096 tokens                        and by keys and values

Everyone takes a turn in every round of one run, so that what else the machine does strikes all
alike; how fast its memory copies is measured in the same run. Tokens are random: speed does not
depend on them. llama.cpp runs in a process of its own, under any Python that has llama-cpp-python.

Source: llama.cpp tools/llama-bench (the tests and their names).
Left out: sampling.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pandas as pd
from tqdm import tqdm

from ..errors import UnsupportedError
from ..model import Model, load_model
from ..ops.packed_linear import n_threads
from .machine import Machine, machine_of
from .speed_run import (
    SpeedResult,
    SpeedRun,
    SpeedTest,
    demand_count,
    mean_and_deviation,
    speed_tests,
)
from .token_budget import WEIGHT_FAMILIES, budget_by_family, token_budget
from .turns import WARM_UP, OurTurns

__all__ = ["bytes_per_token", "model_speed", "speed_run"]

Turn = Callable[[SpeedTest], float]  # -> seconds
PEER = Path(__file__).with_name("llama_cpp_peer.py")
PATIENCE = 600.0  # seconds that llama.cpp may take to load a model or for one turn
ALL_LAYERS = 999  # llama.cpp's way to say: all of them on the GPU


def model_speed(
    path: Any,
    n_prompt: int | Sequence[int] = 512,
    n_gen: int | Sequence[int] = 128,
    repeats: int = 3,
    precisions: Sequence[str] | None = ("exact",),
    peer_python: str | None = None,
    progress: bool = True,
    device: str = "cpu",
    depths: Sequence[int] = (0,),
) -> pd.DataFrame:
    """Time a model; the table of `speed_run`, which has the same arguments.

    Returns: DataFrame: model, size_mb, mparams, backend, threads, test, tokens_per_s, std; and for
    tg mb_per_token, gb_per_s, share_of_copy (of the measured speed of copying memory).
    Raises: as `speed_run`.
    """
    return speed_run(
        path, n_prompt, n_gen, repeats, precisions, peer_python, progress, device, depths
    ).to_frame()


def speed_run(
    path: Any,
    n_prompt: int | Sequence[int] = 512,
    n_gen: int | Sequence[int] = 128,
    repeats: int = 3,
    precisions: Sequence[str] | None = None,
    peer_python: str | None = None,
    progress: bool = True,
    device: str = "auto",
    depths: Sequence[int] = (0,),
) -> SpeedRun:
    """Time a model, with the ceilings of its machine and the bytes behind each token.

    path: of a GGUF file; n_prompt, n_gen: tokens, one number or several, 0 for no such test;
    repeats: rounds after a warm-up (a few tokens; on a GPU all prompts once); precisions: of
    `load_model`, each a row, by default "fast", on the CPU both; peer_python: an interpreter with
    llama-cpp-python, whose llama.cpp then takes turns; device: of `load_model`; depths: tokens
    before each test.
    Threads are numba's number (NUMBA_NUM_THREADS) for all.

    Raises: ParameterError, UnsupportedError if peer_python has no llama.cpp; as `load_model`.
    """
    demand_count("repeats", repeats, 1)
    speed_tests(n_prompt, n_gen, depths)
    with ExitStack() as opened:
        models, load = _load(opened, path, device, precisions)
        model = next(iter(models.values()))
        opened.enter_context(model.network.here())
        machine = machine_of(model.device)
        tests = speed_tests(n_prompt, n_gen, depths, model.config.n_ctx_train)
        turns: dict[str, Turn] = {}
        for precision, own in models.items():
            ours = OurTurns(own, machine, tests, _graph_maker(own.device))
            load[precision] |= _warm_up(ours, machine)
            turns[f"workbench {precision}" + (", plain pass" if ours.why_plain else "")] = ours
        if peer_python:
            n_ctx = max(test.depth + test.n_tokens for test in (*WARM_UP, *tests))
            peer = _start_peer(peer_python, path, n_ctx, model.device)
            opened.callback(peer.communicate)
            turns["llama.cpp"] = _peer_turn(peer)
            for test in WARM_UP:
                turns["llama.cpp"](test)
        if model.device != "cpu":  # as llama-bench; on a CPU it would take as long as a round
            _rounds(turns, [test for test in tests if test.kind == "pp"], 1, progress)
        seconds = _rounds(turns, tests, repeats, progress)
        ceilings = machine.ceilings()
        results = _results(model, turns, tests, seconds, ceilings["copy"] * 1e9)
        return _run(model, machine, ceilings, load, results)


def bytes_per_token(model: Model) -> int:
    """Bytes of weights that one token reads: all but unused rows and experts."""
    sums = budget_by_family(token_budget(model.config, model.gguf.tensors))
    return int(sums.nbytes[sums.family.isin(WEIGHT_FAMILIES)].sum())


def _load(
    opened: ExitStack, path: Any, device: str, precisions: Sequence[str] | None
) -> tuple[dict[str, Model], dict[str, dict[str, Any]]]:
    """Models by precision, which `opened` closes, and how long each took to load."""
    models, load = {}, {}

    def add(precision: str) -> Model:
        start = time.perf_counter()
        model = opened.enter_context(load_model(path, device, precision=precision))
        with model.network.here():
            machine_of(model.device).synchronize()
        seconds = time.perf_counter() - start
        models[precision], load[precision] = model, {"seconds": seconds}
        if model.device != "cpu":
            load[precision]["gb_per_s"] = _size(model) / seconds / 1e9
        return model

    for precision in precisions or ["fast"]:
        add(precision)
    if precisions is None and models["fast"].device == "cpu":
        add("exact")
        models = {name: models[name] for name in ("exact", "fast")}
    return models, load


def _graph_maker(device: str) -> Callable[[Any, Any], Any] | None:
    """What makes a decode graph on a device, None where there is none."""
    if not device.startswith("cuda"):
        return None
    from ..model.decode_graph import DecodeGraph  # imports cupy, which only a GPU needs

    return DecodeGraph


def _warm_up(ours: OurTurns, machine: Machine) -> dict[str, Any]:
    """Seconds of the first tokens, and how many kernels had to be compiled for them."""
    known = machine.cached_kernels()
    seconds = ours.warm_up()
    return {"first_tokens_s": seconds, "compiled": len(machine.cached_kernels() - known)}


def _start_peer(python: str, path: Any, n_ctx: int, device: str) -> subprocess.Popen:
    """llama.cpp in a process that answers each line with its seconds."""
    gpu_layers = ALL_LAYERS if device.startswith("cuda") else 0
    command = [python, str(PEER), *map(str, (path, n_threads(), n_ctx, gpu_layers))]
    try:
        peer = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True)
        ready = _answer(peer)
    except OSError as error:
        ready, reason = "", str(error)
    else:
        reason = "it did not load the model with llama_cpp" + (" on a GPU" if gpu_layers else "")
    if ready != "ready\n":
        raise UnsupportedError(
            f"peer: llama.cpp does not run under {python}; expected a Python with llama-cpp-python "
            f"that reads this model, got: {reason}; install it there or leave the peer out"
        )
    return peer


def _answer(peer: subprocess.Popen) -> str:
    """The peer's next line, "" if it has ended.

    Raises: UnsupportedError, and ends the peer, if it has none for `PATIENCE`.
    """
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        peer.kill()

    timer = threading.Timer(PATIENCE, give_up)
    timer.start()
    try:
        line = peer.stdout.readline()
    finally:
        timer.cancel()
    if is_late.is_set():
        raise UnsupportedError(
            f"peer: llama.cpp did not answer; expected an answer within {PATIENCE:g} seconds, got "
            "none; ask for fewer tokens or leave the peer out"
        )
    return line


def _peer_turn(peer: subprocess.Popen) -> Turn:
    def turn(test: SpeedTest) -> float:
        peer.stdin.write(f"{test.n_tokens} {test.at_once} {test.depth}\n")
        peer.stdin.flush()
        answer = _answer(peer)
        if not answer:
            raise UnsupportedError(
                "peer: llama.cpp stopped in the middle; expected seconds, got nothing; leave it out"
            )
        return float(answer)

    return turn


def _rounds(
    turns: dict[str, Turn], tests: Sequence[SpeedTest], repeats: int, progress: bool
) -> dict[tuple[str, SpeedTest], list[float]]:
    """(backend, test) -> seconds of each round."""
    seconds: dict[tuple[str, SpeedTest], list[float]] = {}
    steps = [(test, name) for _ in range(repeats) for test in tests for name in turns]
    for test, name in tqdm(steps, disable=not progress, file=sys.stderr):
        seconds.setdefault((name, test), []).append(turns[name](test))
    return seconds


def _results(
    model: Model,
    turns: dict[str, Turn],
    tests: Sequence[SpeedTest],
    seconds: dict[tuple[str, SpeedTest], list[float]],
    bandwidth: float,
) -> tuple[SpeedResult, ...]:
    """Speeds test by test, prompts first; bandwidth in bytes per second."""
    results = []
    for test in sorted(tests, key=lambda test: (test.kind, test.depth)):
        for backend, turn in turns.items():
            rate, std = mean_and_deviation(test, seconds[backend, test])
            memory, families = {}, {}
            if test.kind == "tg":
                memory = _memory(model, test, rate, bandwidth)
            if isinstance(turn, OurTurns) and (test.kind == "tg" or model.device != "cpu"):
                families = turn.families(test)
            results.append(
                SpeedResult(
                    backend,
                    test.name,
                    test.n_tokens,
                    test.depth,
                    rate,
                    std,
                    **memory,
                    families=families,
                )
            )
    return tuple(results)


def _memory(model: Model, test: SpeedTest, rate: float, bandwidth: float) -> dict[str, Any]:
    """What the token half way through a test moves, and how near that is to copying."""
    n_past = test.depth + test.n_tokens // 2
    budget = token_budget(model.config, model.gguf.tensors, n_past)
    by_family = budget_by_family(budget).set_index("family").nbytes
    by_family = by_family.drop("activations")  # those stay in caches
    moved = int(by_family.sum())
    return {
        "bytes_per_token": moved,
        "floor_us": moved / bandwidth * 1e6,
        "gb_per_s": moved * rate / 1e9,
        "share_of_copy": moved * rate / bandwidth,
        "family_bytes": {family: int(nbytes) for family, nbytes in by_family.items()},
    }


def _run(
    model: Model,
    machine: Machine,
    ceilings: dict[str, float],
    load: dict[str, dict[str, Any]],
    results: tuple[SpeedResult, ...],
) -> SpeedRun:
    return SpeedRun(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        workbench=_version(),
        device=machine.device,
        threads=n_threads(),
        machine=machine.facts,
        ceilings=ceilings,
        model={
            "name": f"{model.config.architecture} {Path(model.gguf.path).stem}",
            "size_bytes": _size(model),
            "n_params": sum(prod(info.shape) for info in model.gguf.tensors.values()),
        },
        load=load,
        results=results,
    )


def _size(model: Model) -> int:
    return sum(info.nbytes for info in model.gguf.tensors.values())


def _version() -> str:
    try:
        return version("gguf-research-workbench")
    except PackageNotFoundError:  # used from its sources, not installed
        return "sources"
