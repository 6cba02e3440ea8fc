"""Latent attention: keys and values of all heads are made from one short vector a token.

    x ─► attn_kv_a_mqa ─► latent vector, normed (R numbers)  and  one rotated key for all heads
    x ─► attn_q (or attn_q_a, norm, attn_q_b) ─► a query of each head: plain part, rotated part

A file means one of two equal ways. With attn_kv_b the latent vector becomes keys and values of
every head, which the cache then holds. With attn_k_b and attn_v_b the cache holds only the latent
vector and the rotated key, as the one KV head there is: attn_k_b is multiplied into the queries and
attn_v_b into what attention gives.

    q · (attn_k_b c) = (attn_k_bᵀ q) · c          c: the latent vector of a position

Source: llama.cpp src/models/deepseek2.cpp, minicpm3.cpp; Liu et al., arXiv:2405.04434.
Left out: the attention itself, which is as everywhere (attention_part.py).
"""

from typing import Any

import numpy as np

__all__ = ["latent_queries_keys_values", "values_of_latent"]


def latent_queries_keys_values(call: Any, layer: int, weights: Any, x: Any) -> tuple[Any, Any, Any]:
    """(T, E) -> q (T, H, D), k (T, K, D), v (T, K, Dv), D the rotated part last."""
    config, ops = call.network.config.of_layer(layer), call.network.ops
    nope, rank = config.head_dim_nope, config.kv_lora_rank
    q = _queries(call, weights, x).reshape(len(x), config.n_head, config.head_dim_mla)
    q_plain, q_turned = q[..., :nope], _turned(call, layer, q[..., nope:])
    kept = ops.linear(x, *weights.attn_kv_a_mqa)  # (T, R + n_rot)
    k_turned = _turned(call, layer, kept[:, None, rank:])  # (T, 1, n_rot), the same for all heads
    latent = call.norm(kept[:, :rank], weights.attn_kv_a_norm)
    if weights.attn_kv_b.weight is None:
        q_plain = by_heads(ops, q_plain, weights.attn_k_b.weight)  # (T, H, R)
        k_plain = v = latent[:, None]
    else:
        made = ops.linear(latent, *weights.attn_kv_b).reshape(len(x), config.n_head, -1)
        k_plain, v = made[..., :nope], made[..., nope:]
        k_turned = k_turned.repeat(config.n_head, axis=1)
    return _joined(q_plain, q_turned), _joined(k_plain, k_turned), v


def values_of_latent(call: Any, layer: int, weights: Any, x: Any) -> Any:
    """What attention mixed of latent vectors, (T, H * R), as values: (T, H * Dv)."""
    config = call.network.config.of_layer(layer)
    mixed = x.reshape(len(x), config.n_head, config.kv_lora_rank)
    return by_heads(call.network.ops, mixed, weights.attn_v_b.weight).reshape(len(x), -1)


def by_heads(ops: Any, x: Any, weight: Any) -> Any:
    """Each head through a matrix of its own: x (T, H, n), weight (H, m, n) -> (T, H, m)."""
    heads = [ops.linear(x[:, head], weight[head]) for head in range(x.shape[1])]
    return np.stack(heads, axis=1)


def _queries(call: Any, weights: Any, x: Any) -> Any:
    """(T, E) -> (T, H * D)."""
    ops = call.network.ops
    if weights.attn_q.weight is not None:
        return ops.linear(x, *weights.attn_q)
    short = call.norm(ops.linear(x, *weights.attn_q_a), weights.attn_q_a_norm)
    return ops.linear(short, *weights.attn_q_b)


def _turned(call: Any, layer: int, x: Any) -> Any:
    """x (T, heads, n_rot) turned to its positions."""
    rotation, kind = call.rotation(layer), call.network.architecture.rope
    return call.network.ops.rope(x.copy(), rotation, kind)


def _joined(plain: Any, turned: Any) -> Any:
    return np.concatenate([plain, turned], axis=-1)
