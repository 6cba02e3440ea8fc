"""What memory the decode kernel takes: of a thread block, and of the GPU.

    shared memory  |barriers, sums, records| planes of activations |slot 0|slot 1| … |
    the GPU's      | packets, a second copy of the weights | buffers of a token |

A GPU whose thread blocks have less memory gets fewer slots, and where even one slot a warp is too
much, fewer warps. Needed at least, in KiB: 99 on sm_86, 89 and 120, 163 on sm_80, 227 on sm_90.
Source: `Layout` in kernels/decode_stream.cuh, `Desk` in kernels/decode_heads.cuh.
Left out: asking the GPU what it has, which is `decode_graph`'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import DeviceMemoryError, UnsupportedError
from ..ops import kernels
from ..ops.packets import PACKET_COLUMNS, packet_bytes, padded_columns, tile_bytes
from .decode_records import LAYER, MATRIX, WORK
from .transformer import Network

__all__ = [
    "MATRICES",
    "SharedMemory",
    "buffer_sizes",
    "demand_graph_memory",
    "has_post_norms",
    "matrices_of",
    "packets_nbytes",
    "planes_of",
    "products_of",
    "shared_memory",
]

MOST_WARPS = 11  # that multiply; with the one that brings weights, 168 registers a thread
FEW_WARPS, LEAST_WARPS = 7, 4  # so few have 255 registers a thread; fewer were not tried
MOST_ROUNDS = 8  # packets of a warp that may wait; more were not tried
# Of a layer, that a token is multiplied with.
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
PLANES = {"F16": "Halves", "BF16": "Brains"}  # of the other types: Digits


@dataclass(frozen=True)
class SharedMemory:
    """A thread block's shared memory: for each of n_slots a packet, and the planes."""

    n_warps: int
    n_slots: int
    slot_bytes: int
    plane_bytes: int

    @property
    def bytes(self) -> int:
        """All of it."""
        records = 2 * LAYER.itemsize + WORK.itemsize + MATRIX.itemsize
        sums = (16 + 2 * 8 * 64) * self.n_warps  # of reductions, of tiles
        fixed = _round_up(16 * self.n_slots + sums + 128 + records, 128)
        return fixed + self.plane_bytes + self.n_slots * self.slot_bytes


def shared_memory(network: Network, limit: int) -> SharedMemory:
    """The most warps, and for them the most slots, that `limit` bytes have room for.

    Raises: UnsupportedError where not even the fewest fit.
    """
    choice = None
    for choice in _choices(network):
        if choice.bytes <= limit:
            return choice
    config = network.config
    needed = f"{choice.bytes} bytes of memory" if choice else "more registers than there are"
    raise UnsupportedError(
        f"decode graph: vectors of {config.n_embd} and {config.n_ff} numbers are too long for a "
        f"thread block of this GPU; expected {needed} or shorter vectors, got {limit} bytes; the "
        "plain pass (model.forward) runs the model"
    )


def _choices(network: Network) -> Iterator[SharedMemory]:
    """From the most warps and slots to the fewest."""
    config, matrices = network.config, products_of(network).values()
    planes = max(_plane_bytes(planes_of(m.type), m.shape[1]) for m in matrices)
    slot = max(_tile_bytes(config), *map(_most_packet, matrices_of(network)))
    for n_warps in range(MOST_WARPS, LEAST_WARPS - 1, -1):
        most_held = (7 - has_post_norms(network)) * (1 + (n_warps <= FEW_WARPS))
        if _round_up(config.n_embd, 128 * n_warps) > most_held * 128 * n_warps:
            continue  # registers do not hold the residual stream and what it is normed with
        room = _round_up(max(planes, _desk_bytes(config, n_warps)), 128)
        for rounds in range(MOST_ROUNDS, 0, -1):
            yield SharedMemory(n_warps, rounds * n_warps, slot, room)


