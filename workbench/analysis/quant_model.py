"""The quantization error of a whole model: one row of a table for each tensor and type.

    name                  layer  role    type   bits_per_weight  rmse  relative_rmse  ...  sampled
    blk.0.attn_q.weight       0  attn_q  Q4_0              4.5   ...

Two questions: what would a type do to this file (`model_errors`, computed on the fly), and what
did it do (`file_errors`, between two files of one model).
Source: our own; the measures are those of `quant_error`.
Left out: vectors (norms, biases), which are not quantized in practice, and choosing types.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..errors import ParameterError
from ..gguf import GGUFFile, TensorInfo
from ..quants import CODECS, codec_of, dequantize, quantize
from .file_map import role_of
from .quant_error import TILE_WEIGHTS, Pair, measure

__all__ = [
    "ChosenRows",
    "error_change",
    "error_pivot",
    "file_errors",
    "matrices",
    "model_errors",
    "weight_types",
]

Array = np.ndarray

INTEGERS = frozenset({"I8", "I16", "I32", "I64"})
FOR_ACTIVATIONS = frozenset({"Q8_1", "Q8_K"})  # made during dot products, never in a file


def weight_types(imatrix: bool = False, row_length: int | None = None) -> list[str]:
    """The block types that weights can be written in, fewest bits per weight first.

    imatrix: whether there is one; types that cannot be written without are left out otherwise.
    row_length: weights in a row; types whose block does not divide it are left out.
    """
    names = [
        name
        for name, codec in CODECS.items()
        if codec.block_size > 1
        and name not in FOR_ACTIVATIONS
        and (row_length is None or row_length % codec.block_size == 0)
        and (codec.encode is not None or (imatrix and codec.encode_weighted is not None))
    ]
    return sorted(names, key=lambda name: CODECS[name].type_size / CODECS[name].block_size)


def matrices(gguf: GGUFFile) -> list[str]:
    """Names of the tensors worth quantizing: weights with two or more axes, in file order."""
    return [
        name
        for name, info in gguf.tensors.items()
        if len(info.shape) > 1 and info.n_elements and info.type not in INTEGERS
    ]


def model_errors(
    gguf: GGUFFile,
    types: str | Sequence[str],
    imatrix: Mapping[str, Array] | None = None,
    tensors: Iterable[str] | None = None,
    max_rows: int | None = None,
    importance: Mapping[str, Array] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Quantizes a file's matrices to each type on the fly and measures every one.

    gguf: best F16, BF16 or F32: the error is against the weights in this file.
    types: names.
    imatrix: tensor name -> importance (n,), or (experts, n) for three axes, for the quantizer.
    tensors: names to look at; None: all of `matrices(gguf)`.
    max_rows: look at only so many rows of a tensor, evenly spread; None: at all.
    importance: like imatrix, for the weighted errors; None: the imatrix.
    progress: whether to show a bar.

    Returns: tidy DataFrame, a row for each tensor and type: name, layer (<NA> outside of layers),
    role, source_type, the columns of `QuantError.to_row`, n_rows, and sampled, the share of rows
    looked at (1.0: all). nbytes is that of the whole tensor. Where a type's block does not divide
    the row, the errors are NaN and nbytes 0.
    Raises: ParameterError for wrong names or max_rows below 1; as `quantize`.
    """
    names = matrices(gguf) if tensors is None else list(tensors)
    types = [codec_of(t).name for t in ([types] if isinstance(types, str) else types)]
    _check_max_rows(max_rows)
    imatrix = imatrix or {}
    importance = imatrix if importance is None else importance
    rows = []
    for name in tqdm(names, desc="tensors", disable=not progress, leave=False):
        source = ChosenRows(gguf, name, max_rows)
        for type in types:
            rows.append(_error_row(source, type, imatrix.get(name), importance.get(name)))
    return _frame(rows)


