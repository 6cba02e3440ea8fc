"""What the decode kernel needs to know of a model: which it can run, its sizes, its tables.

    network ─▶ why_not_decoded   a sentence, or nothing
            ─▶ decode_plan       the macros that kernels/decode_*.cu are compiled with
            ─▶ LAYER, MATRIX …   the records that the kernel reads, field by field its structs

Source: the structs of kernels/decode_records.cuh.
Left out: the memory itself, which is `decode_graph`'s; experts, sinks, ALiBi and latent attention,
which the plain pass has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops import kernels
from ..ops.packets import PACKET_COLUMNS, packet_bytes, padded_columns
from .transformer import Network

__all__ = [
    "END_PARTS",
    "LAYER",
    "LAYER_PARTS",
    "MATRIX",
    "WORK",
    "DecodePlan",
    "decode_plan",
    "most_splits",
    "why_not_decoded",
]

N_WARPS = 11  # that multiply; with the one that brings weights, 168 registers a thread
MOST_ROUNDS = 8  # packets of a warp that may wait; more were not tried

MATRIX = np.dtype(
    [("tiles", "<u8")]
    + [(name, "<u4") for name in ("n_tiles", "n_rows", "tile_bytes", "n_columns", "type", "unused")]
)
LAYER = np.dtype(
    [("attn", MATRIX, 3), ("output", MATRIX), ("gate_up", MATRIX), ("down", MATRIX)]
    + [(name, "<u8") for name in ("attn_norm", "ffn_norm", "attn_post_norm", "ffn_post_norm")]
    + [(name, "<u8") for name in ("q_norm", "k_norm", "biases", "output_bias")]
    + [(name, "<u8") for name in ("rotation", "k", "v")]
    + [("window", "<u4"), ("unused", "<u4")]
)
WORK = np.dtype(
    [(name, "<u8") for name in ("states", "qkv", "splits", "mixed", "hidden")]
    + [(name, "<u8") for name in ("branch", "logits", "meetings", "state")]
    + [(name, "<u8") for name in ("scores", "ends", "taps", "norms", "marks")]
    + [("n_rows", "<u4"), ("unused", "<u4")]
)
# What the clock marks of a layer end, in their order, and those of the end of a token.
LAYER_PARTS = (
    *("attn_norm", "attn_qkv", "meet", "attention", "meet", "attn_output planes", "attn_output"),
    *("meet", "ffn_norm", "ffn_gate_up", "meet", "ffn_down planes", "ffn_down", "meet"),
)
END_PARTS = ("output_norm", "output")
PLANES = {"F16": "Halves", "BF16": "Brains"}  # of the other types: Digits
PLAIN_PARTS = {
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down", "post_attention_norm", "post_ffw_norm"),
}
BIASED_PARTS = {"attn_q", "attn_k", "attn_v", "attn_output"}


@dataclass(frozen=True)
class DecodePlan:
    """How the decode kernel is compiled and launched for a model.

    source: its text; types: of packets, whose place is their number; shared_bytes: of a thread
    block's memory; threads: of a thread block
    """

    source: kernels.Source
    types: tuple[str, ...]
    shared_bytes: int
    threads: int


def why_not_decoded(network: Network) -> str | None:
    """Why the decode kernel cannot run a model, in a few words; None if it can."""
    return next(_reasons(network), None)


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
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
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


def planes_of(type: str) -> str:
    """How activations are written for products with a type: a struct of kernels/activations.cuh."""
    return PLANES.get(type, "Digits")


def decode_plan(
    network: Network, shared_limit: int, with_stats: bool = False, with_marks: bool = False
) -> DecodePlan:
    """The plan for a model that `why_not_decoded` has nothing against.

    shared_limit: bytes of shared memory that a thread block can have; with_stats: whether the
    kernel leaves statistics of attention, keys, values and the residual stream; with_marks: whether
    it leaves clock marks after each of LAYER_PARTS and END_PARTS.
    """
    config, weights = network.config, network.weights
    matrices = [part.weight for blk in weights.blk for part in _matrices(blk)]
    matrices.append(weights.output.weight)
    types = tuple(sorted({matrix.type for matrix in matrices}))
    products = _products(network)
    room = max(_plane_bytes(planes_of(m.type), m.shape[1]) for m in products.values())
    room = _round_up(max(room, _desk_bytes(config)), 128)
    slot = max(_tile_bytes(config), *map(_most_packet, matrices))
    records = 2 * LAYER.itemsize + WORK.itemsize + MATRIX.itemsize
    besides = (16 + 2 * 8 * 64) * N_WARPS + 128 + records  # reductions, sums, entries of tiles
    rounds = (shared_limit - besides - 256 - room) // (N_WARPS * (slot + 16))
    n_slots = min(MOST_ROUNDS, rounds) * N_WARPS
    macros = {
        "N_WARPS": N_WARPS,
        "N_SLOTS": n_slots,
        "SLOT_BYTES": slot,
        "PLANE_BYTES": room,
        "PACKET_TYPES(CASE)": " ".join(f"CASE({i}, {type})" for i, type in enumerate(types)),
        "STATS": int(with_stats),
        "PROFILE": int(with_marks),
        **{f"{name}_PLANES": planes_of(m.type) for name, m in products.items()},
        **_model_macros(network),
        **kernels.EXCHANGE,
    }
    paths = (*kernels.DECODE_SHARED, *(kernels.FOLDER / name for name in kernels.DECODE_FILES))
    shared = _round_up(16 * n_slots + besides, 128) + room + n_slots * slot
    return DecodePlan(kernels.Source(paths, macros), types, shared, (N_WARPS + 1) * 32)


def _products(network: Network) -> dict[str, Any]:
    """A matrix of each product of a token, by the prefix of its macro."""
    blk = network.weights.blk[0]
    layer = {"ATTN": blk.attn_q, "OUT": blk.attn_output, "GATE": blk.ffn_gate, "DOWN": blk.ffn_down}
    return {name: part.weight for name, part in layer.items()} | {
        "HEAD": network.weights.output.weight
    }


def _matrices(blk: Any) -> list[Any]:
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    return [getattr(blk, name) for name in names]


def _most_packet(weight: Any) -> int:
    """Bytes of the largest packet of a matrix."""
    n_columns = min(PACKET_COLUMNS[weight.type], padded_columns(weight.shape[1]))
    return packet_bytes(weight.type, n_columns)


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _plane_bytes(kind: str, n: int) -> int:
    """Bytes of the planes of n activations: `bytes` in kernels/activations.cuh."""
    if kind == "Digits":
        return 4 * (_round_up(n, 128) + 64) + -(-n // 256) * 64
    return {"Halves": 2, "Brains": 3}[kind] * (2 * _round_up(n, 128) + 64)


def _desk_bytes(config: Any) -> int:
    """Bytes that attention keeps where the planes are else: `Desk` in decode_heads.cuh."""
    n, together = config.head_dim, -(-config.n_head // (config.n_head_kv * _chunks(config)))
    queries = 4 * together * (_round_up(n, 64) + 32)
    return queries + 4 * n + 32 + N_WARPS * together * (4 * (n + 2) + 8)


def _tile_bytes(config: Any) -> int:
    """Bytes of a packet of keys or values: `Positions` in decode_heads.cuh."""
    return (8 if config.head_dim > 128 else 16) * config.head_dim * 2


def _chunks(config: Any) -> int:
    """Parts of the heads of a KV head that attention takes each for itself: decode_heads.cuh."""
    most = min(4 if config.head_dim > 128 else 8, N_WARPS - 2)
    return -(-config.n_head // (config.n_head_kv * most))


def most_splits(config: Any, n_blocks: int) -> int:
    """Parts of the positions at most, each for a thread block: decode_heads.cuh."""
    return max(1, n_blocks // (config.n_head_kv * _chunks(config)))


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
        "POST_NORMS": int(bool(rules.attn_post_norm or rules.ffn_post_norm)),
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
