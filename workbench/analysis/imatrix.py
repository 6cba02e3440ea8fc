"""Collect an importance matrix from a text with our own forward pass, and describe one.

    text ─► chunks of n_ctx tokens, each with an empty cache, the first token replaced by BOS
         ─► inputs of each matrix, squared, summed over tokens, column by column

The forward pass gets operations that multiply as ever and look at what they are given: so each
matrix of each architecture has its true input, experts the tokens that went to them.

Source: llama.cpp tools/imatrix/imatrix.cpp (`collect_imatrix`, `compute_imatrix`,
`compute_statistics`, `compute_cossim`, `show_statistics`).
Left out: joining several matrices, and perplexity on the way (`analysis.perplexity`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import Model
from ..model.transformer import forward
from ..model.weights import FUSED
from ..ops import PackedTensor
from ..quants.imatrix import Imatrix, ImatrixEntry
from .file_map import role_of

__all__ = ["ImatrixStatistics", "TensorStatistics", "collect_imatrix", "imatrix_statistics"]

INACTIVE = 1e-5  # a column whose mean square is not above it counts as not active


def collect_imatrix(
    model: Model,
    text: str | Sequence[int],
    n_ctx: int | None = None,
    *,
    output: bool = False,
    dataset: str = "",
    progress: Callable[[int, int], Any] | None = None,
) -> Imatrix:
    """The importances of all columns of a model's matrices on a text.

    text: or token ids, BOS first. n_ctx: tokens of a chunk, by default 512 or the model's context;
        tokens that do not fill a last chunk are left out.
    output: whether output.weight is included. dataset: what to call the text in a file.
    progress: called with the number of chunks done and of all.

    Returns: Imatrix. Raises: ParameterError for a text shorter than one chunk or a wrong n_ctx.
    Source: llama.cpp tools/imatrix/imatrix.cpp, `compute_imatrix`, `collect_imatrix`.
    """
    n_ctx = min(512, model.config.n_ctx_train) if n_ctx is None else n_ctx
    ids = model.tokenizer.encode(text) if isinstance(text, str) else list(text)
    chunks = _chunks(model, ids, n_ctx)
    sums = _SquareSums(model, output)
    network = replace(model.network, ops=sums)
    cache = model.new_cache(n_ctx, "f32", "f32")
    for done, chunk in enumerate(chunks, 1):
        cache.truncate(0)
        forward(network, chunk, cache, last_only=not output)
        if progress:
            progress(done, len(chunks))
    return Imatrix(sums.entries(), (dataset,) if dataset else (), len(chunks), n_ctx)


def _chunks(model: Model, ids: list[int], n_ctx: int) -> list[list[int]]:
    n_max = model.config.n_ctx_train
    if not isinstance(n_ctx, int) or isinstance(n_ctx, bool) or not 1 <= n_ctx <= n_max:
        raise ParameterError(
            f"n_ctx: no chunk length; expected an integer from 1 to {n_max}, got {n_ctx!r}; the "
            "model was trained on no longer texts"
        )
    if len(ids) < n_ctx:
        raise ParameterError(
            f"text: too short; expected at least one chunk of {n_ctx} tokens, got {len(ids)}; "
            "give a longer text or a smaller n_ctx"
        )
    chunks = [list(ids[i : i + n_ctx]) for i in range(0, len(ids) - n_ctx + 1, n_ctx)]
    if model.tokenizer.add_bos and model.tokenizer.bos_id is not None:
        chunks = [[model.tokenizer.bos_id, *chunk[1:]] for chunk in chunks]
    return chunks


class _SquareSums:
    """The operations of a model, whose products also add up the squares of what they multiply."""

    def __init__(self, model: Model, output: bool):
        self._ops = model.network.ops
        self._matrices = _matrices_by_address(model, output)
        self._sums: dict[str, np.ndarray] = {}  # tensor name -> (n_mat, n) float64
        self._counts: dict[str, np.ndarray] = {}  # tensor name -> (n_mat,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def linear(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """As the operation it stands for."""
        known = self._matrices.get(_address(weight))
        if known is not None:
            self._add(*known, _squares(np.asarray(self._ops.to_numpy(x))), len(x))
        return self._ops.linear(x, weight, bias)

    def _add(self, name: str, mat: int, n_mat: int, squares: np.ndarray, n_rows: int) -> None:
        if name not in self._sums:
            self._sums[name] = np.zeros((n_mat, len(squares)))
            self._counts[name] = np.zeros(n_mat, np.int64)
        self._sums[name][mat] += squares
        self._counts[name][mat] += n_rows

    def entries(self) -> dict[str, ImatrixEntry]:
        """What was summed, in order of names."""
        return {
            name: ImatrixEntry(self._sums[name].astype(np.float32), self._counts[name])
            for name in sorted(self._sums)
        }


def _matrices_by_address(model: Model, output: bool) -> dict[int, tuple[str, int, int]]:
    """Where each matrix begins in memory -> its tensor, its number there, how many there are.

    Of several that the file has as one, such as attn_qkv, only the first begins where that does.
    """
    weights, tensors = model.network.weights, model.gguf.tensors
    parts = [(f"blk.{layer}.", vars(parts)) for layer, parts in enumerate(weights.blk)]
    if output and "output.weight" in tensors:
        parts.append(("", {"output": weights.output}))
    found = {}
    for prefix, by_name in parts:
        for part, (weight, _) in by_name.items():
            name = _tensor_of(prefix, part, weight, tensors)
            if name is None:
                continue
            many = len(weight.shape) == 3
            n_mat = weight.shape[0] if many else 1
            for mat in range(n_mat):
                found[_address(weight[mat] if many else weight)] = (name, mat, n_mat)
    return found


def _tensor_of(prefix: str, part: str, weight: Any, tensors: Mapping[str, Any]) -> str | None:
    """The file's tensor that begins where a part's matrix does."""
    if not isinstance(weight, PackedTensor):
        return None
    name = f"{prefix}{part}.weight"
    if name in tensors and tuple(tensors[name].shape) == tuple(weight.shape):
        return name
    wholes = (f"{prefix}{whole}.weight" for whole, pieces in FUSED.items() if pieces[0][0] == part)
    return next((whole for whole in wholes if whole in tensors), None)


def _address(weight: PackedTensor) -> int:
    on_gpu = getattr(weight.raw, "__cuda_array_interface__", None)
    return (on_gpu or weight.raw.__array_interface__)["data"][0]


def _squares(x: np.ndarray) -> np.ndarray:
    """(n,) float64: the sum of squares of each column of x (T, n)."""
    return np.einsum("tn,tn->n", x, x, dtype=np.float64)


@dataclass(frozen=True)
class TensorStatistics:
    """Mean squares of one tensor's inputs (experts side by side), described.

    total, min, max, mean, std: of the mean squares; active: share above 1e-5; n: columns
    entropy: of their shares of the total, in bits; entropy_norm: as a share of log2(n)
    zd: share of columns more than one standard deviation above the mean
    cos_sim: cosine with the same tensor one layer before, 0 in the first
    """

    tensor: str
    layer: int | None
    total: float
    min: float
    max: float
    mean: float
    std: float
    active: float
    n: int
    entropy: float
    entropy_norm: float
    zd: float
    cos_sim: float


@dataclass(frozen=True)
class ImatrixStatistics:
    """One row a tensor, sorted by role and falling total, as llama-imatrix prints them."""

    tensors: tuple[TensorStatistics, ...]

    def to_frame(self) -> pd.DataFrame:
        """The table of tensors; `layer` is missing (<NA>) outside of layers."""
        names = [field.name for field in fields(TensorStatistics)]
        frame = pd.DataFrame([astuple(row) for row in self.tensors], columns=names)
        return frame.astype({"layer": "Int64"})

    def layers(self) -> pd.DataFrame:
        """Means over the tensors of each layer, weighted by their columns."""
        frame = self.to_frame().dropna(subset="layer")
        rows = [
            (layer, *(np.average(part[c], weights=part["n"]) for c in ("total", "zd", "cos_sim")))
            for layer, part in frame.groupby("layer")
        ]
        return pd.DataFrame(rows, columns=["layer", "total", "zd", "cos_sim"])


def imatrix_statistics(imatrix: Imatrix) -> ImatrixStatistics:
    """What llama-imatrix --show-statistics says of an importance matrix.

    Tensors that no token went through are left out.
    Source: llama.cpp tools/imatrix/imatrix.cpp, `compute_statistics`, `compute_cossim`.
    """
    rows = [
        _statistics(name, entry.sums.astype(np.float64), entry.counts, _previous(imatrix, name))
        for name, entry in imatrix.entries.items()
        if (entry.counts > 0).any()
    ]
    return ImatrixStatistics(tuple(sorted(rows, key=lambda row: (row.tensor, -row.total))))


def _previous(imatrix: Imatrix, name: str) -> np.ndarray | None:
    """The sums of the same tensor one layer before."""
    layer, _ = role_of(name)
    if not layer:
        return None
    entry = imatrix.entries.get(name.replace(f"blk.{layer}.", f"blk.{layer - 1}.", 1))
    return None if entry is None else entry.sums.astype(np.float64)


def _statistics(
    name: str, sums: np.ndarray, counts: np.ndarray, previous: np.ndarray | None
) -> TensorStatistics:
    used = counts > 0
    means = (sums[used] / counts[used, None]).reshape(-1)
    total, std, n = float(means.sum()), float(means.std()), means.size
    shares = means[means > 0] / total if total > 0 else np.empty(0)
    entropy = float(-(shares * np.log2(shares)).sum())
    layer, role = role_of(name)
    return TensorStatistics(
        tensor=role,
        layer=layer,
        total=total,
        min=float(means.min()),
        max=float(means.max()),
        mean=total / n,
        std=std,
        active=float((means > INACTIVE).mean()),
        n=n,
        entropy=entropy,
        entropy_norm=entropy / np.log2(n) if n > 1 else 0.0,
        zd=float((means > total / n + std).mean()) if std > 0 else 0.0,
        cos_sim=_cosine(sums, previous),
    )


def _cosine(sums: np.ndarray, previous: np.ndarray | None) -> float:
    if previous is None or previous.shape != sums.shape:
        return 0.0
    norms = np.linalg.norm(sums) * np.linalg.norm(previous)
    return float(np.vdot(sums, previous) / norms) if norms > 0 else 0.0
