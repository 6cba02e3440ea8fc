"""Keys and values of a text as arrays: what the cache holds, and the same rows in other forms.

    k_before_rope   keys as the layer makes them           no position in them
    k               keys as the cache holds them           pairs of numbers turned by position
    v               values                                 never turned
    …_hadamard      the same rows times a Hadamard matrix  each number spread over all channels

Sources: Su et al., https://arxiv.org/abs/2104.09864 (RoPE); QuaRot (2404.00456) and llama.cpp
src/llama-kv-cache.cpp (Hadamard).
Left out: what the rows are like: `kv_channels.py`, `kv_directions.py`, `kv_errors.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..model import KVCache, Model, to_numpy
from ..model.kv_checks import demand_model
from ..model.kv_types import hadamard

__all__ = [
    "KINDS",
    "KVArrays",
    "SPREAD",
    "each_head",
    "each_layer",
    "kv_arrays",
    "of_kind",
    "spread",
]

Array = np.ndarray

KINDS = ("k_before_rope", "k", "v")
SPREAD = "_hadamard"


@dataclass(frozen=True, eq=False)
class KVArrays:
    """Keys and values of one text on the host, an array a layer.

    k_before_rope, k: (S, K, D) float32; v: (S, K, Dv) float32; the first row of layer i is position
    first[i], 0 unless the layer keeps only a window.
    """

    k_before_rope: tuple[Array, ...]
    k: tuple[Array, ...]
    v: tuple[Array, ...]
    first: tuple[int, ...]

    @property
    def n_layer(self) -> int:
        """Layers of the model."""
        return len(self.k)

    def of(self, kind: str) -> tuple[Array, ...]:
        """The arrays of a kind: one of KINDS, or one with "_hadamard" behind it.

        Raises: ParameterError for another name, or rows whose length has no factor 2.
        """
        name = kind.removesuffix(SPREAD) if isinstance(kind, str) else kind
        if name not in KINDS:
            raise ParameterError(
                f"kind: no such rows in a cache; expected one of {', '.join(KINDS)}, or one of "
                f"them with {SPREAD} behind it, got {kind!r}"
            )
        arrays = getattr(self, name)
        return arrays if name == kind else tuple(spread(rows) for rows in arrays)


def kv_arrays(model: Model, cache: KVCache) -> KVArrays:
    """Copy a cache's keys and values to the host, the keys with and without RoPE.

    model: whose cache it is. cache: with at least one position. Returns: KVArrays.
    Raises: ParameterError for an empty cache or another model's, or numbers that are not finite.
    """
    if not isinstance(cache, KVCache):
        raise ParameterError(
            f"cache: not a KVCache; expected one made by model.new_cache(), got {cache!r:.80}"
        )
    demand_model(cache, model.config)
    if not cache.n_past:
        raise ParameterError(
            "cache: it holds no keys yet; expected at least 1 position, got 0; send tokens "
            "through the model with it"
        )
    layers = range(cache.n_layer)
    k, v = (
        tuple(to_numpy(rows(layer)).astype(np.float32) for layer in layers)
        for rows in (cache.k, cache.v)
    )
    for name, arrays in (("k", k), ("v", v)):
        _demand_finite(name, arrays)
    before = tuple(to_numpy(cache.k(layer, rotated=False)) for layer in layers)
    return KVArrays(before, k, v, tuple(cache.first(layer) for layer in layers))


def _demand_finite(name: str, arrays: tuple[Array, ...]) -> None:
    for layer, rows in enumerate(arrays):
        if not np.isfinite(rows).all():
            row, head, channel = np.argwhere(~np.isfinite(rows))[0]
            raise ParameterError(
                f"cache: {name} of layer {layer} has no number in row {row}, KV head {head}, "
                f"channel {channel}; expected finite ones, got {rows[row, head, channel]}; float16 "
                'ends at 65504, a cache with type "f32" does not'
            )


def spread(rows: Array) -> Array:
    """Rows (..., D) times the largest Hadamard matrix that divides D, piece by piece.

    Raises: ParameterError for an odd D, which no such matrix spreads.
    """
    n = rows.shape[-1] & -rows.shape[-1]
    if n < 2:
        raise ParameterError(
            f"hadamard: rows of an odd length cannot be spread; expected a multiple of 2, got "
            f"{rows.shape[-1]}; look at the rows themselves"
        )
    pieces = rows.reshape(*rows.shape[:-1], -1, n)
    return (pieces @ hadamard(n)).reshape(rows.shape)


def of_kind(by_kind: Mapping[str, Any], kind: str) -> Any:
    """What was measured of a kind of rows. Raises: ParameterError where that was nothing."""
    if kind not in by_kind:
        raise ParameterError(
            f"kind: these rows were not measured; expected one of {', '.join(by_kind)}, got "
            f"{kind!r}"
        )
    return by_kind[kind]


def each_layer(
    kv: KVArrays, measure: Callable[[Array], Array], kinds: Iterable[str] = KINDS
) -> dict[str, tuple[Array, ...]]:
    """A measure of the rows (S, K, D) of every layer: kind -> its result a layer."""
    return {kind: tuple(measure(rows) for rows in kv.of(kind)) for kind in kinds}


def each_head(
    by_kind: Mapping[str, tuple[Array, ...]],
) -> Iterator[tuple[str, int, int, Any]]:
    """(kind, layer, head, that head's part) of all."""
    for kind, layers in by_kind.items():
        for layer, heads in enumerate(layers):
            for head, part in enumerate(heads):
                yield kind, layer, head, part
