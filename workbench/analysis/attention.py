"""Where each attention head looks: its map, and in numbers how it divides its attention.

    probs[h, i, j]   share of head h's attention that the token at position i gives to position j

Source: our own; the maps are llama.cpp's `kq_soft_max`.
Left out: what the looks bring about, which `attribution.py` and `ablation.py` measure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import to_numpy

__all__ = ["AttentionMaps", "attention_maps"]

COLUMNS = ("entropy", "to_first", "to_previous", "to_itself", "to_sink", "distance")


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """The maps of all heads captured, and a row of numbers for each head.

    pieces: (S,) texts of the tokens. maps: layer -> (H, T, S) float32, of the last T of S tokens.
    layers, heads: (n,) which head each row is of. The rest are means over tokens after the first:
    entropy: nats of a token's attention. to_first, to_previous, to_itself: its shares; to_sink:
    the share that goes to none (heads with a learned sink). distance: positions back, on average.
    """

    pieces: tuple[str, ...]
    maps: dict[int, np.ndarray]
    layers: np.ndarray
    heads: np.ndarray
    entropy: np.ndarray
    to_first: np.ndarray
    to_previous: np.ndarray
    to_itself: np.ndarray
    to_sink: np.ndarray
    distance: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row a head."""
        columns = {"layer": self.layers, "head": self.heads}
        return pd.DataFrame(columns | {name: getattr(self, name) for name in COLUMNS})

    def best(self, column: str) -> tuple[int, int]:
        """Layer and head with the largest value of a column."""
        if column not in COLUMNS:
            raise ParameterError(
                f"column: no such number of a head; expected one of {', '.join(COLUMNS)}, "
                f"got {column!r}"
            )
        row = int(np.argmax(getattr(self, column)))
        return int(self.layers[row]), int(self.heads[row])


def attention_maps(
    activations: Mapping[str, np.ndarray], pieces: Sequence[str] | None = None
) -> AttentionMaps:
    """Describe every captured attention head.

    activations: a trace that captured "kq_soft_max-*", or arrays (H, T, S) under such names.
    pieces: texts of the S tokens; by default their positions.
    Returns: AttentionMaps. Raises: ParameterError if there are no maps or another number of pieces.
    """
    names = {name: re.fullmatch(r"kq_soft_max-(\d+)", name) for name in activations}
    maps = {int(match[1]): to_numpy(activations[name]) for name, match in names.items() if match}
    if not maps:
        raise ParameterError(
            "activations: no attention maps; expected kq_soft_max-N, got "
            f"{', '.join(activations)[:80] or 'nothing'}; trace 'kq_soft_max-*'"
        )
    n_seen = next(iter(maps.values())).shape[2]
    pieces = tuple(map(str, range(n_seen)) if pieces is None else pieces)
    if len(pieces) != n_seen:
        raise ParameterError(
            f"pieces: expected a text for each of the {n_seen} positions, got {len(pieces)}"
        )
    rows = [
        (layer, head, *_describe(probs))
        for layer, heads in sorted(maps.items())
        for head, probs in enumerate(heads)
    ]
    layers, heads, *numbers = (np.array(column) for column in zip(*rows, strict=True))
    return AttentionMaps(pieces, maps, layers, heads, **dict(zip(COLUMNS, numbers, strict=True)))


def _describe(probs: np.ndarray) -> tuple[float, ...]:
    """COLUMNS of one head's map (T, S); means over the tokens that have something before them."""
    n_tokens, n_seen = probs.shape
    position = np.arange(n_seen - n_tokens, n_seen)
    rows, position = probs[position > 0].astype(np.float64), position[position > 0]
    if not len(rows):
        return (0.0,) * len(COLUMNS)
    i, total = np.arange(len(rows)), rows.sum(axis=1)
    log = np.log(np.where(rows > 0, rows, 1))
    back = position[:, None] - np.arange(n_seen)
    numbers = (
        -(rows * log).sum(axis=1),
        rows[:, 0],
        rows[i, position - 1],
        rows[i, position],
        1 - total,
        (rows * back).sum(axis=1) / np.where(total > 0, total, 1),
    )
    return tuple(float(np.mean(column)) for column in numbers)
