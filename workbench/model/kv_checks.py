"""What a KV cache refuses, each in one sentence.

Left out: what `kv_types.py` says of types.
"""

from typing import Any

import numpy as np

from ..errors import ContextFullError, ParameterError
from .config import ModelConfig

__all__ = [
    "checked_flag",
    "checked_n_ctx",
    "demand_can_shift",
    "demand_instance",
    "demand_model",
    "demand_room",
    "is_integer",
]


def is_integer(value: Any) -> bool:
    """Whether a value counts something: an integer of Python or NumPy, no flag."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def checked_n_ctx(n_ctx: Any) -> int:
    """Positions of a context. Raises: ParameterError for less than one."""
    if not is_integer(n_ctx) or n_ctx <= 0:
        raise ParameterError(
            f"n_ctx: not a number of positions; expected an integer of at least 1, got {n_ctx!r}"
        )
    return int(n_ctx)


def checked_flag(argument: str, value: Any) -> bool:
    """The value as a flag. Raises: ParameterError for anything but True and False."""
    if not isinstance(value, bool | np.bool_):
        raise ParameterError(f"{argument}: not a flag; expected True or False, got {value!r}")
    return bool(value)


def demand_instance(argument: str, value: Any, kind: type, source: str) -> None:
    """Raises: ParameterError for a value of another kind; source: what gives one."""
    if not isinstance(value, kind):
        raise ParameterError(
            f"{argument}: not a {kind.__name__}; expected one from {source}, got {value!r:.80}"
        )


def demand_model(cache: Any, config: ModelConfig) -> None:
    """Raises: ParameterError if a KVCache was made for a model of other sizes."""
    slots = tuple(config.kv_slots(layer)[:2] for layer in range(config.n_layer))
    if slots != cache.slot_shapes:
        pairs = list(zip(slots, cache.slot_shapes, strict=False))
        layer = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
        raise ParameterError(
            f"cache: made for another model; expected {config.n_layer} layers with slots "
            f"{pairs[layer][0]}, got {cache.n_layer} layers with slots {pairs[layer][1]} (of "
            f"layer {layer}); use model.new_cache()"
        )


def demand_room(cache: Any, n_tokens: int) -> None:
    """Raises: ContextFullError if n_tokens more do not fit."""
    n_past, n_ctx = cache.n_past, cache.n_ctx
    if n_past + n_tokens > n_ctx:
        raise ContextFullError(
            f"forward: the tokens do not fit into the context; expected at most "
            f"{n_ctx - n_past} (n_ctx {n_ctx} - n_past {n_past}), got n_tokens {n_tokens}; shorten "
            "the prompt, truncate or shift the cache, or make one with a larger n_ctx"
        )


def demand_can_shift(cache: Any, n_keep: Any, n_discard: Any) -> None:
    """Raises: ParameterError for positions it does not hold, or if layers keep only a window."""
    for name, value in (("n_keep", n_keep), ("n_discard", n_discard)):
        if not (is_integer(value) and value >= 0) and (name, value) != ("n_discard", None):
            raise ParameterError(
                f"shift: {name} is no number of positions; expected 0 or more, got {value!r}"
            )
    if n_keep + (n_discard or 0) > cache.n_past:
        raise ParameterError(
            f"shift: more positions than the cache holds; expected n_keep + n_discard up to "
            f"{cache.n_past}, got {n_keep} + {n_discard or 0}"
        )
    if any(layer.rows < cache.n_ctx for layer in cache.bytes().layers):
        raise ParameterError(
            "shift: layers keep only their sliding window; expected a cache with all "
            "positions, got one with swa_full=False; make it with swa_full=True"
        )
