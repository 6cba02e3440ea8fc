"""What a KV cache takes up while a text grows, and what each position in it turns out to be.

    bytes      a slot more in every layer with every token, of keys and of values
    norms      how long a position's keys and values are
    received   how much a position is looked at later, beside what even attention would give it

    token looking   0    1    2         received by position 0 from afar (2 and more):
                    1.0                     3 · 0.7 = 2.1 times its even part, 1/3
                    0.5  0.5            1: as if all looked at all alike
                    0.7  0.2  0.1       much more: a sink, or a word that matters

Source: our own; accumulated attention as a score of positions is H2O's
(https://arxiv.org/abs/2306.14048). Left out: sizes of caches that do not exist (`memory_plan.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import KVCache
from ..model.kv_checks import demand_instance
from .attention import AttentionMaps
from .kv_arrays import KVArrays
from .kv_heads import N_LOCAL

__all__ = [
    "AttentionReceived",
    "KVGrowth",
    "KVNorms",
    "attention_received",
    "kv_growth",
    "kv_norms",
]

Array = np.ndarray

LEAST_LOOKS = 8  # of which a mean is worth taking


@dataclass(frozen=True, eq=False)
class KVGrowth:
    """Bytes of a cache's slots that are written, step by step.

    n_past: (n,) positions held. k, v: (n, L) bytes of each layer. allocated: bytes of all slots,
    of keys and of values, (2, L).
    """

    n_past: Array
    k: Array
    v: Array
    allocated: Array

    @property
    def total(self) -> Array:
        """(n,) bytes of all layers."""
        return self.k.sum(axis=1) + self.v.sum(axis=1)

    def to_frame(self) -> pd.DataFrame:
        """One row a layer, at the last step: bytes written and allocated, of keys and values."""
        columns = {"k": self.k[-1], "v": self.v[-1]}
        columns |= {"k_allocated": self.allocated[0], "v_allocated": self.allocated[1]}
        return pd.DataFrame(columns).rename_axis("layer").reset_index()


@dataclass(frozen=True, eq=False)
class KVNorms:
    """Euclidean norms of keys and values, means over KV heads: (L, S) each.

    NaN where a layer no longer holds the position.
    """

    k: Array
    v: Array

    def to_frame(self) -> pd.DataFrame:
        """One row a layer: means over positions, and of the first position alone."""
        columns = {"k": np.nanmean(self.k, axis=1), "v": np.nanmean(self.v, axis=1)}
        columns |= {"k_first": self.k[:, 0], "v_first": self.v[:, 0]}
        return pd.DataFrame(columns).rename_axis("layer").reset_index()


@dataclass(frozen=True, eq=False)
class AttentionReceived:
    """How much attention each position gets: 1 is its part if every token looked evenly.

    layers: (n,). by_head: (n, H, S), means over the tokens from `beyond` positions on; NaN where
    fewer than LEAST_LOOKS look, and for heads that a layer has fewer than others. pieces: (S,)
    texts.
    """

    layers: Array
    by_head: Array
    pieces: tuple[str, ...]
    beyond: int

    @property
    def by_layer(self) -> Array:
        """(n, S): means over heads."""
        n_heads = (~np.isnan(self.by_head[:, :, 0])).sum(axis=1)[:, None]
        seen = np.isnan(self.by_head[0, 0])
        return np.where(seen, np.nan, np.nansum(self.by_head, axis=1) / n_heads)

    def to_frame(self, n_top: int = 10) -> pd.DataFrame:
        """One row a position, the most looked at first, means over layers and heads."""
        mean = self.by_layer.mean(axis=0)
        best = [i for i in np.argsort(-mean, kind="stable") if np.isfinite(mean[i])][:n_top]
        columns = {"position": best, "piece": [self.pieces[i] for i in best]}
        return pd.DataFrame(columns | {"received": mean[best]})


def kv_growth(cache: KVCache, n_past: Sequence[int] | None = None) -> KVGrowth:
    """Account for a cache's memory at each step of a text.

    cache: whose slots are counted. n_past: positions held at each step, from 0 to n_ctx; by default
    one after the other up to those held now. Returns: KVGrowth.
    Raises: ParameterError for positions that the cache has no room for.
    """
    demand_instance("cache", cache, KVCache, "model.new_cache")
    steps = np.arange(cache.n_past + 1) if n_past is None else _steps(n_past)
    if not steps.size or steps.min() < 0 or steps.max() > cache.n_ctx:
        raise ParameterError(
            f"n_past: no steps of this cache; expected integers from 0 to its n_ctx "
            f"{cache.n_ctx}, got {n_past!r:.60}"
        )
    buffers = [cache.buffers(layer) for layer in range(cache.n_layer)]
    written, allocated = [], []
    for pair in zip(*buffers, strict=True):  # all keys, then all values
        n_slots = np.array([len(rows) for rows in pair])
        nbytes = np.array([rows.nbytes for rows in pair])
        slots = np.minimum(steps[:, None], n_slots)  # (n, L): a window's slots are used again
        written.append(slots * (nbytes // n_slots))
        allocated.append(nbytes)
    return KVGrowth(steps, *written, np.stack(allocated))


def _steps(n_past: Any) -> Array:
    """(n,) integers, none where it is something else."""
    try:
        steps = np.asarray(n_past)
    except (ValueError, TypeError, OverflowError):  # ragged lists, integers beyond 64 bits
        steps = np.empty(0)
    return steps if steps.ndim == 1 and steps.dtype.kind in "iu" else np.empty(0)


def kv_norms(kv: KVArrays) -> KVNorms:
    """The norms of keys and values at each position; RoPE changes none of them.

    kv: from `analysis.kv_arrays`. Returns: KVNorms.
    """
    demand_instance("kv", kv, KVArrays, "analysis.kv_arrays")
    n_past = max(first + len(rows) for first, rows in zip(kv.first, kv.k, strict=True))
    norms = np.full((2, kv.n_layer, n_past), np.nan)
    for index, layers in enumerate((kv.k, kv.v)):
        for layer, rows in enumerate(layers):
            norms[index, layer, kv.first[layer] :] = np.linalg.norm(rows, axis=-1).mean(axis=1)
    return KVNorms(*norms)


def attention_received(maps: AttentionMaps, beyond: int = N_LOCAL) -> AttentionReceived:
    """How much attention each position of a text gets from later ones, beside even attention.

    maps: from `attention_maps`, of a whole text. beyond: looks from fewer positions on do not
    count; every token looks at its neighbours, and the last ones would seem to matter most.
    Returns: AttentionReceived. Raises: ParameterError for maps of the end of a text only, or a text
    in which no token is looked at LEAST_LOOKS times.
    """
    n = len(maps.pieces)
    if any(probs.shape[1:] != (n, n) for probs in maps.maps.values()):
        raise ParameterError(
            f"maps: only a part of the text looks; expected {n} rows of {n}, one for each token, "
            "got others; trace a text from its start"
        )
    if not isinstance(beyond, int | np.integer) or not 0 <= beyond <= n - LEAST_LOOKS:
        raise ParameterError(
            f"beyond: no position is looked at {LEAST_LOOKS} times from so far; expected from 0 to "
            f"{n - LEAST_LOOKS}, got {beyond!r}; take a longer text"
        )
    layers = sorted(maps.maps)
    n_head = max(len(maps.maps[layer]) for layer in layers)
    by_head = np.full((len(layers), n_head, n), np.nan)
    times = np.tri(n, n, -beyond) * np.arange(1, n + 1)[:, None]  # even attention gives 1 / (t + 1)
    n_looks = np.arange(n - beyond, -beyond, -1)
    enough = n_looks >= LEAST_LOOKS
    for row, layer in enumerate(layers):
        total = np.einsum("hts,ts->hs", maps.maps[layer], times)
        by_head[row, : len(total), enough] = (total[:, enough] / n_looks[enough]).T
    return AttentionReceived(np.array(layers), by_head, maps.pieces, int(beyond))
