"""How far two sets of logits are apart: NMSE, KL divergence, agreement on the best token.

    NMSE = mean((x - y)²) / mean(x²)       KL(base, other) = sum p (log p - log q), in nats

Source: llama.cpp tools/perplexity/perplexity.cpp (`kl_divergence`); NMSE as in its tests.
Left out: whole texts, which `perplexity.py` goes through, and hidden activations
(`layer_divergence.py`).
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import to_numpy

__all__ = ["LogitDivergence", "compare_logits", "kl_by_position", "log_softmax", "nmse"]

NUMBERS_PER_TILE = 1 << 21  # float64 numbers that are held at once: 16 MiB


@dataclass(frozen=True)
class LogitDivergence:
    """Two models' logits on the same tokens.

    n_tokens: positions compared. max_abs: the largest difference. nmse: of all logits.
    kl_mean, kl_max: nats. top1: share of positions at which the same token is best.
    """

    n_tokens: int
    max_abs: float
    nmse: float
    kl_mean: float
    kl_max: float
    top1: float

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        return pd.DataFrame([asdict(self)])


def compare_logits(base: np.ndarray, other: np.ndarray) -> LogitDivergence:
    """Compare logits position by position.

    base, other: (T, n_vocab). Returns: LogitDivergence. Raises: ParameterError for other shapes.
    """
    base, other = _checked(base), _checked(other)
    if base.shape != other.shape:
        raise ParameterError(
            f"logits: cannot be compared; expected the shape of the base {base.shape}, got "
            f"{other.shape}; run both models on the same tokens"
        )
    kl = kl_by_position(base, other)
    return LogitDivergence(
        n_tokens=len(base),
        max_abs=float(np.abs(base - other).max()),
        nmse=nmse(base, other),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        top1=float(np.mean(base.argmax(axis=1) == other.argmax(axis=1))),
    )


def nmse(base: np.ndarray, other: np.ndarray) -> float:
    """Mean squared difference of two arrays of one shape, as a share of the base's mean square.

    NaN if the base is all zeros.
    """
    x, y = (np.asarray(a, np.float64).ravel() for a in (base, other))
    power = float(np.dot(x, x))
    return float(np.dot(x - y, x - y)) / power if power else float("nan")


def kl_by_position(base: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL divergence of other from base at each position: (T,) float64 nats, at least 0.

    base, other: (T, n_vocab) logits.
    """
    base, other = to_numpy(base), to_numpy(other)
    kl = np.empty(len(base))
    step = max(1, NUMBERS_PER_TILE // base.shape[1])
    for start in range(0, len(base), step):
        rows = slice(start, start + step)
        p, q = log_softmax(base[rows]), log_softmax(other[rows])
        kl[rows] = (np.exp(p) * (p - q)).sum(axis=1)
    return np.maximum(kl, 0)  # rounding can make it slightly negative


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural logs of the probabilities along the last axis: (..., n_vocab) float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _checked(logits: np.ndarray) -> np.ndarray:
    logits = to_numpy(logits)
    if logits.ndim != 2 or logits.dtype.kind != "f" or not logits.size:
        raise ParameterError(
            f"logits: not logits of tokens; expected (T, n_vocab) numbers, got an array of shape "
            f"{logits.shape} and type {logits.dtype}"
        )
    return logits