def products_of(network: Network) -> dict[str, Any]:
    """A matrix of each product of a token, by the prefix of its macro."""
    blk = network.weights.blk[0]
    layer = {"ATTN": blk.attn_q, "OUT": blk.attn_output, "GATE": blk.ffn_gate, "DOWN": blk.ffn_down}
    return {name: part.weight for name, part in layer.items()} | {
        "HEAD": network.weights.output.weight
    }


def matrices_of(network: Network) -> list[Any]:
    """All matrices that a token is multiplied with."""
    layers = [getattr(blk, name).weight for blk in network.weights.blk for name in MATRICES]
    return [*layers, network.weights.output.weight]


def planes_of(type: str) -> str:
    """How activations are written for products with a type: a struct of kernels/activations.cuh."""
    return PLANES.get(type, "Digits")


def has_post_norms(network: Network) -> bool:
    """Whether branches are normed before they are added."""
    return bool(network.architecture.attn_post_norm or network.architecture.ffn_post_norm)


def packets_nbytes(network: Network) -> int:
    """Bytes of all weights as packets."""
    return sum(
        -(-matrix.shape[0] // 16) * tile_bytes(matrix.type, matrix.shape[1])
        for matrix in matrices_of(network)
    )


def buffer_sizes(
    network: Network, n_warps: int, n_rows: int, n_blocks: int, with_stats: bool
) -> dict[str, int]:
    """How many float32 each buffer of WORK has.

    n_warps: of a thread block that multiply; n_rows: positions of the cache
    """
    config = network.config
    heads = config.n_head * config.head_dim
    n_splits = _most_splits(config, n_warps, n_blocks)
    sizes = {
        "states": kernels.N_STATES * config.n_embd,
        "qkv": 2 * (heads + config.n_embd_k + config.n_embd_v),
        "splits": 2 * n_splits * config.n_head * (config.head_dim + 4),
        "mixed": 2 * heads,
        "hidden": 3 * config.n_ff,
        "branch": config.n_embd,
    }
    if with_stats:
        sizes |= {
            "scores": config.n_layer * config.n_head * n_rows,
            "ends": 2 * config.n_layer * config.n_head,
            "taps": config.n_layer * config.n_embd,
            "norms": 2 * config.n_layer * config.n_head_kv,
        }
    return sizes


def demand_graph_memory(n_bytes: int, free: int, device: str) -> None:
    """Nothing if the packets, buffers and workspace of a graph fit into the `free` bytes of a GPU.

    Raises: DeviceMemoryError that names both.
    """
    if n_bytes > free:
        raise DeviceMemoryError(
            f"decode graph: too little memory on {device} for a second copy of the weights, in the "
            f"kernel's order; expected {n_bytes / 1e9:.2f} GB free, got {free / 1e9:.2f} GB; the "
            "plain pass (model.forward) runs the model"
        )


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


def _desk_bytes(config: Any, n_warps: int) -> int:
    """Bytes that attention keeps where the planes are else: `Desk` in decode_heads.cuh."""
    n, chunks = config.head_dim, _chunks(config, n_warps)
    together = -(-config.n_head // (config.n_head_kv * chunks))
    queries = 4 * together * (_round_up(n, 64) + 32)
    return queries + 4 * n + 32 + n_warps * together * (4 * (n + 2) + 8)


def _tile_bytes(config: Any) -> int:
    """Bytes of a packet of keys or values: `Positions` in decode_heads.cuh."""
    return (8 if config.head_dim > 128 else 16) * config.head_dim * 2


def _chunks(config: Any, n_warps: int) -> int:
    """Parts of the heads of a KV head that attention takes each for itself: decode_heads.cuh."""
    most = min(4 if config.head_dim > 128 else 8, n_warps - 2)
    return -(-config.n_head // (config.n_head_kv * most))


def _most_splits(config: Any, n_warps: int, n_blocks: int) -> int:
    """Parts of the positions at most, each for a thread block: decode_heads.cuh."""
    return max(1, n_blocks // (config.n_head_kv * _chunks(config, n_warps)))
