"""Which way keys and values point: how many directions a head uses, and how they drift apart.

    effective_ranks   rows on one line: 1; rows alike in all D directions: D
    cosine_drift      the mean cosine of rows that lie 1, 2, 3 … positions apart

Sources: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO
2007; Su et al., https://arxiv.org/abs/2104.09864 (RoPE makes what is far less alike).
Left out: whether heads or layers share their directions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model.kv_checks import demand_instance
from .kv_arrays import KINDS, KVArrays, each_head, each_layer, of_kind

__all__ = ["CosineDrift", "EffectiveRanks", "cosine_drift", "effective_ranks"]

Array = np.ndarray

ENERGY = 0.9  # of the squared norm, for which directions are counted


@dataclass(frozen=True, eq=False)
class EffectiveRanks:
    """How many directions the rows of each KV head use; a dict has an array (K,) a layer.

    rank: kind -> exp of the entropy of the singular values, from 1 to the smaller of S and D.
    n_energy: kind -> directions that hold ENERGY of the squared norm. of: D, by kind.
    """

    rank: Mapping[str, tuple[Array, ...]]
    n_energy: Mapping[str, tuple[Array, ...]]
    of: Mapping[str, tuple[int, ...]]

    def to_frame(self) -> pd.DataFrame:
        """One row a kind, layer and KV head."""
        return pd.DataFrame(
            {
                "kind": kind,
                "layer": layer,
                "head": head,
                "rank": float(rank),
                "n_energy": int(self.n_energy[kind][layer][head]),
                "of": self.of[kind][layer],
            }
            for kind, layer, head, rank in each_head(self.rank)
        )


@dataclass(frozen=True, eq=False)
class CosineDrift:
    """Mean cosine of two rows of a head by how many positions they lie apart.

    distances: (n,) positions, from 0. cosines: kind -> an array a layer, (K, n).
    """

    distances: Array
    cosines: Mapping[str, tuple[Array, ...]]

    def by_layer(self, kind: str) -> Array:
        """(L, n): means over KV heads of a kind. Raises: ParameterError for an unknown one."""
        return np.stack([cosines.mean(axis=0) for cosines in of_kind(self.cosines, kind)])


def effective_ranks(kv: KVArrays, centred: bool = False) -> EffectiveRanks:
    """Count the directions that the keys and values of each head use.

    kv: from `kv_arrays`. centred: without the mean over positions, which all rows share.
    Returns: EffectiveRanks.
    """
    demand_instance("kv", kv, KVArrays, "analysis.kv_arrays")
    values = each_layer(kv, lambda rows: _singular_values(rows, centred), KINDS)
    rank, n_energy = (
        {kind: tuple(measure(s) for s in layers) for kind, layers in values.items()}
        for measure in (_entropy_rank, _energy_rank)
    )
    lengths = {kind: tuple(rows.shape[-1] for rows in kv.of(kind)) for kind in KINDS}
    return EffectiveRanks(rank, n_energy, lengths)


def cosine_drift(
    kv: KVArrays, max_distance: int | None = None, centred: bool = False
) -> CosineDrift:
    """How alike rows are that lie d positions apart, by kind, layer and KV head.

    kv: from `kv_arrays`. max_distance: in positions, by default half of those the shortest layer
    holds, so that each mean has as many pairs. centred: without the mean over positions.
    Returns: CosineDrift. Raises: ParameterError for a distance that no pair has.
    """
    demand_instance("kv", kv, KVArrays, "analysis.kv_arrays")
    shortest = min(map(len, kv.k))
    n = shortest // 2 if max_distance is None else max_distance
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or not 0 <= n < shortest:
        raise ParameterError(
            f"max_distance: no two positions lie so far apart; expected from 0 to "
            f"{shortest - 1}, got {max_distance!r}"
        )
    cosines = each_layer(kv, lambda rows: _mean_cosines(rows, int(n), centred), KINDS)
    return CosineDrift(np.arange(n + 1), cosines)


def _singular_values(rows: Array, centred: bool) -> Array:
    """(S, K, D) -> (K, D), the largest first; those lost in rounding, and any above S, are 0.

    Roots of the eigenvalues of D x D products, which take a tenth of the time for long texts.
    """
    heads = rows.transpose(1, 0, 2).astype(np.float64)
    heads = heads - heads.mean(axis=1, keepdims=True) if centred else heads
    squares = np.linalg.eigvalsh(heads.transpose(0, 2, 1) @ heads)[:, ::-1]
    rounding = rows.shape[-1] * np.finfo(np.float64).eps * squares[:, :1]
    return np.sqrt(np.where(squares > rounding, squares, 0))


def _entropy_rank(values: Array) -> Array:
    """(K, n) -> (K,): exp of the entropy of the values as shares of their sum."""
    total = values.sum(axis=-1, keepdims=True)
    p = values / np.where(total > 0, total, 1)
    return np.exp(-(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1))


def _energy_rank(values: Array) -> Array:
    """(K, n) -> (K,): values, largest first, whose squares make up ENERGY of all."""
    energy = np.cumsum(values**2, axis=-1)
    return (energy < ENERGY * energy[:, -1:]).sum(axis=-1) + 1


def _mean_cosines(rows: Array, n: int, centred: bool) -> Array:
    """(S, K, D) -> (K, n + 1): means over all pairs of positions that lie 0 … n apart."""
    rows = rows.astype(np.float64)
    rows = rows - rows.mean(axis=0) if centred else rows
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit = rows / np.where(length > 0, length, 1)  # (S, K, D); a zero row is like none
    n_padded = len(unit) + n  # so that the end does not meet the beginning
    power = np.square(np.abs(np.fft.rfft(unit, n_padded, axis=0))).sum(axis=-1)  # (…, K)
    sums = np.fft.irfft(power, n_padded, axis=0)[: n + 1]  # of all pairs, at each distance
    return (sums / np.arange(len(unit), len(unit) - n - 1, -1)[:, None]).T
