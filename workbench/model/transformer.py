"""The forward pass: token ids in, logits out, for every architecture.

    x = token_embd[ids]                                       (T, E)
    for each layer:
        x += attention of norm(x)                             attention_part.py
        x += feed-forward network of norm(x)                  ffn_part.py
    logits = output · norm(x)                                 (T, V)

Nothing here is of one architecture or device: what differs is data in `architectures/` (its spec.py
shows where each field acts), the operations come from `ops`, the activations go past a trace by
llama.cpp's graph names.
Source: llama.cpp src/models/*.cpp and src/llama-graph.cpp.
Left out: several sequences in one call, and the fast decode path of a GPU.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ParameterError
from .architectures import Architecture
from .attention_part import attend
from .config import ModelConfig
from .ffn_part import feed_forward, ffn_input
from .kv_cache import KVCache
from .kv_checks import demand_model
from .rope import RopeConfig, rope_rotations
from .rotations import Rotations
from .trace import NO_TRACE, ActivationTrace
from .weights import Part, Weights

__all__ = ["Network", "forward", "layer_rotation", "unembed"]


@dataclass(frozen=True, eq=False)
class Network:
    """What the forward pass needs of a model.

    ops: its device's operations; device: its name; rotations: what it remembers of them
    """

    config: ModelConfig
    architecture: Architecture
    weights: Weights
    ops: Any
    device: str = "cpu"
    rotations: Rotations = field(default_factory=Rotations, init=False, repr=False)

    def here(self) -> AbstractContextManager:
        """The model's device as the current one, within a `with` statement."""
        return self.ops.on_device(self.device)


class _Call:
    """What all layers of one piece share."""

    def __init__(self, network: Network, cache: KVCache, slot: int, n_tokens: int, trace: Any):
        """slot: of the piece's first token; its position as well."""
        self.network, self.cache, self.slot, self.trace = network, cache, slot, trace
        self.positions = np.arange(slot, slot + n_tokens)
        self._rotations: dict[RopeConfig, Any] = {}

    def tap(self, name: str, layer: int | None, x: Any) -> Any:
        """Show an activation to the trace; what it gives back goes on."""
        return self.trace.visit(name, layer, x, self.network.ops)

    def norm(self, x: Any, part: Part) -> Any:
        """The architecture's norm with a part's weight and bias."""
        norm = getattr(self.network.ops, self.network.architecture.norm)
        return norm(x, part.weight, part.bias, self.network.config.norm_eps)

    def rotation(self, layer: int) -> Any:
        """(T, n_rot/2) complex64 of a layer, None where it has none; the same for all alike."""
        rope = self.network.config.of_layer(layer).rope
        if rope is not None and rope not in self._rotations:
            n_ctx, stop = self.cache.n_ctx, self.slot + len(self.positions)
            self._rotations[rope] = self.network.rotations.rows(
                *(rope, n_ctx, self.slot, stop),
                lambda at: self.network.ops.asarray(layer_rotation(self.network, layer, at, n_ctx)),
            )
        return None if rope is None else self._rotations[rope]


def layer_rotation(network: Network, layer: int, positions: np.ndarray, n_ctx: int) -> np.ndarray:
    """How a layer turns pairs at positions (T,): (T, n_rot/2) complex64; the layer has rope.

    n_ctx: positions of the cache, which decides between long and short factors.
    """
    config = network.config.of_layer(layer)
    divisors = network.weights.rope_divisors(n_ctx, config.rope.n_ctx_orig)
    divisors = None if divisors is None else network.ops.to_numpy(divisors)
    return rope_rotations(config.rope, config.n_rot, positions, divisors)


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
    ids = checked_token_ids(token_ids, network.config.n_vocab)
    demand_own_cache(cache, network.config)
    trace = _begin_trace(trace, network, len(ids), cache.n_past, last_only)
    logits, n_piece = [], network.ops.TOKENS_AT_ONCE
    with network.here(), cache.appending(ids):
        for start in range(0, len(ids), n_piece):
            piece = ids[start : start + n_piece]
            trace.piece(start, len(piece))
            call = _Call(network, cache, cache.n_past + start, len(piece), trace)
            x = _layers(call, piece)
            if not last_only:
                logits.append(unembed(network, x, trace))
            elif start + n_piece >= len(ids):
                logits.append(unembed(network, x[-1:], trace))
        return logits[0] if len(logits) == 1 else network.ops.concatenate(logits)


