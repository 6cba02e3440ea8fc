"""The types over lattice grids, IQ1, IQ2 and IQ3: their grids, reading and writing."""

from pathlib import Path

import numpy as np
import pytest
from gguf import quants as gguf_py
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quants.weights import weights, weights_of
from workbench.errors import ParameterError
from workbench.quants import CODECS, dequantize, quantize
from workbench.quants.codec import TILE_WEIGHTS
from workbench.quants.grids import (
    EVEN_SIGNS,
    LEVELS,
    find_neighbours,
    grid_levels,
    point_numbers,
    split_numbers,
)

HARD = np.load(Path(__file__).resolve().parents[1] / "data" / "iq.npz")
TYPES = tuple(LEVELS)
NEED_IMATRIX = ("IQ1_S", "IQ2_XXS", "IQ2_XS")
POINTS = {
    "IQ1_S": 2048, "IQ1_M": 2048, "IQ2_XXS": 256, "IQ2_XS": 512, "IQ2_S": 1024,
    "IQ3_XXS": 256, "IQ3_S": 512,
}  # fmt: skip
DISTANCES = {
    "IQ1_S": 3, "IQ1_M": 3, "IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 1, "IQ3_XXS": 2, "IQ3_S": 3,
}  # fmt: skip
EVEN = np.ones(256, np.float32)


def zero_blocks(name, n=1):
    return np.zeros(n, CODECS[name].dtype)


def read(blocks, name):
    return dequantize(blocks.view(np.uint8), name)


# --- grids -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_grid_is_that_of_gguf_py(name):
    oracle = getattr(gguf_py, name)
    oracle.init_grid()
    grid = grid_levels(name)
    np.testing.assert_array_equal(grid, oracle.grid.reshape(grid.shape))
    assert len(grid) == POINTS[name]


def test_the_eighth_sign_makes_the_number_of_negative_ones_even():
    assert EVEN_SIGNS[0] == 0
    assert EVEN_SIGNS[0b0000001] == 0b10000001
    assert EVEN_SIGNS[0b1000001] == 0b01000001
    assert EVEN_SIGNS.tobytes() == bytes(gguf_py.IQ2_XXS.ksigns)


@pytest.mark.parametrize("name", TYPES)
def test_every_point_is_found_by_its_number(name):
    near, numbers = find_neighbours(name), point_numbers(name)
    np.testing.assert_array_equal(near.runs[numbers, 0], np.arange(len(numbers)))
    np.testing.assert_array_equal(np.flatnonzero(near.runs[:, 1] < 0), numbers)


@pytest.mark.parametrize("name", TYPES)
def test_neighbours_are_all_points_at_the_smallest_distances_nearest_first(name):
    near, points = find_neighbours(name), split_numbers(point_numbers(name), name)
    off_grid = np.flatnonzero(near.runs[:, 1] >= 0)
    for number in np.random.default_rng(0).choice(off_grid, 40, replace=False):
        run = split_numbers(np.array([number]), name)[0]
        distances = np.square(points - run).sum(axis=1)
        limit = np.unique(distances)[: DISTANCES[name]][-1]
        order = np.argsort(distances, kind="stable")
        expected = order[: (distances <= limit).sum()]
        first, last = near.runs[number]
        found = near.points[first:last].reshape(-1)
        np.testing.assert_array_equal(found[: len(expected)], expected)
        np.testing.assert_array_equal(found[len(expected) :], expected[-1])
        assert len(found) - len(expected) < 8
        np.testing.assert_array_equal(
            near.steps[first:last].transpose(0, 2, 1).reshape(len(found), -1), near.grid[found]
        )


# --- reading by hand -------------------------------------------------------------------------


