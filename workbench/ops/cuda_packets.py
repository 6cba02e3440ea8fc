"""Weights on the GPU as packets, from the file's blocks and back: `packets.pack` at memory speed.

    blocks (slab, used again) --pack--> packets (kept) --unpack--> blocks (slab) --> dequantize

The kernel moves bits by tables that `packet_moves` finds by asking `packets.pack`, so both give the
same bytes. A matrix is one launch, or two where its columns do not fill the last packet.
Source: kernels/repack.cu. Left out: products on packets, which are the decode kernel's.
"""

import math
from dataclasses import dataclass
from functools import cache

import cupy as cp
import numpy as np

from ..errors import ParameterError, UnsupportedError
from ..gguf.types import GGML_TYPES
from . import cuda, kernels
from .packed import PackedTensor
from .packet_moves import ROWS, launches, packet_moves
from .packets import PACKET_COLUMNS, tile_bytes

__all__ = ["Packets", "dequantize_packets", "pack", "unpack"]

SOURCE = kernels.SOURCES["repack"]
THREADS, TILES = SOURCE.defines["THREADS"], SOURCE.defines["TILES"]  # of a thread block


@dataclass(frozen=True, eq=False)
class Packets:
    """A matrix, or two of the same shape joined row by row, as packets on the GPU.

    type: as ggml prints it; n_rows, n_columns: of the matrix, of each of two; joined: whether two
    data: (tiles, tile_bytes) uint8
    """

    type: str
    n_rows: int
    n_columns: int
    data: cp.ndarray
    joined: bool = False

    @property
    def n_tiles(self) -> int:
        """Tiles of 16 rows, of two matrices 8 of each."""
        return self.data.shape[0]

    @property
    def tile_bytes(self) -> int:
        """Bytes of all packets of a tile."""
        return self.data.shape[1]

    @property
    def tile_rows(self) -> int:
        """Rows of each matrix in a tile."""
        return ROWS // 2 if self.joined else ROWS


def pack(
    weight: PackedTensor, other: PackedTensor | None = None, out: cp.ndarray | None = None
) -> Packets:
    """Repacks a matrix on the GPU, or two of the same type and shape (gate and up) joined.

    weight, other: (rows, columns), little-endian, raw on the GPU, its rows contiguous.
    out: memory for the packets, uint8, as large or larger; by default new memory.
    Raises: ParameterError where the two differ or a byte order is big; UnsupportedError for a type
    without packets. Source: `packets.pack`, the NumPy twin.
    """
    _check(weight, other)
    n_rows, n_columns = weight.shape
    joined = other is not None
    n_tiles = -(-n_rows // (ROWS // 2 if joined else ROWS))
    shape = (n_tiles, tile_bytes(weight.type, n_columns))
    made = cp.empty(shape, cp.uint8) if out is None else out.reshape(-1)[: math.prod(shape)]
    result = Packets(weight.type, n_rows, n_columns, made.reshape(shape), joined)
    _launch("pack", result, weight.raw, other.raw if joined else None)
    return result


def unpack(
    packed: Packets, rows: slice = slice(None), out: cp.ndarray | None = None
) -> list[PackedTensor]:
    """The blocks again, as the file has them: one matrix, or the two that were joined.

    rows: a slice of step 1 that begins at a tile's first row (a multiple of 16, of joined ones 8).
    out: a slab for the blocks, uint8, as large or larger; by default new memory.
    Raises: ParameterError for other rows.
    """
    start, stop = _tile_rows(packed, rows)
    row_bytes = GGML_TYPES[packed.type].row_bytes(packed.n_columns)
    shape = (1 + packed.joined, stop - start, row_bytes)
    slab = cp.empty(shape, cp.uint8) if out is None else out.reshape(-1)[: math.prod(shape)]
    raws = slab.reshape(shape)
    tiles = packed.data[start // packed.tile_rows : -(-stop // packed.tile_rows)]
    part = Packets(packed.type, stop - start, packed.n_columns, tiles, packed.joined)
    _launch("unpack", part, raws[0], raws[1] if packed.joined else None)
    return [PackedTensor(raw, packed.type, (stop - start, packed.n_columns)) for raw in raws]


def dequantize_packets(
    packed: Packets,
    rows: slice = slice(None),
    dtype: str = "float32",
    slab: cp.ndarray | None = None,
) -> list[cp.ndarray]:
    """The weights as numbers: one (rows, columns) array, or two of joined matrices.

    rows, slab: as `unpack`'s rows and out; dtype: "float32" or "float16".
    """
    raws = unpack(packed, rows, slab)
    return [cuda.dequantize(weight.raw, packed.type, dtype) for weight in raws]


def _check(weight: PackedTensor, other: PackedTensor | None) -> None:
    if weight.type not in PACKET_COLUMNS:
        raise UnsupportedError(
            f"pack: no packets of type {weight.type}; expected one of {', '.join(PACKET_COLUMNS)}, "
            f"got {weight}; take the plain pass, which needs none"
        )
    if other is not None and (weight.type, weight.shape) != (other.type, other.shape):
        raise ParameterError(
            f"pack: the two matrices differ; expected {weight} again, got {other}; pack each alone"
        )
    for matrix in [weight] if other is None else [weight, other]:
        if matrix.byte_order != "little" or len(matrix.shape) != 2:
            raise ParameterError(
                "pack: no matrix of little-endian blocks; expected shape (rows, columns), got "
                f"{matrix} of byte order {matrix.byte_order!r}; pack matrices one by one"
            )
        if not matrix.raw.flags.c_contiguous:
            raise ParameterError(
                "pack: the rows are apart; expected contiguous blocks, got strides "
                f"{matrix.raw.strides}; pass them through cupy.ascontiguousarray"
            )


def _tile_rows(packed: Packets, rows: slice) -> tuple[int, int]:
    start, stop, step = rows.indices(packed.n_rows)
    if step != 1 or start % packed.tile_rows or stop < start:
        raise ParameterError(
            "unpack: not the rows of whole tiles; expected a slice from a multiple of "
            f"{packed.tile_rows}, got {rows}; begin at one"
        )
    return start, stop


def _launch(way: str, packed: Packets, upper: cp.ndarray, lower: cp.ndarray | None) -> None:
    """Runs the kernels that bring blocks to packets ("pack") or back ("unpack")."""
    device = cp.cuda.Device().id
    addresses = upper.data.ptr, None if lower is None else lower.data.ptr, packed.data.data.ptr
    for launch in launches(way, packed.type, (packed.n_rows, packed.n_columns), *addresses, TILES):
        arguments = (
            *map(np.uint64, launch.addresses),
            *_table(way, packed.type, launch.columns, device),
            launch.part,
        )
        kernel = _kernel(launch.kernel)
        kernel((launch.grid,), (THREADS,), arguments, shared_mem=launch.shared)


@cache
def _table(way: str, type: str, columns: int, device: int) -> tuple:
    """The kernel's groups, moves, words and n_groups, in the memory of the current `device`."""
    moves = getattr(packet_moves(type, columns), way)
    table = tuple(map(cp.asarray, (moves.groups, moves.moves, moves.words)))
    cp.cuda.get_current_stream().synchronize()  # kernels of other streams will read it too
    return *table, np.uint64(len(moves.groups))


@cache
def _kernel(name: str) -> cp.RawKernel:
    """A kernel of repack.cu."""
    return _module().get_function(name)


@cache
def _module() -> cp.RawModule:
    """The kernels of repack.cu, compiled when one of them is first asked for."""
    return cp.RawModule(code=SOURCE.text(), options=("-std=c++17",))
