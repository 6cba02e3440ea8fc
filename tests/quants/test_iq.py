"""The I-quants over lattice grids: what their grids are, and what their writers refuse."""

import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.quants import dequantize, quantize
from workbench.quants.grids import EVEN_SIGNS, LEVELS, find_neighbours, grid_levels

TYPES = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
POINTS = dict(zip(TYPES, (2048, 2048, 256, 512, 1024, 256, 512), strict=True))


def weights(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 512)).astype(np.float32)


@pytest.mark.parametrize("name", TYPES)
def test_a_grid_has_its_points_each_once_on_the_levels_of_its_type(name):
    grid = grid_levels(name)
    assert len(grid) == POINTS[name] == len(np.unique(grid, axis=0))
    assert set(np.unique(grid)) <= set(LEVELS[name])


@pytest.mark.parametrize("name", TYPES)
def test_the_neighbours_of_a_run_off_the_grid_are_points_of_it(name):
    near = find_neighbours(name)
    off = near.runs[:, 1] >= 0
    assert (~off).sum() == POINTS[name]
    assert 0 <= near.points.min() and near.points.max() < POINTS[name]
    assert (near.runs[off, 1] > near.runs[off, 0]).all()


def test_eight_signs_are_stored_in_seven_bits_because_their_number_is_even():
    assert {int(byte).bit_count() % 2 for byte in EVEN_SIGNS} == {0}
    np.testing.assert_array_equal(EVEN_SIGNS & 127, np.arange(128))


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XXS", "IQ2_XS"])
def test_types_of_the_fewest_bits_need_an_imatrix(name):
    with pytest.raises(ParameterError, match=f"{name} has too few bits without an importance"):
        quantize(weights(1), name)


@pytest.mark.parametrize("name", TYPES)
def test_written_weights_come_back_near_and_with_an_imatrix_nearer_where_it_counts(name):
    x, imatrix = weights(8), np.ones(512, np.float32)
    imatrix[::4] = 100
    flat = dequantize(quantize(x, name, np.ones(512, np.float32)), name) - x
    real = dequantize(quantize(x, name, imatrix), name) - x
    assert np.square(flat).mean() < 0.6 * np.square(x).mean()
    assert np.square(real[:, ::4]).mean() < np.square(flat[:, ::4]).mean()


@pytest.mark.parametrize("name", TYPES)
def test_rows_of_zeros_come_back_as_zeros(name):
    raw = quantize(np.zeros((2, 256), np.float32), name, np.ones(256, np.float32))
    np.testing.assert_array_equal(dequantize(raw, name), 0)


@pytest.mark.parametrize("name", TYPES[2:])
def test_weights_whose_squares_overflow_are_refused(name):
    x = np.full((1, 256), 1e25, np.float32)
    x[0, ::3] = -3e24
    with pytest.raises(ParameterError, match="weights are too large for the sums"):
        quantize(x, name, np.ones(256, np.float32))
