"""Packets: nothing is lost in another order, and their products are those of exact arithmetic."""

import functools

import numpy as np
import pytest

from tests.ops import nvrtc
from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from tests.ops.packets_cases import (
    PATHS,
    TEST_KERNELS,
    finite_rows,
    planes_room,
    relative_error,
    vector,
)
from tests.ops.raw_blocks import random_blocks
from tests.ops.test_cuda_compile import needs_nvrtc
from tests.ops.test_cuda_kernels import needs_gpu
from workbench.ops import kernels, planes
from workbench.ops.packet_words import PACKINGS
from workbench.ops.packets import (
    LAYOUTS,
    PACKET_COLUMNS,
    pack,
    pack_rows,
    packet_bytes,
    padded_columns,
    tile_bytes,
    unpack_rows,
)
from workbench.quants import CODECS

TYPES = list(PACKET_COLUMNS)
# float32 sums of a few hundred blocks, each exact: a few units of 2**-24 of the sum of magnitudes.
TOLERANCE = 1e-6
BITS = {"bytes": 8, "nibbles": 4, "compact": 4, "triples": 6, "fives": 5, "threes": 3, "pairs": 2}


def shapes(type: str) -> list[tuple[int, int]]:
    """(M, K): odd ones; the last packet is short, for small blocks also by half a step."""
    return [(13, 96), (40, 1120)] if CODECS[type].block_size < 256 else [(13, 256), (40, 1280)]


def any_rows(type: str, M: int, K: int, seed: int = 0) -> np.ndarray:
    n = M * K // CODECS[type].block_size
    return random_blocks(type, n, seed).reshape(M, -1)


# --- the order of the bytes ----------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKINGS)
def test_words_hold_all_bits_of_their_fragments_and_nothing_else(name):
    packing, bits = PACKINGS[name], BITS[name]
    codes = np.random.default_rng(0).integers(0, 1 << bits, (50, 8, 4), dtype=np.uint8)
    words = packing.join(codes)
    assert words.shape == (50, packing.words, 4) and packing.words == bits
    np.testing.assert_array_equal(packing.split(words), codes)


@pytest.mark.parametrize("type", TYPES)
def test_packing_loses_nothing(type):
    for M, K in shapes(type):
        raw = any_rows(type, M, K, seed=M)
        tiles = pack_rows(raw, type)
        assert tiles.shape == (-(-M // 16), tile_bytes(type, K))
        np.testing.assert_array_equal(unpack_rows(tiles, type, M, K), raw)


@pytest.mark.parametrize("type", TYPES)
def test_packets_have_no_more_bytes_than_the_file(type):
    codec = CODECS[type]
    assert packet_bytes(type, 256) == 16 * 256 // codec.block_size * codec.type_size
    assert tile_bytes(type, 11008) == 16 * 11008 // codec.block_size * codec.type_size
    assert all(size % 16 == 0 for _, size in LAYOUTS[type].parts)


def test_a_packet_of_q4_0_is_what_its_picture_says():
    raw = any_rows("Q4_0", 16, 64)
    blocks, packet = raw.reshape(16, 2, 18), pack_rows(raw, "Q4_0")[0]
    words = packet[:512].reshape(32, 4, 4)
    for g, t, b, r in np.ndindex(8, 4, 2, 2):
        original = blocks[g + 8 * r, b, 2 + 4 * t : 6 + 4 * t]
        np.testing.assert_array_equal(words[4 * g + t, 2 * b + r], original ^ 0x88)
    scales = packet[512:].reshape(8, 2, 2, 2)  # g, b, r, byte
    np.testing.assert_array_equal(scales[3, 1, 0], blocks[3, 1, :2])
    np.testing.assert_array_equal(scales[3, 1, 1], blocks[11, 1, :2])


@pytest.mark.parametrize("type", TYPES)
def test_two_matrices_stand_beside_each_other_row_by_row(type):
    K = shapes(type)[0][1]
    upper, lower = any_rows(type, 13, K, seed=1), any_rows(type, 13, K, seed=2)
    rows = unpack_rows(pack(upper, lower, type), type, 32, K).reshape(2, 2, 8, -1)
    np.testing.assert_array_equal(rows[:, 0].reshape(16, -1)[:13], upper)
    np.testing.assert_array_equal(rows[:, 1].reshape(16, -1)[:13], lower)


# --- activations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [0.0, 1e-45, 1e-30, 0.99, 1.0, 3.4e38])
def test_the_exponent_is_the_smallest_power_of_two_above(largest):
    e = planes.exponent_of(largest)
    assert largest < 2.0**e and (e == -96 or largest >= 2.0 ** (e - 1))


def test_planes_add_up_to_the_vector():
    x = vector(1000)
    digits, halves, brains = planes.digit_planes(x), planes.half_planes(x), planes.brain_planes(x)
    largest = np.abs(x).max()
    weights = 2.0 ** np.array([8, 0, -8, -16])
    np.testing.assert_allclose(
        (weights @ digits.numbers)[:1000] * digits.scale, x, rtol=0, atol=largest * 2**-30
    )
    high, low = halves.numbers.astype(np.float64)
    np.testing.assert_allclose((high + low / 2048)[:1000] * halves.scale, x, rtol=2**-22)
    numbers = (brains.numbers.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    np.testing.assert_array_equal(numbers.sum(axis=0)[:1000], x)


def test_sums_are_those_of_16_columns():
    x = vector(1000)
    digits = planes.digit_planes(x)
    want = np.pad(x, (0, 24)).reshape(-1, 16).astype(np.float64).sum(axis=1)
    got = digits.sums16[: len(want)] * digits.scale
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(x).max() * 1e-6)


# --- the kernels, on the CPU ---------------------------------------------------------------------


@functools.cache
def library():
    return compile_for_cpu([*PATHS, TEST_KERNELS])


@needs_compiler
@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("Digits", planes.digit_planes),
        ("Halves", planes.half_planes),
        ("Brains", planes.brain_planes),
    ],
)
@pytest.mark.parametrize("K", [32, 288, 1000])
def test_put_writes_the_bytes_of_numpy(name, twin, K):
    x = vector(K, seed=K)
    want = twin(x)
    image, scale = np.zeros(len(want.image), np.uint8), np.zeros(1, np.float32)
    launch(library(), f"planes_{name}", 1, 32, len(image) + 128, x, image, scale, K)
    written = want.image != 0  # between the planes and behind the columns lies whatever was there
    np.testing.assert_array_equal(image[written], want.image[written])
    assert scale[0] == want.scale


