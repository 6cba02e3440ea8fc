"""What a KV cache asks of its model: turning keys to other positions, and who the model is.

    key at position p            R(p) · k
    the same key `delta` on      R(p + delta) · k = R(delta) · R(p) · k
    the key before rotation      R(p)⁻¹ · R(p) · k

R turns each pair of numbers by its own angle, and the angles of all scalings are proportional to
the position, so that one more turn by R(delta) is all it takes.
Source: llama.cpp src/llama-kv-cache.cpp, `build_rope_shift`. Two things differ: there, each shift
lengthens all keys once more where yarn or longrope lengthens vectors, and turns the keys of layers
that have no rotation (smollm3); here the keys become those of their new positions.
Left out: moving the slots, which is `kv_slots.py`'s.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from .transformer import layer_rotation

__all__ = ["CacheOrigin"]

N_SAMPLES, SAMPLE = 16, 1024  # pieces of each tensor that tell models apart, and their bytes


class CacheOrigin:
    """The model that a cache was made by, as far as the cache needs it; model: a `Model`."""

    def __init__(self, model: Any):
        self._model = model

    def rotates(self, layer: int) -> bool:
        """Whether a layer rotates its keys by their position."""
        return self._model.network.config.of_layer(layer).rope is not None

    def turned(self, layer: int, keys: Any, delta: int, n_ctx: int) -> Any:
        """Cached keys of a layer as they would be `delta` positions further on.

        keys: (S, K, D) float32, changed where a key is latent; n_ctx: positions of the cache.
        Returns: (S, K, D) float32.
        """
        rotation = layer_rotation(self._model.network, layer, np.array([delta]), n_ctx)
        rotation = rotation / np.abs(rotation)  # without yarn's length, which the keys have already
        return self._rotate(layer, keys, np.repeat(rotation, len(keys), axis=0))

    def unrotated(self, layer: int, keys: Any, first: int, n_ctx: int) -> Any:
        """Cached keys of a layer as they were before they were rotated.

        keys: (S, K, D) float32 of the positions from `first` on, changed where a key is latent.
        Returns: (S, K, D) float32.
        """
        positions = np.arange(first, first + len(keys))
        return self._rotate(
            layer, keys, 1 / layer_rotation(self._model.network, layer, positions, n_ctx)
        )

    def _rotate(self, layer: int, keys: Any, rotation: np.ndarray) -> Any:
        """keys (S, K, D) times rotation (S, n_rot/2)."""
        network = self._model.network
        ops, kind = network.ops, network.architecture.rope
        rotation = ops.asarray(rotation.astype(np.complex64))
        if network.weights.blk[layer].attn_kv_a_mqa.weight is None:
            return ops.rope(keys, rotation, kind)
        turned = keys[..., -2 * rotation.shape[1] :]  # the last numbers of a latent key
        turned[...] = ops.rope(turned.copy(), rotation, kind)
        return keys

    def identity(self) -> dict[str, str]:
        """What tells this model from others: its sizes and settings, and a hash of its weights.

        Of each tensor, pieces at equal distances are read, from its first byte to its last. Two
        files of one model in other types are two models: their keys differ.
        """
        gguf, config = self._model.gguf, self._model.config
        digest = hashlib.sha256()
        for name, info in gguf.tensors.items():
            digest.update(json.dumps([name, info.type, list(info.shape)]).encode())
            for piece in _samples(gguf.raw(name).reshape(-1)):
                digest.update(piece)
        settings = {
            key: str(np.asarray(value).tolist())
            for key, value in gguf.metadata.items()
            if key.startswith(f"{config.architecture}.")
        }
        return {
            "architecture": config.architecture,
            "n_layer": str(config.n_layer),
            "n_vocab": str(config.n_vocab),
            "name": str(gguf.metadata.get("general.name", "")),
            **settings,
            "weights": digest.hexdigest(),
        }


def _samples(raw: np.ndarray) -> Iterator[np.ndarray]:
    """Pieces of bytes (n,) at equal distances, the first and the last among them."""
    if len(raw) <= N_SAMPLES * SAMPLE:
        yield raw
        return
    for start in np.linspace(0, len(raw) - SAMPLE, N_SAMPLES).astype(int):
        yield raw[start : start + SAMPLE]
