"""The attention of one layer: from the normed residual stream to what is added to it.

    x ─► q, k, v ─► (clamped, normed, rotated) ─► cache ─► scores ─► shares ─► values ─► attn_output

Source: llama.cpp src/llama-graph.cpp (`build_qkv`, `build_attn`) and src/models/*.cpp.
Left out: the arithmetic, which is in `ops`.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from .kv_types import with_hadamard
from .latent_part import latent_queries_keys_values, values_of_latent
from .weights import Part

__all__ = ["alibi_slopes", "attend", "has_head_norm", "query_temperatures"]


def attend(call: Any, layer: int, weights: Any, x: Any) -> Any:
    """(T, E) -> (T, E). call: what the layers share; x: what attention reads."""
    ops = call.network.ops
    q, k, v = _placed_queries_keys_values(call, layer, weights, x)
    n_k, n_v = call.cache.rotations[layer]  # of a cache that rotates what it stores
    q, k, v = (with_hadamard(ops, x, n) for x, n in ((q, n_k), (k, n_k), (v, n_v)))
    keys, values = call.cache.write(layer, call.slot, k, v)  # (S, K, D)
    mixed = _mixed(call, layer, q, keys, values, _rules(call, layer, weights))
    mixed = with_hadamard(ops, mixed, n_v)
    if weights.attn_v_b.weight is not None:
        mixed = values_of_latent(call, layer, weights, mixed)
    mixed = call.tap("kqv_out", layer, mixed)
    if weights.attn_gate.weight is not None:
        gate = ops.sigmoid(ops.linear(x, *weights.attn_gate))
        mixed = call.tap("attn_gated", layer, mixed * gate)
    if weights.attn_sub_norm.weight is not None:
        mixed = call.tap("attn_sub_norm", layer, call.norm(mixed, weights.attn_sub_norm))
    return call.tap("attn_out", layer, ops.linear(mixed, *weights.attn_output))


def _placed_queries_keys_values(
    call: Any, layer: int, weights: Any, x: Any
) -> tuple[Any, Any, Any]:
    """(T, E) -> q (T, H, D), k (T, K, D), v (T, K, Dv), turned to their positions."""
    network = call.network
    config = network.config.of_layer(layer)
    if weights.attn_kv_a_mqa.weight is None:
        q, k, v = _queries_keys_values(call, layer, weights, x)
        q, k = _placed(call, layer, weights, q, k)
    else:
        q, k, v = latent_queries_keys_values(call, layer, weights, x)
    if config.temperature_scale:
        q = q * query_temperatures(network.ops, config, call.positions)
    q = call.tap("Qcur", layer, q)
    k = call.tap("Kcur", layer, k)
    v = call.tap("Vcur", layer, v)
    if network.architecture.scales_queries:
        q = q * np.float32(config.attention_scale)
    return q, k, v


def _rules(call: Any, layer: int, weights: Any) -> Any:
    """How scores become shares in a layer."""
    ops, config = call.network.ops, call.network.config.of_layer(layer)
    return ops.AttentionRules(
        1.0 if call.network.architecture.scales_queries else config.attention_scale,
        config.attn_logit_softcapping,
        config.n_swa,
        config.swa_is_chunked,
        weights.attn_sinks.weight,
        alibi_slopes(ops, config.n_head, config.max_alibi_bias),
    )


def query_temperatures(ops: Any, config: Any, positions: np.ndarray) -> Any:
    """What queries at positions (T,) are multiplied by in a layer: (T, 1, 1) float32.

    Source: llama.cpp src/llama-graph.cpp, `llm_graph_input_attn_temp`.
    """
    steps = (positions + config.temperature_offset) // config.temperature_length
    factors = np.log(steps + 1.0) * config.temperature_scale + 1.0
    return ops.asarray(factors.astype(np.float32)[:, None, None])


def _queries_keys_values(call: Any, layer: int, weights: Any, x: Any) -> tuple[Any, Any, Any]:
    """(T, E) -> (T, H, D), (T, K, D), (T, K, Dv)."""
    ops, config = call.network.ops, call.network.config.of_layer(layer)
    shapes = (
        (weights.attn_q, config.n_head, config.head_dim),
        (weights.attn_k, config.n_head_kv, config.head_dim),
        (weights.attn_v, config.n_head_kv, config.head_dim_v),
    )
    made = []
    for part, n_head, length in shapes:
        y = ops.linear(x, *part)
        if config.clamp_kqv:
            y = y.clip(-config.clamp_kqv, config.clamp_kqv)
        made.append(y.reshape(len(x), n_head, length))
    return tuple(made)


def _placed(call: Any, layer: int, weights: Any, q: Any, k: Any) -> tuple[Any, Any]:
    """Queries and keys normed and turned to their positions, in the architecture's order."""
    architecture = call.network.architecture
    rotation = call.rotation(layer)

    def normed(q: Any, k: Any) -> tuple[Any, Any]:
        q = _head_norm(call, layer, "Qcur_normed", q, weights.attn_q_norm)
        return q, _head_norm(call, layer, "Kcur_normed", k, weights.attn_k_norm)

    if not architecture.qk_norm_after_rope:
        q, k = normed(q, k)
    if rotation is not None:
        q = call.network.ops.rope(q, rotation, architecture.rope)
        k = call.network.ops.rope(k, rotation, architecture.rope)
    if architecture.qk_norm_after_rope:
        q, k = normed(q, k)
    return q, k


