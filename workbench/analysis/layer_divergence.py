"""How far two models drift apart on the same text, layer by layer: a file and its quantized copy.

    NMSE = mean((x - y)²) / mean(x²)         1 - cosine of x and y, token by token

Source: our own; NMSE as in llama.cpp's tests.
Left out: where it comes from, which `patching.py` finds, and what it does to perplexity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import to_numpy
from .divergence import nmse

__all__ = ["LayerDivergence", "layer_divergence"]


@dataclass(frozen=True, eq=False)
class LayerDivergence:
    """Distance of two models' activations of the same name.

    names: (n,) in the order of the graph. nmse: (n,), of all numbers of all tokens. cosine: (n,),
    mean over tokens. worst_cosine: (n,), of the token that is worst.
    """

    names: tuple[str, ...]
    nmse: np.ndarray
    cosine: np.ndarray
    worst_cosine: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row an activation."""
        columns = {"name": self.names, "nmse": self.nmse, "cosine": self.cosine}
        return pd.DataFrame(columns | {"worst_cosine": self.worst_cosine})


def layer_divergence(
    base: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> LayerDivergence:
    """Compare all activations that two traces have in common.

    base, other: traces of two models on the same tokens. Returns: LayerDivergence.
    Raises: ParameterError if they share none, or one has another shape in the other trace.
    """
    names = tuple(name for name in base if name in other)
    if not names:
        raise ParameterError(
            f"activations: the traces share no name; expected the same patterns, got "
            f"{', '.join(base)[:60]} and {', '.join(other)[:60]}"
        )
    rows = [_distance(name, to_numpy(base[name]), to_numpy(other[name])) for name in names]
    return LayerDivergence(names, *(np.array(column) for column in zip(*rows, strict=True)))


def _distance(name: str, base: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """NMSE, mean and smallest cosine of two arrays whose first axis are tokens."""
    if base.shape != other.shape:
        raise ParameterError(
            f"activations: {name} differs in shape; expected that of the base {base.shape}, got "
            f"{other.shape}; trace the same tokens in both models"
        )
    x, y = (a.reshape(len(a), -1).astype(np.float64) for a in (base, other))
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosine = (x * y).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return nmse(x, y), float(cosine.mean()), float(cosine.min())
