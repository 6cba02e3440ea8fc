"""The feed-forward network of one layer: dense, or a few of many experts.

    dense     x ─► ffn_gate, ffn_up ─► activation ─► ffn_down
    experts   x ─► router ─► shares; each chosen expert as above; and shared ones for all tokens

Source: llama.cpp src/llama-graph.cpp (`build_ffn`, `build_moe_ffn`).
Left out: the arithmetic, which is in `ops`.
"""

from typing import Any

import numpy as np

__all__ = ["activation_tap", "feed_forward", "ffn_input", "ffn_norm_tap"]

FFN_NORM_TAPS = {
    "ffn_norm": "ffn_norm",
    "post_attention_norm": "attn_post_norm",
    "attn_output_norm": "attn_out_norm",
}
ACTIVATION_TAPS = {"relu_squared": "sqr(relu)"}  # llama.cpp's name after "ffn_", where it differs


def activation_tap(activation: str) -> str:
    """llama.cpp's name for what an activation gives."""
    return f"ffn_{ACTIVATION_TAPS.get(activation, activation)}"


def ffn_norm_tap(network: Any, weights: Any) -> str:
    """The name of the normed input of a layer's network, "" where no norm is its own."""
    architecture = network.architecture
    if not architecture.ffn_norm or architecture.ffn_reads == "attn_norm":
        return ""
    part = getattr(weights, architecture.ffn_norm)
    is_there = part.weight is not None or not architecture.norms_by_weight
    return FFN_NORM_TAPS[architecture.ffn_norm] if is_there else ""


def ffn_input(call: Any, layer: int, weights: Any, x: Any, read: Any, stream: Any) -> Any:
    """What the network reads, by the architecture.

    x: the layer's input; read: what attention read; stream: x and attention's output.
    """
    network = call.network
    architecture = network.architecture
    tap = ffn_norm_tap(network, weights)
    if not tap:
        return read if architecture.ffn_norm else stream
    of_input = architecture.ffn_reads == "layer_input" and network.config.parallel_residual
    normed = call.norm(x if of_input else stream, getattr(weights, architecture.ffn_norm))
    return call.tap(tap, layer, normed)


def feed_forward(call: Any, layer: int, weights: Any, x: Any, layer_input: Any) -> Any:
    """(T, E) -> (T, E). x: normed; layer_input: what entered the layer."""
    if not call.network.config.of_layer(layer).n_expert:
        return _dense(call, layer, weights, x)
    out = _experts(call, layer, weights, *_expert_inputs(call, layer, weights, x, layer_input))
    if weights.ffn_up_shexp.weight is not None:
        out = call.tap("ffn_out", layer, out + _shared_expert(call, layer, weights, x))
    if weights.ffn_up.weight is not None:
        beside = _dense(call, layer, weights, x)
        out = (out + beside) * np.float32(call.network.architecture.beside_scale)
    return out


def _expert_inputs(
    call: Any, layer: int, weights: Any, x: Any, layer_input: Any
) -> tuple[Any, Any]:
    """What experts read and what their router reads."""
    architecture = call.network.architecture
    if architecture.experts_norm:
        part = getattr(weights, architecture.experts_norm)
        x = call.tap(architecture.experts_norm, layer, call.norm(layer_input, part))
    return x, layer_input if architecture.routes_layer_input else x


def _dense(call: Any, layer: int, weights: Any, x: Any) -> Any:
    ops, architecture = call.network.ops, call.network.architecture
    up = _through(call, layer, "ffn_up", x, weights.ffn_up)  # (T, F)
    activation = getattr(ops, architecture.activation)
    if weights.ffn_gate.weight is None:
        x = activation(up, *call.network.config.of_layer(layer).activation_numbers)
    else:
        x = activation(_through(call, layer, "ffn_gate", x, weights.ffn_gate), up)
    x = call.tap(activation_tap(architecture.activation), layer, x)
    if weights.ffn_act.weight is not None:
        x = call.tap("ffn_act", layer, x / weights.ffn_act.weight)
    if weights.ffn_sub_norm.weight is not None:
        x = call.tap("ffn_sub_norm", layer, call.norm(x, weights.ffn_sub_norm))
    return call.tap("ffn_out", layer, ops.linear(x, *weights.ffn_down))


def _through(call: Any, layer: int, tap: str, x: Any, part: Any, biased: str = "_b") -> Any:
    """x times a matrix, and plus its bias under a name of its own, as in llama.cpp's graph."""
    x = call.tap(tap, layer, call.network.ops.linear(x, part.weight))
    return x if part.bias is None else call.tap(tap + biased, layer, x + part.bias)


def _experts(call: Any, layer: int, weights: Any, x: Any, routed: Any) -> Any:
    """Each token through the few experts its router chose, by what `routed` holds of it."""
    network = call.network
    ops, architecture = network.ops, network.architecture
    ids, shares = _routed(call, layer, weights, routed)
    experts = (weights.ffn_gate_exps, weights.ffn_up_exps, weights.ffn_down_exps)
    activation = getattr(ops, architecture.activation)
    x = ops.mix_experts(x, ids, shares, experts, activation, ops.linear, architecture.weigh_first)
    return call.tap("ffn_moe_out", layer, x)


def _routed(call: Any, layer: int, weights: Any, x: Any) -> tuple[Any, Any]:
    """Ids and shares of each token's experts, (T, n_expert_used) both."""
    ops, config = call.network.ops, call.network.config.of_layer(layer)
    architecture = call.network.architecture
    logits = _through(call, layer, "ffn_moe_logits", x, weights.ffn_gate_inp, "_biased")
    probs = call.tap("ffn_moe_probs", layer, ops.expert_probs(logits, config.expert_gating))
    ids = ops.choose_experts(
        logits if architecture.select_by_logits else probs,
        config.n_expert_used,
        weights.exp_probs_b.bias,
        config.n_expert_groups,
        config.n_group_used,
    )
    ids = call.tap("ffn_moe_topk", layer, ids)
    shares = call.tap("ffn_moe_weights", layer, ops.shares_of_experts(probs, ids))
    if config.expert_gating == "softmax_weight":
        shares = call.tap("ffn_moe_weights_softmax", layer, ops.softmax(shares))
    if config.normalizes_shares:
        shares = call.tap("ffn_moe_weights_norm", layer, ops.normalized_shares(shares))
    if config.expert_weights_scale != 1:
        shares = call.tap("ffn_moe_weights_scaled", layer, shares * config.expert_weights_scale)
    return ids, shares


def _shared_expert(call: Any, layer: int, weights: Any, x: Any) -> Any:
    """The expert that every token passes, by its own gate where it has one."""
    ops = call.network.ops
    up = ops.linear(x, *weights.ffn_up_shexp)
    hidden = getattr(ops, call.network.architecture.activation)(
        ops.linear(x, *weights.ffn_gate_shexp), up
    )
    out = call.tap("ffn_shexp", layer, ops.linear(hidden, *weights.ffn_down_shexp))
    if weights.ffn_gate_inp_shexp.weight is None:
        return out
    gate = ops.sigmoid(x @ weights.ffn_gate_inp_shexp.weight[:, None])  # (T, 1)
    return call.tap("ffn_shexp_out", layer, out * gate)
