"""Repacking on the GPU gives the bytes of `packets.pack`, and back those of the file."""

import numpy as np
import pytest

from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from tests.ops.raw_blocks import random_blocks
from tests.ops.test_cuda_kernels import needs_gpu
from workbench.errors import ParameterError, UnsupportedError
from workbench.ops import PackedTensor, kernels, packets
from workbench.ops.bit_moves import NOWHERE, apply_moves, find_sources, inverse, to_moves
from workbench.ops.packet_moves import launches, packet_moves, row_words
from workbench.quants import CODECS

REPACK = kernels.SOURCES["repack"]
TILES, THREADS = REPACK.defines["TILES"], REPACK.defines["THREADS"]
TYPES = list(packets.PACKET_COLUMNS)
GUARD = 64  # bytes around the output that a kernel must leave alone
# Whole tiles and packets; a lone row; a tail of each; of 32-weight types a half of 64 columns.
SHAPES = {32: ((32, 1024), (1, 32), (37, 544), (21, 992)), 256: ((32, 1024), (1, 256), (37, 768))}


def blocks(type: str, n_rows: int, n_columns: int, seed: int = 0) -> np.ndarray:
    """Random rows of a type: (rows, bytes) uint8."""
    n_blocks = n_rows * n_columns // CODECS[type].block_size
    return random_blocks(type, n_blocks, seed).reshape(n_rows, -1)


def twin(raws: list[np.ndarray], type: str) -> np.ndarray:
    """What NumPy packs."""
    return packets.pack_rows(raws[0], type) if len(raws) == 1 else packets.pack(*raws, type)


def cases() -> list[tuple[str, int, int]]:
    small = [type for type in TYPES if CODECS[type].block_size < 256]
    shapes = [(type, *shape) for type in small for shape in SHAPES[32]]
    return shapes + [(t, *shape) for t in TYPES if t not in small for shape in SHAPES[256]]


# --- moves of bits -------------------------------------------------------------------------------


def test_moves_of_any_permutation_and_their_inverse_are_right():
    rng = np.random.default_rng(0)
    order = rng.permutation(8 * 60)

    def shuffle(data: np.ndarray) -> np.ndarray:
        bits = np.unpackbits(data, bitorder="little")[order]
        return np.packbits(bits, bitorder="little") ^ np.uint8(0x88)

    data, sources = rng.integers(0, 256, 60, np.uint8), find_sources(shuffle, 60)
    there = apply_moves(to_moves(sources), data.view(np.uint32))
    np.testing.assert_array_equal(there.view(np.uint8), shuffle(data))
    back = apply_moves(to_moves(inverse(sources)), there)
    np.testing.assert_array_equal(back.view(np.uint8), data)


def test_a_copy_is_one_move_a_word():
    moves = to_moves(find_sources(lambda data: data.copy(), 16))
    np.testing.assert_array_equal(moves.groups, [[0, 1]])
    np.testing.assert_array_equal(moves.moves[0, :4], [[32 * i, 0xFFFFFFFF] for i in range(4)])
    np.testing.assert_array_equal(moves.words[0, :4], [[i, 0] for i in range(4)])
    np.testing.assert_array_equal(moves.words[0, 4:, 0], np.full(28, NOWHERE))


def test_sorted_words_take_fewer_moves_and_make_the_same():
    rng = np.random.default_rng(1)
    order = np.arange(8 * 512).reshape(-1, 64)
    order[:, :32] = rng.permutation(order[:, :32].reshape(-1)).reshape(-1, 32)

    def shuffle(data: np.ndarray) -> np.ndarray:
        bits = np.unpackbits(data, bitorder="little")[order.reshape(-1)]
        return np.packbits(bits, bitorder="little")

    data, sources = rng.integers(0, 256, 512, np.uint8), find_sources(shuffle, 512)
    plain, some = to_moves(sources), to_moves(sources, sort=True)
    assert len(some.moves) < 0.6 * len(plain.moves)
    for moves in (plain, some):
        made = apply_moves(moves, data.view(np.uint32))
        np.testing.assert_array_equal(made.view(np.uint8), shuffle(data))


def test_what_computes_is_no_rearrangement():
    with pytest.raises(AssertionError, match="more than moves of bits"):
        find_sources(lambda data: data + np.uint8(3), 8)


@pytest.mark.parametrize("type", TYPES)
def test_every_bit_of_the_blocks_is_in_the_packet_once(type):
    columns = packets.PACKET_COLUMNS[type]
    moves = packet_moves(type, columns)
    used = np.unpackbits(moves.pack.moves[..., 1].copy().view(np.uint8)).sum()
    assert used == 16 * 8 * columns // CODECS[type].block_size * CODECS[type].type_size
    n_words = np.count_nonzero(moves.pack.words[..., 0] != NOWHERE)
    assert n_words * 4 == packets.packet_bytes(type, columns)
    assert row_words(type, columns) % 8 == 4


# --- the kernels on the CPU ----------------------------------------------------------------------


def at(n_bytes: int, shift: int = 0) -> tuple[np.ndarray, int]:
    """Memory between guards, `shift` bytes behind a multiple of 256, and its address."""
    memory = np.full(n_bytes + 2 * GUARD + 512, 0xCD, np.uint8)
    start = -memory.ctypes.data % 256 + 256 + shift
    return memory[start - GUARD : start + n_bytes + GUARD], memory.ctypes.data + start


