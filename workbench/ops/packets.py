"""Weights in the order in which the decode kernel of the GPU multiplies them: tiles of packets.

The same bytes as in the file, in another order (and zeros where rows or columns are missing). A
matrix is cut into *tiles* of 16 rows, a tile into *packets* of `PACKET_COLUMNS` columns, each one
copy from global to shared memory:

    tile      packet 0, packet 1, ..., of C columns each, the last one of what is left
    columns   rounded up to a whole number of 64 (types with 256 weights a block: 256 anyway)
    rows      plain: tile i has rows 16 i ..; *upper* row g = 0..7 is 16 i + g, *lower* 16 i + 8 + g
              two matrices joined (gate and up): upper = row 8 i + g of one, lower = of the other

A warp multiplies a packet on the tensor cores. Lane 4 g + t holds, of upper row g (r = 0) and of
lower row g (r = 1), columns 4 t .. 4 t + 3 of each 16: four codes, a *fragment*. Columns are named

    step s     64 columns of a packet, or of a chunk of 256 columns (s = 0..3)
    side b     block of 32 columns in a step (0, 1)
    half h     16 columns in a block (0, 1)        column = 64 s + 32 b + 16 h + 4 t + byte

A lane has 8 fragments a step, in one of two orders, which `packet_words` packs into words (u32):

    blocks     k = 4 b + 2 h + r              groups     k = 4 h + 2 b + r

A packet is a few *parts*, one after the other. A part runs through all columns of the packet in
units; below, a unit's columns stand before the colon, and [..] are its axes, the last one fastest.

    F16 BF16   C 256   64: [2 b + h][lane] 8 numbers: columns 4 t, 4 t + 1 of r = 0, those of r = 1,
                           columns 4 t + 2, 4 t + 3 of r = 0, those of r = 1
    Q8_0       C 256   64: [b][lane] 4 words: fragments 4 b .. 4 b + 3 (blocks)     64: scales
    Q4_0       C 512   64: [lane] 4 words: nibbles (blocks) of code ^ 8             64: scales
    Q4_1       C 512   64: [lane] 4 words: nibbles (blocks)              64: scales 64: minima
    Q5_0       C 512   64: [lane] words 0..3 of fives (blocks) of code ^ 16
                       64: [lane] word 4                                            64: scales
    Q5_1       C 512   64: [lane] words 0..3 of fives (blocks)
                       64: [lane] word 4                                 64: scales 64: minima
    IQ4_NL     C 512   64: [lane] 4 words: compact (blocks)                         64: scales
    MXFP4      C 512   the same; its scales are bytes
    Q2_K       C 512  256: [s / 2][lane] 2 words of step s, 2 of step s + 1: pairs (groups)
                      256: [g][b][r] word of sc  [g][b][r] word of m  [g][r] d  [g][r] dmin
                           byte s of a word: that of half 0 | that of half 1 << 4
    Q3_K       C 512  256: [0..2][lane] 16 bytes of the 12 words of the 4 steps in order:
                           threes (groups) of code ^ 4, where code - 4 is the weight
                      256: [0..2][g][b] words of the signed triple of sc ^ 32 (the weight's sc is
                           sc - 32) in which byte s of fragment 2 r + h is that of s, h  [g][r] d
    Q4_K       C 512   64: [lane] 4 words: nibbles (groups)
                      256: [g] d of r = 0, of r = 1, 3 words  [g] dmin of r = 0, of r = 1, 3 words
                           words: the unsigned triple of sc (of m) in which byte s of fragment
                           2 b + r is that of s
    Q5_K       C 512   64: [lane] words 0..3 of fives (blocks)     64: [lane] word 4
                      256: as of Q4_K
    Q6_K       C 256  128: [0..2][lane] 16 bytes of the 12 words of 2 steps in order:
                           triples (groups) of code ^ 32
                      256: [g][b][r][s][h] sc  [g][r] d
    IQ4_XS     C 512   64: [lane] 4 words: compact (blocks)
                      256: [g] d of r = 0, of r = 1, 3 words: the signed triple of ls ^ 32 in which
                           byte s of fragment 2 b + r is that of s
    scales, minima of 64 columns: [g][b][r] float16 (MXFP4: bytes)

A flip of its top bit (code ^ 8) makes a code with an offset of half its range a signed number.

Source: our own; the fragments are those of PTX's `mma`, m16n8k32 (int8) and m16n8k16 (float16).
Its twins on the GPU: kernels/repack.cu packs, kernels/packets_*.cuh multiply.
Left out: types over grids and ternary ones, which the decode kernel does not take.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ..quants import codec_of
from .packet_headers import HEADERS, read_codes, write_codes
from .packet_words import PACKINGS

__all__ = [
    "PACKET_COLUMNS",
    "pack",
    "pack_rows",
    "packet_bytes",
    "padded_columns",
    "tile_bytes",
    "unpack_rows",
]

Array = np.ndarray


@dataclass(frozen=True)
class Layout:
    """How the packets of a type are made.

    columns: of a whole packet
    packing: of `packet_words`; order: of the fragments, "blocks" or "groups"; flip: xor of a code
    unit: columns whose words of a lane lie together, 16 bytes at a time
    parts: (columns of a unit, bytes of a unit) of each part of a packet
    """

    columns: int
    packing: str
    order: str
    flip: int
    unit: int
    parts: tuple[tuple[int, int], ...]


def _small(packing: str, flip: int, quants: tuple[int, ...], scales: int, n_scales: int = 1):
    """The layout of a type with 32 weights a block: bytes of quants and scales for 64 columns."""
    parts = tuple((64, n) for n in (*quants, *(n_scales * (scales,))))
    return Layout(256 if packing == "bytes" else 512, packing, "blocks", flip, 64, parts)


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "F16": Layout(256, "", "", 0, 64, ((64, 2048),)),
        "BF16": Layout(256, "", "", 0, 64, ((64, 2048),)),
        "Q8_0": _small("bytes", 0, (1024,), 64),
        "Q4_0": _small("nibbles", 8, (512,), 64),
        "Q4_1": _small("nibbles", 0, (512,), 64, 2),
        "Q5_0": _small("fives", 16, (512, 128), 64),
        "Q5_1": _small("fives", 0, (512, 128), 64, 2),
        "IQ4_NL": _small("compact", 0, (512,), 64),
        "MXFP4": _small("compact", 0, (512,), 32),
        "Q2_K": Layout(512, "pairs", "groups", 0, 128, ((256, 1024), (256, 320))),
        "Q3_K": Layout(512, "threes", "groups", 4, 256, ((256, 1536), (256, 224))),
        "Q4_K": Layout(512, "nibbles", "groups", 0, 64, ((64, 512), (256, 256))),
        "Q5_K": Layout(512, "fives", "blocks", 0, 64, ((64, 512), (64, 128), (256, 256))),
        "Q6_K": Layout(256, "triples", "groups", 32, 128, ((128, 1536), (256, 288))),
        "IQ4_XS": Layout(512, "compact", "blocks", 0, 64, ((64, 512), (256, 128))),
    }
)
PACKET_COLUMNS: Mapping[str, int] = MappingProxyType(
    {type: layout.columns for type, layout in LAYOUTS.items()}
)


# --- sizes -----------------------------------------------------------------------------------


def packet_bytes(type: str, n_columns: int) -> int:
    """Bytes of a packet of 16 rows and n_columns columns (a multiple of 64; K-quants: of 256)."""
    return sum(n_columns // columns * n for columns, n in LAYOUTS[type].parts)


def tile_bytes(type: str, K: int) -> int:
    """Bytes of a tile, 16 rows of K columns: of all its packets."""
    return packet_bytes(type, padded_columns(K))


def padded_columns(K: int) -> int:
    """K rounded up to a whole number of 64."""
    return -(-K // 64) * 64


# --- packing ---------------------------------------------------------------------------------


def pack_rows(raw: Array, type: str) -> Array:
    """A matrix as the file stores it -> its tiles.

    raw: (M, bytes per row) uint8, little-endian. Returns: (ceil(M / 16), tile bytes) uint8.
    """
    return _pack_tiles(_whole_tiles(raw, 16).reshape(-1, 2, 8, raw.shape[1]), type)


def pack(upper_raw: Array, lower_raw: Array, type: str) -> Array:
    """Two matrices of one shape, row by row beside each other (gate and up) -> their tiles.

    upper_raw, lower_raw: (M, bytes per row) uint8. Returns: (ceil(M / 8), tile bytes) uint8.
    """
    assert upper_raw.shape == lower_raw.shape
    both = [_whole_tiles(raw, 8).reshape(-1, 8, raw.shape[1]) for raw in (upper_raw, lower_raw)]
    return _pack_tiles(np.stack(both, axis=1), type)


def unpack_rows(tiles: Array, type: str, n_rows: int, K: int) -> Array:
    """Undoes `pack_rows`: (tiles, tile bytes) uint8 -> (n_rows, bytes per row) uint8."""
    layout, codec, n = LAYOUTS[type], codec_of(type), padded_columns(K)
    parts = _cut_packets(tiles, layout, n)
    if not layout.packing:
        numbers = _order(
            parts[0].view("<u2").reshape(-1, n // 16, 8, 4, 2, 2, 2), "njgtqri", "nrgjtqi"
        )
        return numbers.reshape(-1, n)[:n_rows, :K].copy().view(np.uint8)
    codes = _codes_of_fragments(_fragments_of_parts(parts, layout), layout)
    blocks = np.zeros((len(tiles), 2, 8, n // codec.block_size), codec.dtype)
    write_codes(codes ^ np.uint8(layout.flip), blocks, type)
    HEADERS[type].split(parts[_n_quants(layout) :], blocks)
    rows = blocks.reshape(-1, n // codec.block_size).view(np.uint8)
    return rows[:n_rows, : K // codec.block_size * codec.type_size].copy()


def _whole_tiles(raw: Array, rows: int) -> Array:
    """raw with zero rows up to a multiple of `rows`."""
    return np.pad(raw, ((0, -len(raw) % rows), (0, 0)))


def _pack_tiles(raw: Array, type: str) -> Array:
    """(tiles, 2, 8, bytes per row) -> (tiles, tile bytes)."""
    layout, codec = LAYOUTS[type], codec_of(type)
    K = raw.shape[-1] // codec.type_size * codec.block_size
    missing = (padded_columns(K) - K) // codec.block_size * codec.type_size
    raw = np.ascontiguousarray(np.pad(raw, ((0, 0), (0, 0), (0, 0), (0, missing))))
    if not layout.packing:
        numbers = raw.view("<u2").reshape(len(raw), 2, 8, -1, 4, 2, 2)
        parts = [_order(numbers, "nrgjtqi", "njgtqri")]
        return _join_packets([parts[0].reshape(len(raw), -1, 64).view(np.uint8)], layout, K)
    blocks = raw.view(codec.dtype)
    codes = read_codes(blocks, type) ^ np.uint8(layout.flip)
    parts = _parts_of_fragments(_fragments_of_codes(codes, layout), layout)
    return _join_packets([*parts, *HEADERS[type].join(blocks)], layout, K)


def _order(array: Array, axes: str, wanted: str) -> Array:
    """The array with its axes, named by letters, in another order: a contiguous copy."""
    return np.ascontiguousarray(array.transpose([axes.index(axis) for axis in wanted]))


def _fragments_of_codes(codes: Array, layout: Layout) -> Array:
    """(tiles, 2, 8, columns) uint8 -> (tiles, steps, 32 lanes, 8 fragments, 4)."""
    axes = codes.reshape(len(codes), 2, 8, -1, 2, 2, 4, 4)
    wanted = "nsgtbhri" if layout.order == "blocks" else "nsgthbri"
    return _order(axes, "nrgsbhti", wanted).reshape(len(codes), -1, 32, 8, 4)


def _codes_of_fragments(fragments: Array, layout: Layout) -> Array:
    """Undoes `_fragments_of_codes`."""
    axes = fragments.reshape(len(fragments), -1, 8, 4, 2, 2, 2, 4)
    given = "nsgtbhri" if layout.order == "blocks" else "nsgthbri"
    return _order(axes, given, "nrgsbhti").reshape(len(fragments), 2, 8, -1)


def _n_quants(layout: Layout) -> int:
    """How many parts of a packet are words of the codes: two, where 5 words are 4 and 1."""
    return 2 if layout.packing == "fives" else 1


def _parts_of_fragments(fragments: Array, layout: Layout) -> list[Array]:
    """Words, 16 bytes of a lane at a time: each part (tiles, units, bytes of a unit) uint8."""
    words, steps = PACKINGS[layout.packing].join(fragments), layout.unit // 64
    n, n_steps, _, n_words, _ = words.shape
    if n_words == 5:
        fifth = np.ascontiguousarray(words[:, :, :, 4])
        return [
            np.ascontiguousarray(words[:, :, :, :4]).reshape(n, n_steps, -1),
            fifth.reshape(n, n_steps, -1),
        ]
    together = _order(words.reshape(n, -1, steps, 32, n_words * 4), "nuslw", "nulsw")
    pieces = _order(together.reshape(n, n_steps // steps, 32, -1, 16), "nulpw", "nuplw")
    return [pieces.reshape(n, -1, layout.parts[0][1])]


def _fragments_of_parts(parts: list[Array], layout: Layout) -> Array:
    """Undoes `_parts_of_fragments`."""
    packing, steps, n = PACKINGS[layout.packing], layout.unit // 64, len(parts[0])
    if packing.words == 5:
        four, fifth = (part.reshape(n, -1, 32, part.shape[2] // 128, 4) for part in parts[:2])
        return packing.split(np.concatenate([four, fifth], axis=3))
    units = parts[0].reshape(n, -1, packing.words * steps // 4, 32, 16)
    together = _order(units, "nuplw", "nulpw").reshape(n, units.shape[1], 32, steps, -1)
    words = _order(together, "nulsw", "nuslw").reshape(n, -1, 32, packing.words, 4)
    return packing.split(words)


def _join_packets(parts: list[Array], layout: Layout, K: int) -> Array:
    """Parts of all columns, (tiles, units, bytes) each -> (tiles, tile bytes), packet by packet."""
    pieces, n = [], len(parts[0])
    for first in range(0, padded_columns(K), layout.columns):
        for part, (columns, size) in zip(parts, layout.parts, strict=True):
            units = part.reshape(n, -1, size)
            piece = units[:, first // columns : (first + layout.columns) // columns]
            pieces.append(piece.reshape(n, -1))
    return np.concatenate(pieces, axis=1)


def _cut_packets(tiles: Array, layout: Layout, n_columns: int) -> list[Array]:
    """Undoes `_join_packets`."""
    parts: list[list[Array]] = [[] for _ in layout.parts]
    start = 0
    for first in range(0, n_columns, layout.columns):
        here = min(layout.columns, n_columns - first)
        for pieces, (columns, size) in zip(parts, layout.parts, strict=True):
            stop = start + here // columns * size
            pieces.append(tiles[:, start:stop].reshape(len(tiles), -1, size))
            start = stop
    return [np.ascontiguousarray(np.concatenate(pieces, axis=1)) for pieces in parts]
