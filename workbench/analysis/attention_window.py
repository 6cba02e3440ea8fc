"""What a smaller KV cache would lose: the attention that falls on positions it no longer holds.

    position   0 1 2 3 │ 4 5 6 7 8 │ 9 10 11      budget 7, at position 11
               sinks   │ gone      │ the last ones

Source: StreamingLLM (Xiao et al., https://arxiv.org/abs/2309.17453): the first few positions take
attention from everywhere, so they stay, and with them a window of the last.
Leaves out: what the loss does to the text; for that, the model has to run without the positions.
"""

import numpy as np

from ..errors import ParameterError
from ..model.kv_run import N_SINK
from .attention import AttentionMaps

__all__ = ["N_SINK", "attention_lost", "kept_positions"]


def kept_positions(n_seen: int, budget: int) -> np.ndarray:
    """Which of the positions that a token sees, itself the last, a cache of a budget still holds.

    n_seen: positions, at least 1. budget: positions that may stay, more than N_SINK.
    Returns: (n_seen,) bool. Raises: ParameterError.
    """
    if not isinstance(budget, int | np.integer) or budget <= N_SINK:
        raise ParameterError(
            f"budget: no room for the token itself behind the {N_SINK} sinks; expected at least "
            f"{N_SINK + 1} positions, got {budget!r}; keep more"
        )
    positions = np.arange(n_seen)
    return (positions < N_SINK) | (positions >= n_seen - (budget - N_SINK))


def attention_lost(maps: AttentionMaps, budget: int) -> float:
    """The share of all heads' attention that falls on positions gone by then, mean over tokens.

    maps: of a whole text, a row for each token. budget: as for `kept_positions`.
    Returns: 0 to 1. Raises: ParameterError, also for maps of the end of a text only.
    """
    n = len(maps.pieces)
    if any(probs.shape[1] != n for probs in maps.maps.values()):
        raise ParameterError(
            f"maps: only the end of the text looks; expected maps with {n} rows, one for each "
            "token, got fewer; trace a text from its start"
        )
    gone = np.zeros((n, n), np.float32)
    for step in range(n):
        gone[step, : step + 1] = ~kept_positions(step + 1, budget)
    # (H, T·S) @ (T·S,): a slider waits for it
    by_head = [probs.reshape(len(probs), -1) @ gone.ravel() for probs in maps.maps.values()]
    lost = sum(float(shares.sum(dtype=np.float64)) for shares in by_head)
    return lost / (n * sum(len(probs) for probs in maps.maps.values()))