def inside(guarded: np.ndarray) -> np.ndarray:
    for guard in (guarded[:GUARD], guarded[-GUARD:]):
        np.testing.assert_array_equal(guard, np.full(GUARD, 0xCD, np.uint8))
    return guarded[GUARD:-GUARD]


def run_on_cpu(way: str, type: str, shape: tuple[int, int], *addresses: int | None) -> None:
    library = compile_for_cpu(REPACK)
    for one in launches(way, type, shape, *addresses, TILES):
        moves = getattr(packet_moves(type, one.columns), way)
        table = (moves.groups, moves.moves, moves.words, len(moves.groups))
        arguments = (*one.addresses, *table, one.part)
        launch(library, one.kernel, one.grid, THREADS, one.shared, *arguments, order=1)


@needs_compiler
@pytest.mark.parametrize("joined", [False, True], ids=["plain", "joined"])
@pytest.mark.parametrize(("type", "n_rows", "n_columns"), cases())
def test_kernels_run_on_the_cpu_pack_as_numpy_and_unpack_what_they_packed(
    type, n_rows, n_columns, joined
):
    raws = [blocks(type, n_rows, n_columns, seed) for seed in range(1 + joined)]
    shift = 2 if (n_rows, n_columns) == (37, 544) else 0  # rows need not begin at multiples of 16
    guarded, places = zip(*(at(raw.size, shift) for raw in raws), strict=True)
    for memory, raw in zip(guarded, raws, strict=True):
        inside(memory)[:] = raw.reshape(-1)
    want = twin(raws, type)
    made, place = at(want.size)
    lower = places[1] if joined else None
    run_on_cpu("pack", type, (n_rows, n_columns), places[0], lower, place)
    np.testing.assert_array_equal(inside(made).reshape(want.shape), want)
    for memory in guarded:
        inside(memory)[:] = 0x55
    run_on_cpu("unpack", type, (n_rows, n_columns), places[0], lower, place)
    for memory, raw in zip(guarded, raws, strict=True):
        np.testing.assert_array_equal(inside(memory), raw.reshape(-1))


@pytest.mark.parametrize(
    ("type", "n_columns", "shift", "kernels_of_it"),
    [
        ("Q4_0", 4096, 0, ["pack_16", "unpack_16"]),
        ("Q6_K", 4096, 0, ["pack_2", "unpack_2"]),  # 210 bytes of a row in a packet
        ("Q4_0", 544, 0, ["pack_2", "pack_2", "unpack_2", "unpack_2"]),
        ("MXFP4", 4096, 1, ["pack_1", "unpack_1"]),
    ],
)
def test_loads_are_as_wide_as_addresses_allow(type, n_columns, shift, kernels_of_it):
    both = [
        one.kernel
        for way in ("pack", "unpack")
        for one in launches(way, type, (32, n_columns), 4096 + shift, None, 8192, TILES)
    ]
    assert both == kernels_of_it


# --- on a GPU ------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("joined", [False, True], ids=["plain", "joined"])
@pytest.mark.parametrize(("type", "n_rows", "n_columns"), cases())
def test_the_gpu_packs_as_numpy_and_unpacks_what_it_packed(type, n_rows, n_columns, joined):
    from workbench.ops import cuda, cuda_packets

    raws = [blocks(type, n_rows, n_columns, seed) for seed in range(1 + joined)]
    weights = [PackedTensor(cuda.asarray(raw), type, (n_rows, n_columns)) for raw in raws]
    packed = cuda_packets.pack(*weights)
    np.testing.assert_array_equal(cuda.to_numpy(packed.data), twin(raws, type))
    for got, raw in zip(cuda_packets.unpack(packed), raws, strict=True):
        np.testing.assert_array_equal(cuda.to_numpy(got.raw), raw)
    some = cuda_packets.dequantize_packets(packed, slice(0, min(n_rows, 19)))
    for got, weight in zip(some, weights, strict=True):
        want = cuda.to_numpy(cuda.expand(weight, slice(0, min(n_rows, 19))))
        np.testing.assert_array_equal(cuda.to_numpy(got).view("u4"), want.view("u4"))


@needs_gpu
def test_matrices_that_cannot_be_packed_are_named():
    from workbench.ops import cuda, cuda_packets

    raw = cuda.asarray(blocks("Q4_0", 4, 64))
    weight = PackedTensor(raw, "Q4_0", (4, 64))
    with pytest.raises(UnsupportedError, match="no packets of type TQ1_0"):
        cuda_packets.pack(PackedTensor(raw, "TQ1_0", (4, 256)))
    with pytest.raises(ParameterError, match="the two matrices differ"):
        cuda_packets.pack(weight, weight.rows(0, 2))
    with pytest.raises(ParameterError, match="byte order 'big'"):
        cuda_packets.pack(PackedTensor(raw, "Q4_0", (4, 64), "big"))
    with pytest.raises(ParameterError, match="expected a slice from a multiple of 16"):
        cuda_packets.unpack(cuda_packets.pack(weight), slice(3, 4))
