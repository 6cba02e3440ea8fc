"""What quantization does to weights: the error of one tensor, in numbers.

    error = y - x         x: float32 weights, y: what is read back of their quantized form
    rmse                  sqrt(mean(error**2)), in units of the weights
    relative_rmse         rmse / sqrt(mean(x**2))
    sqnr_db               -20 log10(relative_rmse), the signal-to-quantization-noise ratio in dB
    weighted_...          the means weighted by the importance of each column (an imatrix)

Source: the usual definitions; `tests/test-quantize-fns.cpp` and `tools/imatrix` of llama.cpp for
what is worth measuring. Sums are made in float64.
Left out: where in the tensor the error is (`quant_maps`), and what it does to the model's
predictions, which is a matter of KL divergence.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..quants import codec_of, dequantize, quantize

__all__ = ["QuantError", "as_rows", "frontier", "measure", "quant_error", "round_trip"]

Array = np.ndarray
Pair = tuple[Array, Array]  # x and y, (R, n) float32 each

PERCENTS = (50.0, 90.0, 99.0, 99.9)
TILE_WEIGHTS = 1 << 20  # weights at once
MOST_RANKED = 1 << 24  # errors that percentiles are taken of; of more, an even choice


@dataclass(frozen=True)
class QuantError:
    """The error of a tensor in one type; errors in units of the weights, sqnr_db in dB.

    nbytes: of the quantized weights. mean_error: the bias. percentiles: percent -> |error| that so
    many of the weights do not exceed. weighted_*: None where no importance was given.
    imatrix: whether the quantizer was given one.
    """

    type: str
    n_weights: int
    nbytes: int
    rmse: float
    relative_rmse: float
    max_error: float
    mean_error: float
    sqnr_db: float
    cosine: float
    percentiles: dict[float, float]
    weighted_rmse: float | None = None
    weighted_relative_rmse: float | None = None
    weighted_sqnr_db: float | None = None
    imatrix: bool = False

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage per weight, scales included."""
        return 8 * self.nbytes / self.n_weights if self.n_weights else math.nan

    def to_row(self) -> dict[str, object]:
        """The fields as a row of a table, percentiles as p50, p90, …; NaN for what is None."""
        row = asdict(self)
        percentiles = row.pop("percentiles")
        row = {name: math.nan if value is None else value for name, value in row.items()}
        row |= {f"p{percent:g}": value for percent, value in percentiles.items()}
        return {"type": row.pop("type"), "bits_per_weight": self.bits_per_weight, **row}


def quant_error(
    x: Array,
    type: str | Sequence[str],
    imatrix: Array | None = None,
    importance: Array | None = None,
) -> QuantError | pd.DataFrame:
    """Quantizes weights to a type (or several), reads them back and measures the difference.

    x: (..., n) floating, taken as float32; n a multiple of the type's block.
    type: a type name; or a sequence of them, for a table.
    imatrix: (n,) float32, given to the quantizer.
    importance: (n,) float32, by which the weighted errors are weighted; the imatrix where None.

    Returns: a QuantError; for a sequence a DataFrame with a row for each type, in its order.
    Raises: ParameterError and UnsupportedError as `quantize` does.
    Example: quant_error(gguf.dequantize("blk.0.attn_q.weight"), "Q4_0").sqnr_db
    Source: the definitions at the top of this file.
    """
    if not isinstance(type, str):
        return pd.DataFrame([quant_error(x, t, imatrix, importance).to_row() for t in type])
    codec = codec_of(type)
    rows = as_rows(x)
    nbytes = rows.size // codec.block_size * codec.type_size
    pairs = round_trip(rows, type, imatrix)
    importance = imatrix if importance is None else importance
    return measure(pairs, codec.name, nbytes, rows.size, importance, imatrix is not None)


def frontier(errors: pd.DataFrame, by: str = "relative_rmse") -> list[str]:
    """The types that no other one of a table beats in both bits and error, fewest bits first.

    errors: from `quant_error` with several types. by: the column that is the error.
    Raises: ParameterError for a column that is not there.
    """
    if by not in errors.columns:
        raise ParameterError(
            f"frontier: the table has no {by!r}; expected one of {', '.join(errors.columns)}, "
            f"got {by!r}; choose another"
        )
    best, names = math.inf, []
    for row in errors.sort_values(["bits_per_weight", by]).to_dict("records"):
        if row[by] < best:
            best = row[by]
            names.append(row["type"])
    return names