def _embedded(call: _Call, ids: np.ndarray) -> Any:
    """(T, E): what enters the first layer."""
    network, weights, ops = call.network, call.network.weights, call.network.ops
    x = call.tap("inp_embd", None, ops.get_rows(weights.token_embd.weight, ids))
    if network.config.embedding_scale != 1:
        x = call.tap("inp_scaled", None, x * np.float32(network.config.embedding_scale))
    if weights.token_embd_norm.weight is not None:
        x = call.tap("inp_norm", None, call.norm(x, weights.token_embd_norm))
    if weights.position_embd.weight is not None:
        positions = np.arange(call.slot, call.slot + len(ids))
        x = call.tap("inpL", None, x + ops.get_rows(weights.position_embd.weight, positions))
    return x


def _layers(call: _Call, ids: np.ndarray) -> Any:
    """(T, E) after the last layer."""
    x = _embedded(call, ids)
    for layer, weights in enumerate(call.network.weights.blk):
        x = _layer(call, layer, weights, x)
    return x


def _layer(call: _Call, layer: int, weights: Any, x: Any) -> Any:
    """(T, E) -> (T, E): attention and feed-forward network, each added to the stream."""
    network, architecture = call.network, call.network.architecture
    scale = np.float32(network.config.residual_scale)
    read = x
    if architecture.pre_norm:
        read = call.tap("attn_norm", layer, call.norm(x, weights.attn_norm))
    attention_reads = read
    if weights.attn_norm_2.weight is not None:
        attention_reads = call.tap("attn_norm_2", layer, call.norm(x, weights.attn_norm_2))
    out = attend(call, layer, weights, attention_reads)
    out = _post_norm(call, layer, weights, "attn_post_norm", architecture.attn_post_norm, out)
    stream = x + (out if scale == 1 else out * scale)
    stream = call.tap(architecture.residual_tap, layer, stream)
    hidden = ffn_input(call, layer, weights, x, read, stream)
    out = feed_forward(call, layer, weights, hidden, x)
    out = _post_norm(call, layer, weights, "ffn_post_norm", architecture.ffn_post_norm, out)
    return call.tap("l_out", layer, stream + (out if scale == 1 else out * scale))


def _post_norm(call: _Call, layer: int, weights: Any, tap: str, part: str, x: Any) -> Any:
    return call.tap(tap, layer, call.norm(x, getattr(weights, part))) if part else x


def unembed(network: Network, x: Any, trace: Any = NO_TRACE) -> Any:
    """What the model makes of a residual stream: the norm after the last layer and the head.

    x: (T, E) float32 on the device. Returns: (T, n_vocab) float32 logits.
    """
    ops, config, part = network.ops, network.config, network.weights.output_norm
    with network.here():
        x = getattr(ops, network.architecture.norm)(x, part.weight, part.bias, config.norm_eps)
        x = trace.visit("result_norm", None, x, ops)
        x = ops.linear(x, *network.weights.output)
        if config.logit_scale != 1:
            x *= np.float32(config.logit_scale)
        if config.final_logit_softcapping:
            x = ops.soft_cap(x, config.final_logit_softcapping)
        return trace.visit("result_output", None, x, ops)


def checked_token_ids(token_ids: Any, n_vocab: int) -> np.ndarray:
    """(T,) int64 of ids that the model has. Raises: ParameterError for anything else."""
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


def _begin_trace(trace: Any, network: Network, n_tokens: int, n_past: int, last_only: bool) -> Any:
    """The trace, ready for a call; NO_TRACE for None."""
    if trace is None:
        return NO_TRACE
    if not isinstance(trace, ActivationTrace):
        raise ParameterError(
            f"trace: not an ActivationTrace; expected None or ActivationTrace(names), "
            f"got {trace!r:.80}"
        )
    trace.begin(network, n_tokens, n_past, last_only)
    return trace


def demand_own_cache(cache: Any, config: ModelConfig) -> None:
    """Raises: ParameterError for what is no KVCache, or another model's."""
    if not isinstance(cache, KVCache):
        raise ParameterError(
            f"cache: not a KVCache; expected one made by model.new_cache(), got {cache!r:.80}"
        )
    demand_model(cache, config)
