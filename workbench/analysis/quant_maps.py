"""Where in a tensor the quantization error is: in which blocks, and at which values of the weights.

Source: the usual definitions, as in `quant_error`.
Left out: the error of the whole tensor (`quant_error`), codes and scales (`quant_codes`).
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..quants import codec_of
from ..quants.codes import layout_of
from .quant_error import as_rows, round_trip

__all__ = ["ErrorByValue", "ErrorMap", "error_by_value", "error_map"]

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """RMSE of every run of `size` weights: rmse and rms (of the weights) are (rows, runs)."""

    type: str
    size: int
    rmse: Array
    rms: Array

    @property
    def shares(self) -> Array:
        """(rows, runs): the share of each run in the sum of all squared errors."""
        squares = np.square(self.rmse, dtype=np.float64)
        return squares / max(squares.sum(), np.finfo(np.float64).tiny)

    def share_of_worst(self, fraction: float) -> float:
        """The share of all squared error in the worst `fraction` (0..1) of the runs."""
        shares = np.sort(self.shares, axis=None)[::-1]
        return float(shares[: math.ceil(fraction * shares.size)].sum())

    def worst(self, n: int = 10) -> pd.DataFrame:
        """The n runs with the largest RMSE, worst first, with their share of all squared error."""
        order = np.argsort(-self.rmse, axis=None, kind="stable")[:n]
        row, run = np.unravel_index(order, self.rmse.shape)
        columns = {"row": row, "block": run, "rmse": self.rmse[row, run], "rms": self.rms[row, run]}
        return pd.DataFrame({**columns, "share": self.shares[row, run]})


@dataclass(frozen=True, eq=False)
class ErrorByValue:
    """The error against the weight: bin edges (bins + 1,), and of each bin count, rmse and bias.

    Bins without weights have NaN as rmse and bias.
    """

    type: str
    edges: Array
    counts: Array
    rmse: Array
    bias: Array

    @property
    def centers(self) -> Array:
        """The middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2


def error_map(
    x: Array,
    type: str,
    imatrix: Array | None = None,
    sub_blocks: bool = False,
    y: Array | None = None,
) -> ErrorMap:
    """The RMSE of every block of a type, or of every sub-block (the weights under one scale).

    x: (..., n) floating. imatrix: (n,), for the quantizer. y: what became of x, where that is known
    already: then nothing is quantized.
    Returns: an ErrorMap, its rows the rows of x.
    Raises: as `quant_error`; UnsupportedError for sub_blocks of a type without blocks.
    """
    codec = codec_of(type)
    size = layout_of(type).group if sub_blocks else codec.block_size
    parts = [
        (_run_rms(y_tile - x_tile, size), _run_rms(x_tile, size))
        for x_tile, y_tile in round_trip(as_rows(x), type, imatrix, y)
    ]
    rmse, rms = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ErrorMap(codec.name, size, rmse, rms)


def _run_rms(values: Array, size: int) -> Array:
    """(R, n) -> (R, n / size): the root mean square of each run."""
    runs = values.reshape(len(values), values.shape[1] // size, size)
    return np.sqrt(np.square(runs, dtype=np.float64).mean(axis=2)).astype(np.float32)


def error_by_value(
    x: Array,
    type: str,
    imatrix: Array | None = None,
    bins: int = 61,
    y: Array | None = None,
) -> ErrorByValue:
    """Where on the axis of weights the error is: RMSE and bias in equal bins from min to max.

    x: (..., n) floating. imatrix, y: as in `error_map`.
    Returns: an ErrorByValue.
    Raises: as `quant_error`; ParameterError for bins below 1.
    """
    if not isinstance(bins, int | np.integer) or bins < 1:
        raise ParameterError(f"bins: no number of bins; expected 1 or more, got {bins!r}; give 61")
    rows = as_rows(x)
    low, high = (float(rows.min()), float(rows.max())) if rows.size else (0.0, 0.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    sums = np.zeros((3, bins))
    for x_tile, y_tile in round_trip(rows, type, imatrix, y):
        error = (y_tile - x_tile).astype(np.float64).reshape(-1)
        place = np.searchsorted(edges, x_tile.reshape(-1), side="right") - 1
        place = np.clip(place, 0, bins - 1)
        for total, weights in zip(sums, (None, error, error * error), strict=True):
            total += np.bincount(place, weights, bins)
    counts = sums[0].astype(np.int64)
    with np.errstate(invalid="ignore"):
        bias, square = sums[1] / counts, sums[2] / counts
    return ErrorByValue(codec_of(type).name, edges, counts, np.sqrt(square), bias)
