"""The forward pass: token ids in, logits out, for every architecture.

    x = token_embd[ids]                                       (T, E)
    for each layer:
        x += attn_output · attention(rope(q), rope(k), v)     q, k, v from norm(x)
        x += feed-forward network of norm(x)                  dense, or a few of many experts
    logits = output · norm(x)                                 (T, V)

Nothing here is of one architecture or device: names of operations come from `architectures.py`,
the operations from `ops`, the activations go past a trace by llama.cpp's graph names.
Source: llama.cpp src/models/llama.cpp and src/llama-graph.cpp.
Left out: several sequences in one call, and the fast decode path of a GPU.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError
from .architectures import Architecture
from .config import ModelConfig
from .kv_cache import KVCache
from .rope import rope_rotations
from .trace import NO_TRACE, ActivationTrace
from .weights import Part, Weights

__all__ = ["Network", "forward"]

TOKENS_AT_ONCE = 512  # a long prompt goes through in pieces, as with llama.cpp's n_ubatch


@dataclass(frozen=True, eq=False)
class Network:
    """What the forward pass needs of a model."""

    config: ModelConfig
    architecture: Architecture
    weights: Weights
    ops: Any


@dataclass(frozen=True, eq=False)
class _Call:
    """What all layers of one piece share."""

    network: Network
    cache: KVCache
    slot: int  # of the piece's first token; its position as well
    rotation: Any  # (T, n_rot/2) complex64
    trace: Any

    def tap(self, name: str, layer: int | None, x: Any) -> Any:
        return self.trace.visit(name, layer, x, self.network.ops)


def forward(
    network: Network,
    token_ids: Any,
    cache: KVCache,
    trace: ActivationTrace | None = None,
    last_only: bool = False,
) -> Any:
    """Send tokens through the model at the positions after those in the cache.

    token_ids: (T,) integers; cache: gets their keys and values; trace: what to capture of them.
    Returns: (T, n_vocab) float32 logits on the device, (1, n_vocab) of the last one if last_only.
    Raises: ParameterError for unusable ids or another model's cache, ContextFullError if they do
        not fit. The cache then is as it was.
    """
    ids = _checked_ids(token_ids, network.config.n_vocab)
    _demand_own_cache(cache, network.config)
    cache.demand_room(len(ids))
    step = TOKENS_AT_ONCE
    if trace is None:
        trace = NO_TRACE
    else:
        _demand_trace(trace)
        trace.begin(network.config)
        step = len(ids)  # a trace sees all tokens in one piece
    logits = []
    for start in range(0, len(ids), step):
        piece = ids[start : start + step]
        call = _start_call(network, cache, cache.n_past + start, len(piece), trace)
        x = _layers(call, piece)
        if not last_only:
            logits.append(_logits(call, x))
        elif start + step >= len(ids):
            logits.append(_logits(call, x[-1:]))
    cache.commit(cache.n_past + len(ids))
    return logits[0] if len(logits) == 1 else network.ops.concatenate(logits)


def _start_call(network: Network, cache: KVCache, slot: int, n_tokens: int, trace: Any) -> _Call:
    config, ops = network.config, network.ops
    positions = np.arange(slot, slot + n_tokens)
    divisors = network.weights.rope_freqs.weight
    divisors = None if divisors is None else ops.to_numpy(divisors)
    rotation = ops.asarray(rope_rotations(config.rope, config.n_rot, positions, divisors))
    return _Call(network, cache, slot, rotation, trace)


def _layers(call: _Call, ids: np.ndarray) -> Any:
    """(T, E) after the last layer."""
    network = call.network
    x = network.ops.get_rows(network.weights.token_embd.weight, ids)
    x = call.tap("inp_embd", None, x)
    for layer, weights in enumerate(network.weights.blk):
        x = x + _attention(call, layer, weights, x)
        x = call.tap("ffn_inp", layer, x)
        hidden = _norm(network, x, weights.ffn_norm)
        hidden = call.tap("ffn_norm", layer, hidden)
        feed_forward = _experts if network.config.n_expert else _dense
        x += feed_forward(call, layer, weights, hidden)
        x = call.tap("l_out", layer, x)
    return x


def _norm(network: Network, x: Any, part: Part) -> Any:
    norm = getattr(network.ops, network.architecture.norm)
    return norm(x, part.weight, part.bias, network.config.norm_eps)


def _attention(call: _Call, layer: int, weights: Any, x: Any) -> Any:
    """(T, E) -> (T, E): from the norm before attention to its output matrix."""
    network, config, ops = call.network, call.network.config, call.network.ops
    x = _norm(network, x, weights.attn_norm)
    x = call.tap("attn_norm", layer, x)
    n_tokens, n_head_kv = len(x), config.n_head_kv
    q = ops.linear(x, *weights.attn_q).reshape(n_tokens, config.n_head, config.head_dim)
    k = ops.linear(x, *weights.attn_k).reshape(n_tokens, n_head_kv, config.head_dim)
    v = ops.linear(x, *weights.attn_v).reshape(n_tokens, n_head_kv, config.head_dim_v)
    q = ops.rope(q, call.rotation, network.architecture.rope)  # (T, H, D)
    k = ops.rope(k, call.rotation, network.architecture.rope)  # (T, K, D)
    q = call.tap("Qcur", layer, q)
    k = call.tap("Kcur", layer, k)
    v = call.tap("Vcur", layer, v)
    keys, values = call.cache.write(layer, call.slot, k, v)  # (S, K, D)
    scores = (config.n_head, n_tokens, len(keys))  # (H, T, S)
    kq, kq_soft_max = (
        ops.zeros(scores, "float32") if call.trace.wants(name, layer) else None
        for name in ("kq", "kq_soft_max")
    )
    x = ops.attention(q, keys, values, 1 / math.sqrt(config.head_dim), kq, kq_soft_max)
    kq = call.tap("kq", layer, kq)
    kq_soft_max = call.tap("kq_soft_max", layer, kq_soft_max)
    x = call.tap("kqv_out", layer, x)
    x = ops.linear(x, *weights.attn_output)
    x = call.tap("attn_out", layer, x)
    return x


def _dense(call: _Call, layer: int, weights: Any, x: Any) -> Any:
    """(T, E) -> (T, E): the gated feed-forward network."""
    ops = call.network.ops
    gate, up = ops.linear(x, *weights.ffn_gate), ops.linear(x, *weights.ffn_up)  # (T, F)
    gate = call.tap("ffn_gate", layer, gate)
    up = call.tap("ffn_up", layer, up)
    x = getattr(ops, call.network.architecture.activation)(gate, up)
    x = call.tap("ffn_swiglu", layer, x)
    x = ops.linear(x, *weights.ffn_down)
    x = call.tap("ffn_out", layer, x)
    return x


def _experts(call: _Call, layer: int, weights: Any, x: Any) -> Any:
    """(T, E) -> (T, E): each token through the few experts its router chose."""
    ops = call.network.ops
    logits = ops.linear(x, *weights.ffn_gate_inp)  # (T, n_expert)
    probs, ids, shares, shares_norm = ops.route_experts(logits, call.network.config.n_expert_used)
    logits = call.tap("ffn_moe_logits", layer, logits)
    probs = call.tap("ffn_moe_probs", layer, probs)
    ids = call.tap("ffn_moe_topk", layer, ids)
    shares = call.tap("ffn_moe_weights", layer, shares)
    shares_norm = call.tap("ffn_moe_weights_norm", layer, shares_norm)
    experts = (weights.ffn_gate_exps, weights.ffn_up_exps, weights.ffn_down_exps)
    activation = getattr(ops, call.network.architecture.activation)
    x = ops.mix_experts(x, ids, shares_norm, tuple(part.weight for part in experts), activation)
    x = call.tap("ffn_moe_out", layer, x)
    return x


def _logits(call: _Call, x: Any) -> Any:
    """(T, E) -> (T, V): the norm after the last layer and the output matrix."""
    network = call.network
    x = _norm(network, x, network.weights.output_norm)
    x = call.tap("result_norm", None, x)
    x = network.ops.linear(x, *network.weights.output)
    x = call.tap("result_output", None, x)
    return x


def _checked_ids(token_ids: Any, n_vocab: int) -> np.ndarray:
    """(T,) int64 of ids that the model has."""
    try:
        ids = np.asarray(token_ids)
    except (ValueError, TypeError, OverflowError):  # ragged lists, integers beyond 64 bits
        ids = np.empty(0, object)
    if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise ParameterError(
            "token_ids: not a sequence of token ids; expected a non-empty one-dimensional "
            f"sequence of integers, got {token_ids!r:.80}; tokenizer.encode makes one from text"
        )
    bad = np.flatnonzero((ids < 0) | (ids >= n_vocab))
    if bad.size:
        raise ParameterError(
            f"token_ids[{bad[0]}]: no such token; expected an id from 0 to {n_vocab - 1}, "
            f"got {ids[bad[0]]}; it may come from another model's tokenizer"
        )
    return ids.astype(np.int64)


def _demand_trace(trace: Any) -> None:
    if not isinstance(trace, ActivationTrace):
        raise ParameterError(
            f"trace: not an ActivationTrace; expected None or ActivationTrace(names), "
            f"got {trace!r:.80}"
        )


def _demand_own_cache(cache: Any, config: ModelConfig) -> None:
    if not isinstance(cache, KVCache):
        raise ParameterError(
            f"cache: not a KVCache; expected one made by model.new_cache(), got {cache!r:.80}"
        )
    slots = ((config.n_head_kv, config.head_dim), (config.n_head_kv, config.head_dim_v))
    if cache.n_layer != config.n_layer or cache.slot_shapes != slots:
        raise ParameterError(
            f"cache: made for another model; expected {config.n_layer} layers with slots "
            f"{slots[0]} and {slots[1]}, got {cache.n_layer} layers with slots "
            f"{cache.slot_shapes[0]} and {cache.slot_shapes[1]}; use model.new_cache()"
        )
