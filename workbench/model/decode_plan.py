"""What the decode kernel needs to know of a model: whether it can run it, its sizes and rules.

    network, cache ─▶ why_not_decoded   a sentence, or nothing
    network        ─▶ decode_plan       the macros that kernels/decode_*.cu are compiled with

Source: our own; the macros are named at the head of each kernel file.
Left out: room (`decode_memory`), records (`decode_records`); experts, sinks, ALiBi and latent
attention, which the plain pass has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..ops import kernels
from ..ops.packets import PACKET_COLUMNS
from ..ops.sampling_layout import MOST_VOCABULARY
from .decode_memory import (
    MATRICES,
    has_post_norms,
    matrices_of,
    planes_of,
    products_of,
    shared_memory,
)
from .kv_cache import KVCache
from .transformer import Network

__all__ = ["END_PARTS", "LAYER_PARTS", "DecodePlan", "decode_plan", "why_not_decoded"]

# What the clock marks of a layer end, in their order, and those of the end of a token.
LAYER_PARTS = (
    *("attn_norm", "attn_qkv", "meet", "attention", "meet", "attn_output planes", "attn_output"),
    *("meet", "ffn_norm", "ffn_gate_up", "meet", "ffn_down planes", "ffn_down", "meet"),
)
END_PARTS = ("output_norm", "output")
PLAIN_PARTS = {
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down", "post_attention_norm", "post_ffw_norm"),
}
BIASED_PARTS = {"attn_q", "attn_k", "attn_v", "attn_output"}


@dataclass(frozen=True)
class DecodePlan:
    """How the decode kernel is compiled and launched for a model.

    source: its text; types: of packets, whose place is their number; n_warps: of a thread block
    that multiply; shared_bytes: of a thread block's memory
    """

    source: kernels.Source
    types: tuple[str, ...]
    n_warps: int
    shared_bytes: int

    @property
    def threads(self) -> int:
        """Threads of a thread block, with the warp that brings weights."""
        return (self.n_warps + 1) * 32


def why_not_decoded(network: Network, cache: KVCache | None = None) -> str | None:
    """Why the decode kernel cannot run a model, with a cache, in a few words; None if it can."""
    reasons = chain(_reasons(network), () if cache is None else _cache_reasons(cache))
    return next(reasons, None)


def _cache_reasons(cache: KVCache) -> Iterator[str]:
    if (cache.type_k, cache.type_v) != ("f16", "f16"):
        yield f"a cache of type k {cache.type_k}, v {cache.type_v} (f16 has code)"
    if any(map(any, cache.rotations)):
        yield "a cache that rotates its heads (rotate=False has code)"
    if not cache.swa_full or any(cache.first(layer) for layer in range(cache.n_layer)):
        yield "a cache whose layers keep only their window (swa_full=True has code)"


def _reasons(network: Network) -> Iterator[str]:
    config, rules, weights = network.config, network.architecture, network.weights
    if rules.norm != "rms_norm" or not rules.pre_norm or rules.ffn_reads != "residual":
        yield f"the order of norms in architecture {rules.name!r}"
    if rules.activation not in ("swiglu", "geglu"):
        yield f"the activation {rules.activation}"
    if rules.qk_norm_after_rope or rules.qk_norm_bare or rules.qk_norm != "rms_norm":
        yield f"the norm of queries and keys in architecture {rules.name!r}"
    if bool(rules.attn_post_norm) != bool(rules.ffn_post_norm):
        yield f"the norm after one branch only in architecture {rules.name!r}"
    if weights.position_embd.weight is not None or weights.token_embd_norm.weight is not None:
        yield "positions or norms added to the embeddings"
    if weights.output.bias is not None or weights.output_norm.bias is not None:
        yield "a bias at the end"
    if config.clamp_kqv or config.max_alibi_bias:
        yield "clamped projections or ALiBi"
    yield from _size_reasons(network)
    for layer, parts in enumerate(weights.blk):
        yield from _layer_reasons(network, layer, parts)
    if _matrix_reason(weights.output.weight):
        yield f"output.weight: {_matrix_reason(weights.output.weight)}"


def _size_reasons(network: Network) -> Iterator[str]:
    config = network.config
    if config.n_embd % 8 or config.n_ff % 4:
        yield f"vectors of {config.n_embd} and {config.n_ff} numbers"
    if config.head_dim % 8 or config.head_dim > 256 or config.head_dim != config.head_dim_v:
        yield f"heads of {config.head_dim} and {config.head_dim_v} numbers"
    if config.n_vocab > MOST_VOCABULARY:
        yield f"a vocabulary of {config.n_vocab} tokens (up to {MOST_VOCABULARY} have code)"
    for layer in range(config.n_layer):
        own = config.of_layer(layer)
        if own.n_expert:
            yield "experts"
        sizes = (own.n_head, own.n_head_kv, own.n_ff)
        if sizes != (config.n_head, config.n_head_kv, config.n_ff):
            yield f"layer {layer}: other sizes than the others"
        if own.temperature_scale or (own.n_swa and own.swa_is_chunked):
            yield f"layer {layer}: queries that grow, or a window in chunks"


def _layer_reasons(network: Network, layer: int, parts: Any) -> Iterator[str]:
    for name, part in vars(parts).items():
        if part.weight is not None and name not in PLAIN_PARTS:
            yield f"blk.{layer}.{name}"
        if part.bias is not None and name not in BIASED_PARTS:
            yield f"blk.{layer}.{name}.bias"
    for name in MATRICES:
        reason = _matrix_reason(getattr(parts, name).weight)
        if reason:
            yield f"blk.{layer}.{name}.weight: {reason}"
            return
    for name in ("attn_q_norm", "attn_k_norm"):
        weight = getattr(parts, name).weight
        if weight is not None and weight.shape != (network.config.head_dim,):
            yield f"blk.{layer}.{name}.weight: a norm over all heads"
    if parts.ffn_gate.weight.type != parts.ffn_up.weight.type:
        yield f"blk.{layer}: gate and up of different types"
    first = network.weights.blk[0]
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down"):
        like = getattr(first, "attn_q" if name in ("attn_k", "attn_v") else name).weight
        if planes_of(getattr(parts, name).weight.type) != planes_of(like.type):
            yield f"blk.{layer}.{name}.weight: float weights where others are quantized"


def _matrix_reason(weight: Any) -> str | None:
    if weight is None or len(getattr(weight, "shape", ())) != 2:
        return "no matrix"
    if weight.type not in PACKET_COLUMNS:
        return f"type {weight.type}"
    return None if weight.byte_order == "little" else "big-endian weights"


def decode_plan(
    network: Network, shared_limit: int, with_stats: bool = False, with_marks: bool = False
) -> DecodePlan:
    """The plan for a model that `why_not_decoded` has nothing against.

    shared_limit: bytes of shared memory that a thread block can have; with_stats: whether the
    kernel leaves statistics of attention, keys, values and the residual stream; with_marks: whether
    it leaves clock marks after each of LAYER_PARTS and END_PARTS.
    Raises: UnsupportedError where the model's vectors leave no room for weights.
    """
    shared = shared_memory(network, shared_limit)
    types = tuple(sorted({matrix.type for matrix in matrices_of(network)}))
    macros = {
        "N_WARPS": shared.n_warps,
        "N_SLOTS": shared.n_slots,
        "SLOT_BYTES": shared.slot_bytes,
        "PLANE_BYTES": shared.plane_bytes,
        "PACKET_TYPES(CASE)": " ".join(f"CASE({i}, {type})" for i, type in enumerate(types)),
        "STATS": int(with_stats),
        "PROFILE": int(with_marks),
        **{f"{name}_PLANES": planes_of(m.type) for name, m in products_of(network).items()},
        **_model_macros(network),
        **kernels.EXCHANGE,
    }
    paths = (*kernels.DECODE_SHARED, *(kernels.FOLDER / name for name in kernels.DECODE_FILES))
    return DecodePlan(kernels.Source(paths, macros), types, shared.n_warps, shared.bytes)


def _model_macros(network: Network) -> Mapping[str, Any]:
    config, rules = network.config, network.architecture
    macros = {
        "N_LAYER": config.n_layer,
        "N_EMBD": config.n_embd,
        "N_FF": config.n_ff,
        "N_HEAD": config.n_head,
        "N_HEAD_KV": config.n_head_kv,
        "HEAD_DIM": config.head_dim,
        "N_ROT": config.n_rot,
        "POST_NORMS": int(has_post_norms(network)),
        "ROPE_NEOX": int(rules.rope == "neox"),
        "ACTIVATION": rules.activation,
        "NORM_EPS": _number(config.norm_eps),
        "ATTENTION_SCALE": _number(config.attention_scale),
        "RESIDUAL_SCALE": _number(config.residual_scale),
        "LOGIT_SCALE": _number(config.logit_scale),
    }
    if config.attn_logit_softcapping:
        macros["ATTENTION_SOFTCAP"] = _number(config.attn_logit_softcapping)
    if config.final_logit_softcapping:
        macros["FINAL_SOFTCAP"] = _number(config.final_logit_softcapping)
    return macros


def _number(x: float) -> str:
    """A float32 as C writes it."""
    return f"{float(np.float32(x))!r}f"