@needs_compiler
@pytest.mark.parametrize("type", TYPES)
def test_products_are_those_of_exact_arithmetic(type):
    for M, K in shapes(type):
        raw, x = finite_rows(type, M, K, seed=K), vector(K)
        tiles = pack_rows(raw, type)
        y = np.full(16 * len(tiles), 77, np.float32)
        shared = planes_room(type, K) + packet_bytes(type, PACKET_COLUMNS[type])
        launch(library(), f"matvec_{type}", len(tiles), 32, shared, tiles, x, y, K)
        assert relative_error(y[:M], raw, type, x) < TOLERANCE
        np.testing.assert_array_equal(y[M:], np.zeros(16 * len(tiles) - M, np.float32))


@needs_compiler
@pytest.mark.parametrize("type", ["Q4_1", "Q5_K", "F16"])
def test_a_vector_of_zeros_gives_zeros(type):
    raw, x = finite_rows(type, 16, 256), np.zeros(256, np.float32)
    y = np.full(16, 77, np.float32)
    shared = planes_room(type, 256) + packet_bytes(type, 256)
    launch(library(), f"matvec_{type}", 1, 32, shared, pack_rows(raw, type), x, y, 256)
    np.testing.assert_array_equal(y, np.zeros(16, np.float32))


@pytest.mark.parametrize("K", [1, 64, 65, 4096])
def test_columns_are_padded_to_64(K):
    assert padded_columns(K) % 64 == 0 and K <= padded_columns(K) < K + 64


# --- the kernels, on a GPU -----------------------------------------------------------------------


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["80"])
def test_products_need_no_local_memory(architecture):
    text = kernels.join_sources([*kernels.DECODE_SHARED, *PATHS, TEST_KERNELS], {})
    found = nvrtc.compile_text(text, architecture, "packets")
    assert {kernel.name for kernel in found} >= {f"matvec_{type}" for type in TYPES}
    assert [kernel for kernel in found if kernel.spilled or kernel.stack] == []


@needs_gpu
@pytest.mark.parametrize("type", TYPES)
def test_products_on_a_gpu_are_those_of_exact_arithmetic(type):
    from tests.gpu import check_packets

    assert check_packets.largest_error(check_packets.compiled(), type) < TOLERANCE
