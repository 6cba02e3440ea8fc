"""How long a sampler chain takes for one token, stage by stage.

Source: our own. Leaves out: the model, and chains that run on a GPU.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..sampling import SamplerChain, SamplingParams
from ..sampling.candidates import candidates_from

__all__ = ["sampling_speed"]

SETTINGS: Mapping[str, SamplingParams] = MappingProxyType(
    {
        "defaults": SamplingParams(),
        "penalties and dry": SamplingParams(
            penalty_repeat=1.1,
            penalty_freq=0.1,
            penalty_present=0.1,
            dry_multiplier=0.8,
            dry_sequence_breakers=(),  # there is no vocabulary to look for them in
        ),
    }
)


def sampling_speed(
    n_vocab: int = 128_256,
    repeats: int = 20,
    settings: Mapping[str, SamplingParams] = SETTINGS,
) -> pd.DataFrame:
    """Time the stages of some chains on random logits, behind 400 tokens that repeat themselves.

    n_vocab: number of logits. repeats: turns, of which the fastest counts. settings: name ->
    SamplingParams of each chain.

    Returns: DataFrame: stage (in the order of the first chain; "one token in all" is last, with
    the draw), and for each settings' name a column of milliseconds, NaN where the chain lacks it.
    Raises: ParameterError for n_vocab or repeats below 1.
    """
    for name, value in (("n_vocab", n_vocab), ("repeats", repeats)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ParameterError(f"{name}: expected a whole number from 1 up, got {value!r}")
    rng = np.random.default_rng(0)
    logits = (2.5 * rng.standard_normal(n_vocab)).astype(np.float32)
    history = np.tile(rng.integers(0, n_vocab, 20), 20).tolist()
    columns = {
        f"{name} ms": pd.Series(_chain_ms(params, logits, history, repeats))
        for name, params in settings.items()
    }
    return pd.DataFrame(columns).rename_axis("stage").reset_index()


def _chain_ms(
    params: SamplingParams, logits: np.ndarray, history: Sequence[int], repeats: int
) -> dict[str, float]:
    """Name -> milliseconds of what a chain does for one token, in its order."""
    chain = SamplerChain(params)
    taken = {"check the logits": _ms(lambda: candidates_from(logits), repeats)}
    candidates = candidates_from(logits)
    for stage in chain.stages:
        before = candidates

        def work(stage=stage, before=before):
            return stage.apply(before, history)

        taken[stage.name] = _ms(work, repeats)
        candidates = work()
    taken["one token in all"] = _ms(lambda: chain.sample(logits, history), repeats)
    return taken


def _ms(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of some turns."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best
