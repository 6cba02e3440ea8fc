"""The tables that the decode kernel reads, filled with addresses: a record a layer, head, buffers.

    Addresses ─▶ layer_records   (L,) LAYER          which weights, biases, norms, slots
              ─▶ matrix_record                       one matrix as packets
              ─▶ work_record     (1,) WORK           where the kernel writes
    config    ─▶ shares_layout                       what of it a recorder keeps

Everything here is the same for a GPU and for the kernel run on a CPU in tests: what an array's
address is, and how arrays are made, is told by `Addresses`.
Source: the structs of kernels/decode_records.cuh.
Left out: making packets (`ops/cuda_packets.py`), launching (`decode_graph`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ops import kernels
from ..ops.token_shares import SharesLayout
from .config import ModelConfig
from .decode_plan import DecodePlan
from .decode_records import LAYER, WORK
from .kv_cache import KVCache
from .kv_run import N_RECENT, N_SINK
from .transformer import Network, layer_rotation

__all__ = [
    "EXCHANGED",
    "UNWRITTEN",
    "Addresses",
    "layer_records",
    "matrix_record",
    "shares_layout",
    "work_record",
]


EXCHANGED = ("states", "qkv", "splits", "mixed", "hidden")  # what thread blocks tell one another
UNWRITTEN = np.uint32(kernels.UNWRITTEN).view(np.float32)  # what is in them before


@dataclass
class Addresses:
    """Where arrays are, in the memory that a kernel sees; keeps them alive.

    address: array -> its address; asarray: a NumPy array -> one in that memory
    """

    address: Callable[[Any], int]
    asarray: Callable[[np.ndarray], Any]
    kept: list[Any] = field(default_factory=list)

    def of(self, array: Any) -> int:
        """The address of an array, 0 for None."""
        if array is None:
            return 0
        self.kept.append(array)
        return self.address(array)


def matrix_record(plan: DecodePlan, packed: Any, addresses: Addresses) -> tuple:
    """A MATRIX; packed: with type, n_tiles, n_rows, tile_bytes, n_columns and data."""
    kind = plan.types.index(packed.type)
    sizes = (packed.n_tiles, packed.n_rows, packed.tile_bytes, packed.n_columns, kind, 0)
    return (addresses.of(packed.data), *sizes)


def layer_records(
    plan: DecodePlan,
    network: Network,
    cache: KVCache,
    packets: Sequence[Mapping[str, Any]],
    addresses: Addresses,
) -> np.ndarray:
    """(L,) LAYER; packets: of each layer by name: attn_q, attn_k, attn_v, output, gate_up, down."""
    records = np.zeros(network.config.n_layer, LAYER)
    rotations: dict[Any, Any] = {None: None}
    for number, record in enumerate(records):
        own, config = packets[number], network.config.of_layer(number)
        if config.rope not in rotations:
            made = layer_rotation(network, number, np.arange(cache.n_ctx), cache.n_ctx)
            rotations[config.rope] = addresses.asarray(made)
        record["attn"] = [matrix_record(plan, own[f"attn_{x}"], addresses) for x in "qkv"]
        for name in ("output", "gate_up", "down"):
            record[name] = matrix_record(plan, own[name], addresses)
        for name, array in _vectors(network, number, addresses).items():
            record[name] = addresses.of(array)
        record["rotation"] = addresses.of(rotations[config.rope])
        record["k"], record["v"] = (addresses.address(slots) for slots in cache.buffers(number))
        record["window"] = config.n_swa
    return records


def _vectors(network: Network, number: int, addresses: Addresses) -> dict[str, Any]:
    """The norms and biases of a layer by the names of LAYER, None where it has none."""
    rules, blk = network.architecture, network.weights.blk[number]
    return {
        "attn_norm": blk.attn_norm.weight,
        "ffn_norm": getattr(blk, rules.ffn_norm).weight,
        "attn_post_norm": _part(blk, rules.attn_post_norm),
        "ffn_post_norm": _part(blk, rules.ffn_post_norm),
        "q_norm": blk.attn_q_norm.weight,
        "k_norm": blk.attn_k_norm.weight,
        "output_bias": blk.attn_output.bias,
        "biases": _joined_biases(network, number, addresses),
    }


def _part(blk: Any, name: str) -> Any:
    return getattr(blk, name).weight if name else None


def _joined_biases(network: Network, number: int, addresses: Addresses) -> Any:
    """Biases of queries, keys and values one after another, zeros where one is missing."""
    blk, config = network.weights.blk[number], network.config.of_layer(number)
    parts = (blk.attn_q.bias, blk.attn_k.bias, blk.attn_v.bias)
    if all(bias is None for bias in parts):
        return None
    sizes = (config.n_embd_q, config.n_embd_k, config.n_embd_v)
    zeros = (np.zeros(n, np.float32) for n in sizes)
    given = [addresses.asarray(n) if b is None else b for b, n in zip(parts, zeros, strict=True)]
    return network.ops.concatenate(given)


def work_record(buffers: Mapping[str, Any], n_rows: int, addresses: Addresses) -> np.ndarray:
    """(1,) WORK; buffers: by its names, others stay 0."""
    work = np.zeros(1, WORK)
    for name, buffer in buffers.items():
        work[name] = addresses.of(buffer)
    work["n_rows"] = n_rows
    return work


def shares_layout(config: ModelConfig) -> SharesLayout:
    """What is made of a token's scores, with the sums that a `KVRun` has."""
    windows = tuple(config.of_layer(layer).n_swa for layer in range(config.n_layer))
    return SharesLayout(windows, config.n_head, config.n_head_kv, N_SINK, N_RECENT)
