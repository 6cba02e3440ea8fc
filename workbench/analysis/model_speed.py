"""How fast a model reads a prompt and writes tokens, beside llama.cpp on the same file.

    pp512   a prompt of 512 tokens, in tokens per second       bound by arithmetic
    tg128   128 tokens one after the other                     bound by memory: all weights

Everyone takes a turn in every round of one run, so that what else the machine does strikes all
alike. Tokens are arbitrary: speed does not depend on them. llama.cpp runs in a process of its own,
under any Python that has llama-cpp-python.

Source: llama.cpp tools/llama-bench (the tests and their names).
Left out: GPUs, sampling, and the time to load.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..errors import ParameterError, UnsupportedError
from ..model import Model, load_model
from ..ops.packed_linear import n_threads

__all__ = ["bytes_per_token", "copy_bandwidth", "model_speed"]

Turn = Callable[[int, int], float]  # tokens, tokens at once -> seconds
PEER = Path(__file__).with_name("llama_cpp_peer.py")
COPIED_BYTES = 1 << 28  # more than caches hold
PATIENCE = 600.0  # seconds that llama.cpp may take to load a model or for one turn


def model_speed(
    path: Any,
    n_prompt: int = 512,
    n_gen: int = 128,
    repeats: int = 3,
    precisions: Sequence[str] = ("exact",),
    peer_python: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Time a model on the CPU.

    path: of a GGUF file; n_prompt, n_gen: tokens, 0 leaves the test out; repeats: rounds after one
    of a few tokens that does not count; precisions: of `load_model`, each a row; peer_python: an
    interpreter with llama-cpp-python, whose llama.cpp then takes turns. Threads are numba's number
    (NUMBA_NUM_THREADS) for all.

    Returns: DataFrame: model, size_mb, mparams, backend, threads, test, tokens_per_s, std; and for
    tg mb_per_token, gb_per_s, share_of_copy (of the measured speed of copying memory).
    Raises: ParameterError, UnsupportedError if peer_python has no llama.cpp; as `load_model`.
    """
    for name, value, least in (
        ("n_prompt", n_prompt, 0),
        ("n_gen", n_gen, 0),
        ("repeats", repeats, 1),
    ):
        if not isinstance(value, int | np.integer) or value < least:
            raise ParameterError(
                f"{name}: no such number; expected {least} or more, got {value!r}; give another"
            )
    tests = [(f"pp{n_prompt}", n_prompt, n_prompt), (f"tg{n_gen}", n_gen, 1)]
    tests = [test for test in tests if test[1]]
    models = {name: load_model(path, "cpu", precision=name) for name in precisions}
    turns: dict[str, Turn] = {f"workbench {name}": _our_turn(m) for name, m in models.items()}
    peer = None
    try:
        if peer_python:
            peer = _start_peer(peer_python, path, n_prompt + n_gen)
            turns["llama.cpp"] = _peer_turn(peer)
        seconds = _rounds(turns, tests, repeats, progress)
        model = next(iter(models.values()))
        return _table(model, tests, seconds)
    finally:
        if peer:
            peer.communicate()
        for model in models.values():
            model.close()


def bytes_per_token(model: Model) -> int:
    """Bytes of weights that one token reads: all but unused rows and experts."""
    config, total = model.config, 0
    for name, info in model.gguf.tensors.items():
        if name == "token_embd.weight" and "output.weight" in model.gguf.tensors:
            total += info.nbytes // info.shape[0]
        elif "_exps" in name:
            total += info.nbytes * config.n_expert_used // config.n_expert
        else:
            total += info.nbytes
    return total


def copy_bandwidth(threads: int) -> float:
    """Bytes per second that threads move when they copy memory, each byte read and written."""
    sources = np.ones((threads, COPIED_BYTES // threads), np.uint8)
    targets = np.empty_like(sources)
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(4):
            start = time.perf_counter()
            list(pool.map(np.copyto, targets, sources))
            best = min(best, time.perf_counter() - start)
    return 2 * sources.nbytes / best


def _our_turn(model: Model) -> Turn:
    def turn(n_tokens: int, at_once: int) -> float:
        cache = model.new_cache(n_ctx=n_tokens)
        ids = np.arange(n_tokens) % model.config.n_vocab
        start = time.perf_counter()
        for i in range(0, n_tokens, at_once):
            model.forward(ids[i : i + at_once], cache, last_only=True)
        return time.perf_counter() - start

    return turn


def _start_peer(python: str, path: Any, n_ctx: int) -> subprocess.Popen:
    """llama.cpp in a process that answers each line with its seconds."""
    command = [python, str(PEER), str(path), str(n_threads()), str(n_ctx)]
    try:
        peer = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True)
        ready = _answer(peer)
    except OSError as error:
        ready, reason = "", str(error)
    else:
        reason = "it did not load the model with llama_cpp"
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
    def turn(n_tokens: int, at_once: int) -> float:
        peer.stdin.write(f"{n_tokens} {at_once}\n")
        peer.stdin.flush()
        answer = _answer(peer)
        if not answer:
            raise UnsupportedError(
                "peer: llama.cpp stopped in the middle; expected seconds, got nothing; leave it out"
            )
        return float(answer)

    return turn


def _rounds(turns: dict[str, Turn], tests: list, repeats: int, progress: bool) -> dict:
    """(backend, test) -> seconds of each round."""
    for turn in turns.values():
        turn(4, 1), turn(8, 8)
    seconds: dict[tuple[str, str], list[float]] = {}
    steps = [(test, name) for _ in range(repeats) for test in tests for name in turns]
    for (test, n_tokens, at_once), name in tqdm(steps, disable=not progress, file=sys.stderr):
        seconds.setdefault((name, test), []).append(turns[name](n_tokens, at_once))
    return seconds


def _table(model: Model, tests: list, seconds: dict) -> pd.DataFrame:
    tensors = model.gguf.tensors.values()
    moved, bandwidth = bytes_per_token(model), copy_bandwidth(n_threads())
    rows = []
    for (backend, test), taken in seconds.items():
        speeds = next(n for name, n, _ in tests if name == test) / np.array(taken)
        rate = float(np.mean(speeds))
        decodes = test.startswith("tg")
        rows.append(
            {
                "model": f"{model.config.architecture} {Path(model.gguf.path).stem}",
                "size_mb": sum(info.nbytes for info in tensors) / 1e6,
                "mparams": sum(int(np.prod(info.shape)) for info in tensors) / 1e6,
                "backend": backend,
                "threads": n_threads(),
                "test": test,
                "tokens_per_s": rate,
                "std": float(np.std(speeds)),
                "mb_per_token": moved / 1e6 if decodes else np.nan,
                "gb_per_s": moved * rate / 1e9 if decodes else np.nan,
                "share_of_copy": moved * rate / bandwidth if decodes else np.nan,
            }
        )
    return pd.DataFrame(rows).sort_values("test", kind="stable", ignore_index=True)
