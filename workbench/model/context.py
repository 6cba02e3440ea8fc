"""Turning cached keys to other positions, for `KVCache.shift`.

    key at position p            R(p) · k
    the same key `delta` on      R(p + delta) · k = R(delta) · R(p) · k

R turns each pair of numbers by its own angle, and the angles of all scalings are proportional to
the position, so that one more turn by R(delta) is all it takes.
Source: llama.cpp src/llama-kv-cache.cpp, `build_rope_shift`. Two things differ: there, each shift
lengthens all keys once more where yarn or longrope lengthens vectors, and turns the keys of layers
that have no rotation (smollm3); here the keys become those of their new positions.
Left out: moving the slots, which is `kv_slots.py`'s.
"""

from typing import Any

import numpy as np

from .transformer import layer_rotation

__all__ = ["turn_keys"]


def turn_keys(network: Any, layer: int, keys: Any, delta: int, n_ctx: int) -> Any:
    """Cached keys of a layer as they would be `delta` positions further on.

    keys: (S, K, D) float16 or float32; n_ctx: positions of the cache. Returns: (S, K, D), float32,
    or a plain copy where the layer does not rotate them.
    """
    if network.config.of_layer(layer).rope is None:
        return keys.copy()
    rotation = layer_rotation(network, layer, np.array([delta]), n_ctx)
    rotation = rotation / np.abs(rotation)  # without yarn's length, which the keys have already
    rotation = np.repeat(rotation.astype(np.complex64), len(keys), axis=0)  # (S, n_rot/2)
    ops, kind, keys = network.ops, network.architecture.rope, keys.astype("float32")
    if network.weights.blk[layer].attn_kv_a_mqa.weight is None:
        return ops.rope(keys, ops.asarray(rotation), kind)
    turned = keys[..., -2 * rotation.shape[1] :]  # the last numbers of a latent key
    turned[...] = ops.rope(turned.copy(), ops.asarray(rotation), kind)
    return keys