def has_head_norm(architecture: Any, config: Any, part: Part) -> bool:
    """Whether a layer norms its queries (or keys): by a weight, or without one where rotated."""
    return part.weight is not None or (architecture.qk_norm_bare and config.rope is not None)


def _head_norm(call: Any, layer: int, tap: str, x: Any, part: Part) -> Any:
    """Norm over each head, or over all heads where the weight is that long."""
    architecture, config = call.network.architecture, call.network.config.of_layer(layer)
    if not has_head_norm(architecture, config, part):
        return x
    norm = getattr(call.network.ops, architecture.qk_norm)
    eps = config.norm_eps
    is_whole = part.weight is not None and part.weight.ndim == 1
    if is_whole and len(part.weight) != x.shape[-1]:
        flat = norm(x.reshape(len(x), -1), part.weight, part.bias, eps)
        return call.tap(tap, layer, flat.reshape(x.shape))
    return call.tap(tap, layer, norm(x, part.weight, part.bias, eps))


def _mixed(call: Any, layer: int, q: Any, keys: Any, values: Any, rules: Any) -> Any:
    """Values mixed by attention, (T, H * Dv); by whole matrices where someone looks at them."""
    ops = call.network.ops
    if not (call.trace.wants("kq", layer) or call.trace.wants("kq_soft_max", layer)):
        return ops.attention(q, keys, values, rules, call.slot)
    kq = call.tap("kq", layer, ops.attention_scores(q, keys))
    probs = call.tap("kq_soft_max", layer, ops.attention_probs(kq, rules, call.slot))
    return ops.attention_values(probs, values)


def alibi_slopes(ops: Any, n_head: int, max_bias: float) -> Any:
    """What a head's scores lose per position of distance: (H,) float32, None without ALiBi.

    Source: ggml-cpu/ops.cpp, `ggml_compute_forward_soft_max`; Press et al., arXiv:2108.12409.
    """
    return ops.asarray(_slopes(n_head, max_bias)) if max_bias else None


@cache  # every layer asks for them at every token
def _slopes(n_head: int, max_bias: float) -> np.ndarray:
    n_even = 1 << int(math.log2(n_head))
    first, second = 2 ** (-max_bias / n_even), 2 ** (-max_bias / 2 / n_even)
    slopes = [
        first ** (head + 1) if head < n_even else second ** (2 * (head - n_even) + 1)
        for head in range(n_head)
    ]
    return np.array(slopes, np.float32)
