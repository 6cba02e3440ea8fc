"""What a KV cache takes, to the byte: predicted from a model's numbers, and as allocated.

    bytes = sum over layers of  rows · KV heads · (bytes of a head's key + bytes of its value)

    rows    n_ctx, or what a layer with a sliding window keeps of it (`kv_slots.window_capacity`)
    heads   KV heads: with grouped queries several heads share one, with latent attention all do

Left out: what else a model takes, which is `analysis/memory_plan.py`.
"""

from dataclasses import dataclass
from typing import Any

from ..ops import cpu
from .config import ModelConfig
from .kv_checks import checked_flag, checked_n_ctx, demand_instance
from .kv_slots import window_capacity
from .kv_types import CacheType, cache_types

__all__ = ["CacheBytes", "LayerBytes", "predict_cache_bytes"]


@dataclass(frozen=True)
class LayerBytes:
    """One layer's part of a cache.

    rows: positions there is room for; n_swa: positions that a token sees, 0 for all; k_shape,
    v_shape: (K, D) of one row; type_k, type_v: how they are stored.
    """

    rows: int
    n_swa: int
    k_shape: tuple[int, int]
    v_shape: tuple[int, int]
    type_k: CacheType
    type_v: CacheType

    @property
    def k(self) -> int:
        """Bytes of all keys."""
        return self.rows * self.k_shape[0] * self.type_k.nbytes(self.k_shape[1])

    @property
    def v(self) -> int:
        """Bytes of all values."""
        return self.rows * self.v_shape[0] * self.type_v.nbytes(self.v_shape[1])

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.k + self.v


@dataclass(frozen=True)
class CacheBytes:
    """The bytes of a cache.

    n_ctx: positions; layers: each layer's part, as predicted; allocated: bytes of the arrays there
    are, 0 for a prediction.
    """

    n_ctx: int
    layers: tuple[LayerBytes, ...]
    allocated: int = 0

    @property
    def predicted(self) -> int:
        """Bytes of all layers by the formula."""
        return sum(layer.total for layer in self.layers)

    @property
    def per_position(self) -> int:
        """Bytes that one more position takes where all layers keep it."""
        return sum(layer.total // layer.rows for layer in self.layers)

    def to_frame(self) -> Any:
        """A DataFrame with a row a layer: how it is stored, and bytes of keys and of values."""
        import pandas as pd  # half a second, which `import workbench` need not pay

        rows = [
            {
                "type_k": layer.type_k.name,
                "type_v": layer.type_v.name,
                "heads": layer.k_shape[0],
                "rows": layer.rows,
                "window": layer.n_swa,
                "k_bytes": layer.k,
                "v_bytes": layer.v,
                "bytes": layer.total,
            }
            for layer in self.layers
        ]
        return pd.DataFrame(rows).rename_axis("layer")


def predict_cache_bytes(
    config: ModelConfig,
    n_ctx: int | None = None,
    type_k: Any = "f16",
    type_v: Any = "f16",
    swa_full: bool = True,
    n_piece: int = cpu.TOKENS_AT_ONCE,
) -> CacheBytes:
    """What `model.new_cache` with the same arguments takes, without making one.

    n_piece: tokens that go through the layers together, for which layers that keep only a window
    have room beside it (512, on a GPU in the fast mode 2048).
    Raises: ParameterError for types, flags or an n_ctx that no cache can have.
    """
    demand_instance("config", config, ModelConfig, "model.config")
    n_ctx = checked_n_ctx(config.n_ctx_train if n_ctx is None else n_ctx)
    swa_full = checked_flag("swa_full", swa_full)
    shapes = [config.kv_slots(layer) for layer in range(config.n_layer)]
    types_k = cache_types("type_k", type_k, [k[1] for k, _, _ in shapes])
    types_v = cache_types("type_v", type_v, [v[1] for _, v, _ in shapes])
    layers = [
        LayerBytes(
            window_capacity(n_swa, n_ctx, n_piece) if n_swa and not swa_full else n_ctx,
            n_swa,
            k,
            v,
            of_k,
            of_v,
        )
        for (k, v, n_swa), of_k, of_v in zip(shapes, types_k, types_v, strict=True)
    ]
    return CacheBytes(n_ctx, tuple(layers))