def test_iq2_xxs_by_hand():
    block = zero_blocks("IQ2_XXS")
    block["d"] = 8  # 8 (1/2 + ls) / 4: 1 for ls = 0, 31 for ls = 15
    block["qs"][0, 2:4] = [0b0000001, 0xF << 12]  # first weight negative, and so is the eighth
    w = read(block, "IQ2_XXS")
    np.testing.assert_array_equal(w[:8], np.float32([-8, 8, 8, 8, 8, 8, 8, -8]) * 31)
    np.testing.assert_array_equal(w[8:32], 8 * 31)
    np.testing.assert_array_equal(w[32:], 8)


def test_iq2_xs_and_iq2_s_by_hand():
    block = zero_blocks("IQ2_XS")
    block["d"], block["qs"][0, 1], block["scales"][0, 0] = 8, 511 | 0b1000000 << 9, 0x20
    w = read(block, "IQ2_XS")
    np.testing.assert_array_equal(np.abs(w[8:16]), grid_levels("IQ2_XS")[511])
    np.testing.assert_array_equal(w[8:16] < 0, [0, 0, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(w[16:32], 5 * 8)  # ls of the second 16 weights is 2
    block = zero_blocks("IQ2_S")
    block["d"], block["qh"][0, 0], block["qs"][0, :1], block["qs"][0, 32] = 8, 0b11, 255, 4
    w = read(block, "IQ2_S")
    np.testing.assert_array_equal(w[:8], [43, 43, -43, 43, 43, 43, 43, 43])  # point 1023


def test_iq3_by_hand():
    block = zero_blocks("IQ3_XXS")
    block["d"], block["qs"][0, 0], block["qs"][0, 67] = 4, 255, 0x10  # ls = 1
    w = read(block, "IQ3_XXS")
    np.testing.assert_array_equal(w[:4], np.float32(3) * grid_levels("IQ3_XXS")[255])
    np.testing.assert_array_equal(w[4:32], 3 * 4)
    np.testing.assert_array_equal(w[32:], 4)
    block = zero_blocks("IQ3_S")
    block["d"], block["qh"][0, 0], block["signs"][0, 0], block["scales"][0, 0] = 1, 2, 0x80, 0x10
    w = read(block, "IQ3_S")
    np.testing.assert_array_equal(w[4:8], grid_levels("IQ3_S")[256] * [1, 1, 1, -1])
    np.testing.assert_array_equal(w[32:64], 3)  # ls = 1


def test_iq1_by_hand():
    block = zero_blocks("IQ1_S")
    block["d"], block["qs"][0, 1], block["qh"][0, :2] = 8, 255, [7 << 3, 0x9000]
    w = read(block, "IQ1_S")
    np.testing.assert_array_equal(w[:8], -7)  # (-1 + 1/8) 8
    np.testing.assert_array_equal(w[8:16], 9)  # point 2047, (1 + 1/8) 8
    np.testing.assert_array_equal(w[32:64], -9 * 3)  # (-1 - 1/8) 8 (1 + 2 ls), ls = 1
    block = zero_blocks("IQ1_M")
    block["scales"] = [0b001000, 0, 0, 0, 0, 0x80, 0, 0x40]  # d = 0x4800 = 8; second ls = 1
    block["qh"][0, 0] = 0x80
    w = read(block, "IQ1_M")
    np.testing.assert_array_equal(w[:8], -7)
    np.testing.assert_array_equal(w[8:16], -9)
    np.testing.assert_array_equal(w[16:32], -7 * 3)


# --- writing ---------------------------------------------------------------------------------


def written(name, key):
    """What quantize writes for the hard rows, each with its own imatrix or all without one."""
    if key == "q":
        return quantize(HARD["x"], name)
    return np.stack([quantize(x, name, i) for x, i in zip(HARD["x"], HARD["imatrix"], strict=True)])


@pytest.mark.parametrize("case", [name for name in HARD.files if ".q" in name])
def test_odd_turns_of_the_searches_give_the_bytes_of_ggml(case):
    name, key = case.split(".")
    same = np.ones(len(HARD["x"]), bool)
    if name == "IQ3_S":  # ggml misplaces what stands after a sub-block of zeros
        runs = HARD["x"].reshape(len(same), -1, 32)
        same = (runs != 0).any(axis=2).all(axis=1)
    raw = written(name, key)
    np.testing.assert_array_equal(raw[same], HARD[case][same])
    ours, theirs = (np.square(dequantize(q, name) - HARD["x"]) for q in (raw, HARD[case]))
    assert (ours[~same].sum(axis=1) < theirs[~same].sum(axis=1)).all()


def test_iq3_s_keeps_its_place_after_a_sub_block_of_zeros():
    x = np.zeros(256, np.float32)
    x[183] = -3.75
    w = dequantize(quantize(x, "IQ3_S"), "IQ3_S")
    assert w[183] == pytest.approx(-3.75, rel=0.05)
    np.testing.assert_array_equal(w[:160], np.float32(w[0]))


@pytest.mark.parametrize("name", TYPES)
def test_importance_lowers_the_error_it_weights(name):
    rng = np.random.default_rng(5)
    x = weights(5, -5, 0.0, (8, 512))
    imatrix = np.exp(2 * rng.standard_normal(512)).astype(np.float32)
    even = dequantize(quantize(x, name, np.ones(512, np.float32)), name)
    ours = dequantize(quantize(x, name, imatrix), name)
    assert (imatrix * np.square(ours - x)).sum() < (imatrix * np.square(even - x)).sum()


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=15, deadline=None)
@given(x=weights_of(1, 256, exponents=(-6, 6)), power=st.integers(-2, 2))
def test_four_times_the_weights_are_four_times_the_numbers_read_back(name, x, power):
    x[:, ::32] += np.float32(1)  # else a sub-block may count as empty before it is made larger
    factor = np.float32(4.0**power)  # of 2, the square roots of weights would be rounded anew
    y = dequantize(quantize(x, name, EVEN), name)
    np.testing.assert_array_equal(dequantize(quantize(x * factor, name, EVEN), name), y * factor)


def test_normal_weights_lose_less_the_more_bits_there_are():
    x = np.random.default_rng(8).standard_normal((16, 1024)).astype(np.float32)
    errors = []
    for name in sorted(TYPES, key=lambda name: CODECS[name].type_size):
        y = dequantize(quantize(x, name, np.ones(1024, np.float32)), name)
        errors.append(np.sqrt(np.square(y - x).mean() / np.square(x).mean()))
    assert (np.diff(errors) < 0).all()
    assert 0.1 < errors[-1] < errors[0] < 0.6


@pytest.mark.parametrize("name", TYPES)
def test_rows_alone_and_in_tiles_read_only_or_not_give_the_same_bytes(name):
    x = weights(6, -4, 0.1, (3, TILE_WEIGHTS // 2 + 256))
    x.flags.writeable = False
    imatrix = np.linspace(0.5, 1.5, x.shape[1], dtype=np.float32)
    alone = np.stack([quantize(row, name, imatrix) for row in x])
    np.testing.assert_array_equal(quantize(x, name, imatrix), alone)


@pytest.mark.parametrize("name", NEED_IMATRIX)
def test_the_smallest_types_need_an_imatrix(name):
    with pytest.raises(ParameterError, match=f"{name} has too few bits without an importance"):
        quantize(np.ones((1, 256), np.float32), name)


@pytest.mark.parametrize("name", [name for name in TYPES if name not in NEED_IMATRIX])
def test_zeros_are_written_with_a_scale_of_zero(name):
    for imatrix in (None, EVEN):
        q = quantize(np.zeros((2, 256), np.float32), name, imatrix)
        np.testing.assert_array_equal(dequantize(q, name), 0)


def test_weights_whose_sums_overflow_are_an_error_where_ggml_aborts():
    x = np.full((1, 256), 3e38, np.float32)
    for name in ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ3_XXS", "IQ3_S"):
        with pytest.raises(ParameterError, match=f"too large for the sums of {name}"):
            quantize(x, name, EVEN)