def as_rows(x: Array) -> Array:
    """Weights (..., n) as (R, n) float32. Raises: ParameterError unless they are floating."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or x.ndim == 0:
        got = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else x.__class__.__name__
        raise ParameterError(
            f"x: no array of weights; expected (..., n) float32, got {got}; "
            "take them from gguf.dequantize(name)"
        )
    return np.asarray(x, np.float32).reshape(math.prod(x.shape[:-1]), x.shape[-1])


def round_trip(
    rows: Array, type: str, imatrix: Array | None = None, y: Array | None = None
) -> Iterable[Pair]:
    """Tiles of rows (R, n) float32, each with what quantizing makes of it, or its part of y."""
    if y is not None and y.size != rows.size:
        raise ParameterError(
            f"y: not what became of x; expected {rows.size} weights, got {y.size}; leave it out"
        )
    step = max(1, TILE_WEIGHTS // max(1, rows.shape[1]))
    for start in range(0, max(1, len(rows)), step):  # once for no rows: the type is checked
        tile = rows[start : start + step]
        if y is None:
            yield tile, dequantize(quantize(tile, type, imatrix), type)
        else:
            yield tile, y.reshape(rows.shape)[start : start + step]


def measure(
    pairs: Iterable[Pair],
    type: str,
    nbytes: int,
    n_weights: int,
    importance: Array | None = None,
    imatrix: bool = False,
) -> QuantError:
    """Sums up tiles of weights and what became of them.

    pairs: tiles (x, y), (R, n) float32. type, nbytes, n_weights: of all of them.
    importance: (n,), weights of the columns. imatrix: whether the quantizer was given one.

    Raises: ParameterError if importance does not fit.
    """
    sums, ranked, stride, largest = np.zeros(9), [], -(-n_weights // MOST_RANKED), 0.0
    for x, y in pairs:
        weights = None if importance is None else _checked(importance, x.shape[1])
        error = np.subtract(y, x, dtype=np.float64)
        sums += _sums(x.astype(np.float64), y, error, weights)
        magnitudes = np.abs(error).astype(np.float32).reshape(-1)
        largest = max(largest, float(magnitudes.max(initial=0)))
        ranked.append(magnitudes[:: max(1, stride)])
    n, ee, xx, yy, xy, total, wee, wxx, w = map(float, sums)
    relative = _root_ratio(ee, xx)
    weighted_relative = None if importance is None else _root_ratio(wee, wxx)
    return QuantError(
        type=type,
        n_weights=n_weights,
        nbytes=nbytes,
        rmse=_root_ratio(ee, n),
        relative_rmse=relative,
        max_error=largest,
        mean_error=total / n if n else 0.0,
        sqnr_db=_decibel(relative),
        cosine=_cosine(xx, yy, xy),
        percentiles=_percentiles(ranked),
        weighted_rmse=None if importance is None else _root_ratio(wee, w),
        weighted_relative_rmse=weighted_relative,
        weighted_sqnr_db=None if importance is None else _decibel(weighted_relative),
        imatrix=imatrix,
    )


def _sums(x: Array, y: Array, error: Array, weights: Array | None) -> Array:
    """(9,) float64: n, and the sums of e², x², y², x y, e, w e², w x², w over a tile."""
    y = y.astype(np.float64)
    plain = [x.size, np.vdot(error, error), np.vdot(x, x), np.vdot(y, y), np.vdot(x, y)]
    if weights is None:
        return np.array([*plain, error.sum(), 0, 0, 0])
    ee, xx = (np.einsum("rn,rn->n", part, part) @ weights for part in (error, x))
    return np.array([*plain, error.sum(), ee, xx, len(x) * weights.sum()])


def _checked(importance: Array, n: int) -> Array:
    """The importance of n columns as float64. Raises: ParameterError unless it is that."""
    fits = isinstance(importance, np.ndarray) and importance.shape == (n,)
    if not fits or importance.dtype.kind != "f" or not (importance >= 0).all():
        got = getattr(importance, "shape", importance.__class__.__name__)
        raise ParameterError(
            f"importance: does not fit the weights; expected ({n},) floats not below 0, one a "
            f"column, got {got}; take the imatrix of this tensor"
        )
    return importance.astype(np.float64)


def _root_ratio(above: float, below: float) -> float:
    """sqrt(above / below); 0 for 0 / 0, infinite for anything else over 0."""
    if below == 0:
        return 0.0 if above == 0 else math.inf
    return math.sqrt(above / below)


def _decibel(relative: float) -> float:
    """Signal over noise in dB, of noise over signal."""
    return math.inf if relative == 0 else -20 * math.log10(relative)


def _cosine(xx: float, yy: float, xy: float) -> float:
    """The cosine of the angle between x and y; 1 for two zeros, 0 where one of them is zero."""
    if xx == 0 or yy == 0:
        return 1.0 if xx == yy else 0.0
    return xy / math.sqrt(xx) / math.sqrt(yy)


def _percentiles(ranked: list[Array]) -> dict[float, float]:
    """PERCENTS of the magnitudes; NaN of none."""
    errors = np.concatenate([np.empty(0, np.float32), *ranked])
    found = np.percentile(errors, PERCENTS) if errors.size else np.full(len(PERCENTS), np.nan)
    return dict(zip(PERCENTS, map(float, found), strict=True))
