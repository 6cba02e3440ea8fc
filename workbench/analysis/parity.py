"""Does our forward pass give llama.cpp's numbers? A model against logits recorded from llama.cpp.

Source: our own; recordings as in the project's reference data: arrays `tokens`, `logits`,
`greedy_tokens`, and for quantized files the same with `_dequant` at the end, made with all weights
expanded to float32 first (as ours are, while llama.cpp otherwise quantizes activations too).
Left out: making recordings.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import Model, to_numpy
from .divergence import LogitDivergence, compare_logits

__all__ = ["Parity", "parity", "parity_table"]

# Of the context that the recordings were made with: it decides between a model's long and short
# factors of rope.
RECORDED_N_CTX = 512


@dataclass(frozen=True)
class Parity:
    """A model beside one recording.

    recording: name of the array. logits: how far they are apart. n_greedy: tokens of the recorded
    continuation, 0 where there is none; n_greedy_same: how many ours begins with alike.
    """

    recording: str
    logits: LogitDivergence
    n_greedy: int
    n_greedy_same: int


def parity(model: Model, golden: Mapping[str, np.ndarray]) -> list[Parity]:
    """Compare a model with recorded logits and greedy continuations.

    golden: an open .npz or a mapping of arrays: `tokens` (T,); `logits` (T, n_vocab), or at
    `positions` only; `greedy_tokens`; and those with `_dequant`.
    Returns: a Parity for each array of logits, `_dequant` (which is to agree) first.
    Raises: ParameterError for a recording without tokens or logits, or of another model.
    """
    names = [name for name in ("logits_dequant", "logits") if name in golden]
    if "tokens" not in golden or not names:
        raise ParameterError(
            f"golden: no recording; expected arrays tokens and logits, got "
            f"{', '.join(golden)[:80] or 'none'}"
        )
    tokens = np.asarray(golden["tokens"])
    greedy = {name: golden.get(name.replace("logits", "greedy_tokens"), ()) for name in names}
    n_ctx = max(RECORDED_N_CTX, len(tokens) + max(map(len, greedy.values()), default=0))
    caches = [model.new_cache(n_ctx, "f32", "f32") for _ in names]
    ours = [to_numpy(model.forward(tokens, cache)) for cache in caches]
    at = np.asarray(golden["positions"]) if "positions" in golden else slice(None)
    return [
        Parity(
            name,
            compare_logits(np.asarray(golden[name]), logits[at]),
            len(greedy[name]),
            _n_same(model, cache, logits[-1], greedy[name]),
        )
        for name, logits, cache in zip(names, ours, caches, strict=True)
    ]


def parity_table(results: list[Parity]) -> pd.DataFrame:
    """One row a recording."""
    rows = [
        {"recording": r.recording, **asdict(r.logits), "greedy": f"{r.n_greedy_same}/{r.n_greedy}"}
        for r in results
    ]
    return pd.DataFrame(rows)


def _n_same(model: Model, cache, row: np.ndarray, greedy: np.ndarray) -> int:
    """How many tokens of a continuation our own begins with."""
    for n_same, token in enumerate(greedy):
        if int(row.argmax()) != int(token):
            return n_same
        row = to_numpy(model.forward([int(token)], cache))[0]
    return len(greedy)