def file_errors(
    base: GGUFFile,
    other: GGUFFile,
    imatrix: Mapping[str, Array] | None = None,
    max_rows: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measures what another file of the same model made of the weights of this one.

    base: the file closest to the original. other: the quantized one.
    imatrix, max_rows, progress: as in `model_errors`, the imatrix for the weighted errors only.

    Returns: the table of `model_errors`, a row for each matrix of base; type and nbytes are
    those of the other file. A matrix that the other file lacks has type None and NaN.
    Raises: ParameterError where the files share no matrix or a tensor has another shape.
    """
    names = matrices(base)
    _check_max_rows(max_rows)
    if not any(name in other.tensors for name in names):
        raise ParameterError(
            f"{other.path}: no tensor of {base.path}; expected another file of the same model, "
            f"got {len(other.tensors)} other tensors; name two files of one model"
        )
    importances = imatrix or {}
    rows = []
    for name in tqdm(names, desc="tensors", disable=not progress, leave=False):
        source = ChosenRows(base, name, max_rows)
        rows.append(_file_row(source, other, importances.get(name)))
    return _frame(rows)


def error_pivot(errors: pd.DataFrame, type: str, value: str = "relative_rmse") -> pd.DataFrame:
    """Layers down, roles across: one column of an error table for one type, as a matrix.

    errors: from `model_errors` or `file_errors`. type: a type in it; "" for all rows.
    Returns: DataFrame, tensors outside of layers left out; means where a role has several tensors.
    Raises: ParameterError for a type or column that the table lacks.
    """
    for what, known in ((value, errors.columns), (type or None, errors["type"].unique())):
        if what is not None and what not in known:
            raise ParameterError(
                f"error_pivot: the table has no {what!r}; expected one of "
                f"{', '.join(map(str, known))}, got {what!r}; choose another"
            )
    chosen = errors[errors["type"] == type] if type else errors
    chosen = chosen.dropna(subset="layer")
    order = list(dict.fromkeys(chosen["role"]))
    return chosen.pivot_table(value, "layer", "role", "mean", observed=True)[order]


def error_change(
    before: pd.DataFrame, after: pd.DataFrame, value: str = "weighted_relative_rmse"
) -> pd.DataFrame:
    """What a change (an imatrix, say) did to one column of two error tables of the same tensors.

    before, after: from `model_errors`; rows are matched by name and type.
    Returns: DataFrame: name, layer, role, type, before, after, and change = after / before - 1.
    Raises: ParameterError for a column that a table lacks, or tables without a common row.
    """
    for table in (before, after):
        if value not in table.columns:
            raise ParameterError(
                f"error_change: a table has no {value!r}; expected one of "
                f"{', '.join(table.columns)}, got {value!r}; choose another"
            )
    keys = ["name", "layer", "role", "type"]
    left, right = (table[[*keys, value]] for table in (before, after))
    both = left.merge(right, on=keys, suffixes=("_before", "_after"))
    if both.empty:
        raise ParameterError(
            "error_change: the tables have no row in common; expected the same tensors and types, "
            "got others; make both with the same arguments"
        )
    both.columns = [*keys, "before", "after"]
    return both.assign(change=both["after"] / both["before"] - 1)


class ChosenRows:
    """The chosen rows of one tensor, dequantized a tile at a time."""

    COLUMNS = ("name", "layer", "role", "source_type", "n_rows", "sampled")  # of `describe`

    def __init__(self, gguf: GGUFFile, name: str, max_rows: int | None):
        self.gguf, self.info = gguf, _info(gguf, name)
        raw = gguf.raw(name)
        self.raw = raw.reshape(-1, raw.shape[-1])
        self.total = len(self.raw)
        n = self.total if max_rows is None else min(max_rows, self.total)
        self.indices = np.linspace(0, self.total - 1, n).round().astype(np.int64)
        self.per_matrix = self.info.shape[-2]  # rows of one expert, or of all

    def tiles(self) -> Iterator[tuple[Array, Array]]:
        """Row indices, which never cross from one expert to the next, and their weights."""
        step = max(1, TILE_WEIGHTS // self.info.shape[-1])
        starts = np.flatnonzero(np.diff(self.indices // self.per_matrix)) + 1
        for part in np.split(self.indices, starts):
            for start in range(0, len(part), step):
                chosen = part[start : start + step]
                yield chosen, self.decode(self.gguf, self.raw[chosen])

    def decode(self, gguf: GGUFFile, raw: Array) -> Array:
        """Raw rows of this tensor, as they are in a file, as float32."""
        return dequantize(raw, gguf.tensors[self.info.name].type, gguf.byte_order)

    def describe(self) -> dict[str, object]:
        """The columns that do not depend on the type."""
        name, n = self.info.name, len(self.indices)
        values = (name, *role_of(name), self.info.type, n, n / max(1, self.total))
        return dict(zip(self.COLUMNS, values, strict=True))


def _info(gguf: GGUFFile, name: str) -> TensorInfo:
    gguf.raw(name)  # raises for a name that is not there
    info = gguf.tensors[name]
    if len(info.shape) < 2:
        raise ParameterError(
            f"tensor {name!r}: no matrix; expected two or more axes, got {info.shape}; "
            "choose one of matrices(gguf)"
        )
    return info


def _error_row(
    source: ChosenRows, type: str, imatrix: Array | None, importance: Array | None
) -> dict[str, object]:
    """One tensor quantized to one type."""
    codec, n = codec_of(type), source.info.shape[-1]
    if n % codec.block_size:
        return {**source.describe(), "type": type, "nbytes": 0}

    def pairs() -> Iterator[Pair]:
        for chosen, x in source.tiles():
            part = _importance_of(imatrix, source, chosen)
            yield x, dequantize(quantize(x, type, part), type)

    return _measured(source, pairs(), type, importance, imatrix is not None)


def _file_row(source: ChosenRows, other: GGUFFile, importance: Array | None) -> dict[str, object]:
    """One tensor as it is in the other file."""
    info = other.tensors.get(source.info.name)
    if info is None:
        return {**source.describe(), "type": None, "nbytes": 0}
    if info.shape != source.info.shape:
        raise ParameterError(
            f"tensor {info.name!r}: shapes differ; expected {source.info.shape} in {other.path}, "
            f"got {info.shape}; name two files of one model"
        )
    raw = other.raw(info.name)
    raw = raw.reshape(-1, raw.shape[-1])
    pairs = ((x, source.decode(other, raw[chosen])) for chosen, x in source.tiles())
    return _measured(source, pairs, info.type, importance, False)


def _measured(
    source: ChosenRows, pairs: Iterable[Pair], type: str, importance: Array | None, imatrix: bool
) -> dict[str, object]:
    """A row of the table. Of several experts, the importance is their mean."""
    codec, n = codec_of(type), source.info.shape[-1]
    mean = importance.mean(axis=0) if np.ndim(importance) == 2 else importance
    looked_at = len(source.indices) * n
    row = measure(pairs, type, 0, looked_at, mean, imatrix).to_row()
    nbytes = source.total * n // codec.block_size * codec.type_size
    sizes = {"nbytes": nbytes, "bits_per_weight": 8 * codec.type_size / codec.block_size}
    return {**row, **source.describe(), **sizes, "n_weights": source.total * n}


def _importance_of(importance: Array | None, source: ChosenRows, chosen: Array) -> Array | None:
    """The importance of the columns of the expert that the chosen rows belong to."""
    if np.ndim(importance) < 2:
        return importance
    n_experts = source.total // source.per_matrix
    if len(importance) != n_experts:
        raise ParameterError(
            f"imatrix of {source.info.name!r}: one row for each expert; expected {n_experts} rows, "
            f"got {len(importance)}; take the imatrix of this model"
        )
    return np.ascontiguousarray(importance[int(chosen[0]) // source.per_matrix])


def _check_max_rows(max_rows: int | None) -> None:
    if max_rows is not None and (not isinstance(max_rows, int | np.integer) or max_rows < 1):
        raise ParameterError(
            f"max_rows: no number of rows; expected None or 1 and more, got {max_rows!r}; give 256"
        )


def _frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Rows as a DataFrame with all columns, what names the row first."""
    measures = list(measure([], "", 0, 0).to_row())
    first = ["name", "layer", "role", "source_type", "type", "bits_per_weight", "nbytes"]
    frame = pd.DataFrame(rows)
    columns = dict.fromkeys([*first, *measures, *ChosenRows.COLUMNS])
    frame = frame.reindex(columns=list(columns))
    return frame.astype({"layer": "Int64"})
