"""The KV cache: keys and values of every layer at every position so far, as plain arrays.

    slot         0   1   2  …            n_past            n_ctx
    k(layer)   ┌───┬───┬───┬────────────┬─────────────────┐
               │ K │ K │ K │   written  │ room, not shown │   each slot (K KV heads, D numbers)
               └───┴───┴───┴────────────┴─────────────────┘

Keys are stored after the rotation by their position, as llama.cpp stores them.
Source: llama.cpp src/llama-kv-cache.cpp (one sequence; slot = position).
Left out: several sequences, quantized types, eviction.
"""

from typing import Any

import numpy as np

from ..errors import ContextFullError, ParameterError
from ..ops import cpu
from .config import ModelConfig

__all__ = ["CACHE_TYPES", "KVCache"]

CACHE_TYPES = {"f16": "float16", "f32": "float32"}


class KVCache:
    """Keys and values of one sequence, in slots taken once for n_ctx positions.

    n_past: positions held; n_ctx: positions there is room for; nbytes: of all slots, as allocated
    (the operating system gives the memory when a slot is first written).
    """

    def __init__(
        self,
        config: ModelConfig,
        n_ctx: int | None = None,
        type_k: str = "f16",
        type_v: str = "f16",
        ops: Any = cpu,
    ):
        """n_ctx: positions, by default what the model was trained for; type_k, type_v: a name of
        CACHE_TYPES; ops: the device's operations.

        Raises: ParameterError for other types or an n_ctx that does not fit into memory.
        """
        self.n_ctx = _checked_n_ctx(config.n_ctx_train if n_ctx is None else n_ctx)
        self.n_past = 0
        self.type_k, self.type_v = _checked_type("type_k", type_k), _checked_type("type_v", type_v)
        slots = (config.n_layer, self.n_ctx, config.n_head_kv)
        shape_k, shape_v = (*slots, config.head_dim), (*slots, config.head_dim_v)
        self.nbytes = _bytes(shape_k, type_k) + _bytes(shape_v, type_v)
        try:
            self._k = ops.zeros(shape_k, CACHE_TYPES[type_k])  # (L, n_ctx, K, D)
            self._v = ops.zeros(shape_v, CACHE_TYPES[type_v])
        except (MemoryError, ValueError, OverflowError):
            raise ParameterError(
                f"n_ctx: a cache for {self.n_ctx} positions does not fit into memory; expected "
                f"fewer, got {self.nbytes / 1e9:.1f} GB ({self.nbytes // self.n_ctx} bytes a "
                "position); pass a smaller n_ctx"
            ) from None

    def __repr__(self) -> str:
        return (
            f"KVCache({self.n_past} of {self.n_ctx} positions, {len(self._k)} layers, "
            f"k {self.type_k}, v {self.type_v}, {self.nbytes} bytes)"
        )

    @property
    def n_layer(self) -> int:
        """Layers of the model it belongs to."""
        return len(self._k)

    @property
    def slot_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """What one slot of one layer holds: (K, D) of k and of v."""
        return self._k.shape[2:], self._v.shape[2:]

    def k(self, layer: int) -> Any:
        """Rotated keys of a layer: (n_past, K, D), a view; writing to it changes the cache."""
        return self._k[self._checked_layer(layer), : self.n_past]

    def v(self, layer: int) -> Any:
        """Values of a layer: (n_past, K, Dv), a view; writing to it changes the cache."""
        return self._v[self._checked_layer(layer), : self.n_past]

    def truncate(self, n_past: int) -> None:
        """Forget all positions from n_past on.

        Raises: ParameterError if n_past is not from 0 to the positions held.
        """
        if not _is_integer(n_past) or not 0 <= n_past <= self.n_past:
            raise ParameterError(
                f"truncate: cannot keep {n_past!r} positions; expected from 0 to the "
                f"{self.n_past} held, got {n_past!r}; more come only from forward"
            )
        self.n_past = int(n_past)

    def reset(self) -> None:
        """Forget everything; the slots stay allocated."""
        self.n_past = 0

    def demand_room(self, n_tokens: int) -> None:
        """Raises: ContextFullError if n_tokens more do not fit."""
        if self.n_past + n_tokens > self.n_ctx:
            raise ContextFullError(
                f"forward: the tokens do not fit into the context; expected at most "
                f"{self.n_ctx - self.n_past} (n_ctx {self.n_ctx} - n_past {self.n_past}), got "
                f"n_tokens {n_tokens}; shorten the prompt, truncate the cache or make one with "
                "a larger n_ctx"
            )

    def write(self, layer: int, slot: int, k: Any, v: Any) -> tuple[Any, Any]:
        """Put keys and values (T, K, D) into slots from `slot` on; for the forward pass.

        They count only when `commit` says so. Returns: k and v of the layer up to and with them.
        """
        stop = slot + len(k)
        self._k[layer, slot:stop] = k
        self._v[layer, slot:stop] = v
        return self._k[layer, :stop], self._v[layer, :stop]

    def commit(self, n_past: int) -> None:
        """Count the slots below n_past as held; for the forward pass, when all layers wrote."""
        assert self.n_past <= n_past <= self.n_ctx
        self.n_past = n_past

    def _checked_layer(self, layer: int) -> int:
        if not _is_integer(layer) or not 0 <= layer < self.n_layer:
            raise ParameterError(
                f"layer: no layer {layer!r} in this cache; expected from 0 to {self.n_layer - 1}, "
                f"got {layer!r}"
            )
        return int(layer)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_n_ctx(n_ctx: Any) -> int:
    if not _is_integer(n_ctx) or n_ctx <= 0:
        raise ParameterError(
            f"n_ctx: not a number of positions; expected an integer of at least 1, got {n_ctx!r}"
        )
    return int(n_ctx)


def _checked_type(argument: str, name: Any) -> str:
    if not isinstance(name, str) or name not in CACHE_TYPES:
        raise ParameterError(
            f"{argument}: no such cache type; expected one of {', '.join(CACHE_TYPES)}, "
            f"got {name!r}"
        )
    return name


def _bytes(shape: tuple[int, ...], name: str) -> int:
    n_elements = 1
    for length in shape:
        n_elements *= length  # in Python's integers, which do not overflow
    return n_elements * np.dtype(CACHE_TYPES[name]).itemsize
