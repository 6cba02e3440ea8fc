"""Where every bit of a packet comes from, and what a kernel is told to bring it there.

    columns     0 ....... C ....... 2C ... K        a launch: packets with the same columns, so one
    16 rows    |---- A ---|---- A ---|- B -|        table of moves (rows that are missing are zeros)
    16 rows    |---- A ---|---- A ---|- B -|

The rows of a tile lie in the kernel's shared memory as 16 rows of `row_words` words, upper rows
first; the moves are between those words and the packet's.
Source: our own; the layout is `packets.pack`, which is asked.
Left out: the GPU, which is `cuda_packets`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..gguf.types import GGML_TYPES
from . import packets
from .bit_moves import BitMoves, find_sources, inverse, to_moves

__all__ = ["PART", "ROWS", "Launch", "PacketMoves", "launches", "packet_moves"]

ROWS = 16  # of a tile
WIDTHS = (16, 8, 4, 2, 1)  # bytes of a load, for which there are kernels

# The kernel's struct Part.
PART = np.dtype(
    [("row_bytes", "<u8"), ("tile_bytes", "<u8")]
    + [(name, "<u4") for name in ("rows", "tile_rows", "tiles", "packets")]
    + [(name, "<u4") for name in ("segment", "packet_bytes", "row_words", "unused")]
)


@dataclass(frozen=True, eq=False)
class PacketMoves:
    """pack: words of the rows -> words of the packet; unpack: the way back."""

    pack: BitMoves
    unpack: BitMoves


@dataclass(frozen=True)
class Launch:
    """What a launch of kernels/repack.cu is given.

    kernel: its name; grid: thread blocks; shared: bytes of shared memory; addresses: of the upper
    and lower rows and the packets; columns: of a packet, which choose the moves; part: a PART
    """

    kernel: str
    grid: int
    shared: int
    addresses: tuple[int, int, int]
    columns: int
    part: np.void


@cache
def packet_moves(type: str, columns: int) -> PacketMoves:
    """The moves for packets of `columns` columns."""
    stride, used = 4 * row_words(type, columns), GGML_TYPES[type].row_bytes(columns)

    def pack(rows: np.ndarray) -> np.ndarray:
        upper, lower = rows.reshape(2, ROWS // 2, stride)[..., :used]
        return packets.pack(upper, lower, type).reshape(-1)

    sources = find_sources(pack, ROWS * stride)
    return PacketMoves(to_moves(sources), to_moves(inverse(sources), sort=True))


def row_words(type: str, columns: int) -> int:
    """Words from a row to the next in shared memory, with room for 12 bytes before its segment.

    A multiple of 4, but not of 8, so that equal places of neighbouring rows lie in other banks.
    """
    quads = -(-(GGML_TYPES[type].row_bytes(columns) + 12) // 16)
    return 4 * (quads | 1)


def launches(
    way: str,
    type: str,
    shape: tuple[int, int],
    upper: int,
    lower: int | None,
    data: int,
    tiles: int,
) -> Iterator[Launch]:
    """The launches that bring blocks to packets or back: one, or two if the last packet is shorter.

    way: "pack" or "unpack"; shape: rows and columns of the matrix, of each of two joined ones.
    upper, lower: addresses of the two matrices' blocks, lower None if there is one; data: of the
    packets; tiles: that a thread block does.
    """
    n_rows, n_columns = shape
    row_bytes = GGML_TYPES[type].row_bytes(n_columns)
    tile_rows = ROWS if lower is None else ROWS // 2
    lower = upper + ROWS // 2 * row_bytes if lower is None else lower
    n_tiles, tile_bytes = -(-n_rows // tile_rows), packets.tile_bytes(type, n_columns)
    aligned = math.gcd(row_bytes, upper, lower)
    whole = packets.PACKET_COLUMNS[type]
    for columns, n_packets in ((whole, n_columns // whole), (n_columns % whole, 1)):
        if not n_packets or not columns or not n_tiles:
            continue
        segment, words = GGML_TYPES[type].row_bytes(columns), row_words(type, columns)
        packet_bytes = packets.packet_bytes(type, packets.padded_columns(columns))
        counts = (n_rows, tile_rows, n_tiles, n_packets)
        part = np.array((row_bytes, tile_bytes, *counts, segment, packet_bytes, words, 0), PART)
        shared = ROWS * words * 4 + (packet_bytes if way == "unpack" else 0)
        kernel = f"{way}_{_width(way, segment, aligned)}"
        grid = -(-n_tiles // tiles) * n_packets
        addresses = (upper, lower, data)
        yield Launch(kernel, grid, tiles * shared, addresses, columns, part[()])
        upper, lower = upper + n_packets * segment, lower + n_packets * segment
        data += n_packets * packet_bytes


def _width(way: str, segment: int, aligned: int) -> int:
    """Bytes that a thread may move at once: the rows' addresses are multiples of it.

    Those of a segment need not be when packing: what is loaded before it is not looked at, as long
    as that is whole words.
    """
    if way == "unpack" or segment % 4:
        aligned = math.gcd(aligned, segment)
    return next(width for width in WIDTHS if aligned % width == 0)
