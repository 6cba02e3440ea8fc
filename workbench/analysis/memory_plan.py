"""How much memory a model takes: its weights, and a KV cache that grows with the context.

    total(n_ctx) = weights + n_ctx · (bytes of keys and values of one position)

Source: `model/kv_cache.py` (one slot a position; sliding windows are kept whole there by default,
as with llama.cpp's `swa_full`).
Left out: buffers of a call, which do not grow with the context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..errors import ParameterError
from ..model.config import ModelConfig
from .token_budget import cache_slot_nbytes

__all__ = ["MemoryPlan", "memory_plan"]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of a model's weights, and of one position in a cache of each type."""

    weights: int
    position: Mapping[str, int]
    n_ctx_train: int

    def total(self, type: str, n_ctx: int) -> int:
        """Bytes of the weights and of a cache of a type for n_ctx positions."""
        return self.weights + n_ctx * self.position[type]

    def fits(self, type: str, nbytes: int) -> int:
        """Positions for which there is room in nbytes; 0 if not even the weights fit."""
        return max(0, nbytes - self.weights) // self.position[type]

    def even(self, type: str) -> int:
        """Positions at which the cache is as large as the weights."""
        return self.weights // self.position[type]

    def to_frame(self, n_ctxs: Sequence[int]) -> pd.DataFrame:
        """A row for each n_ctx: MB of the weights and of a cache of each type."""
        columns = {"n_ctx": list(n_ctxs), "weights_mb": self.weights / 1e6}
        columns |= {
            f"{type}_mb": [n_ctx * nbytes / 1e6 for n_ctx in n_ctxs]
            for type, nbytes in self.position.items()
        }
        return pd.DataFrame(columns)


def memory_plan(
    config: ModelConfig, tensors: Mapping[str, Any], types: Sequence[str] = ("f16", "f32")
) -> MemoryPlan:
    """Weigh a model and its caches.

    config, tensors: `model.config`, `model.gguf.tensors`; types: of keys and values alike.
    Raises: ParameterError for no type, or an unknown one.
    """
    if not types:
        raise ParameterError(
            f"types: no cache to weigh; expected names such as 'f16', got {types!r}; give one"
        )
    layers = range(config.n_layer)
    return MemoryPlan(
        sum(info.nbytes for info in tensors.values()),
        {t: sum(cache_slot_nbytes(config, layer, t, t) for layer in layers) for t in types},
        config.n_ctx_train,
    )
