import numpy as np
import pytest

from workbench.analysis import block_zoom, code_usage, scale_spread
from workbench.errors import ParameterError, UnsupportedError
from workbench.quants import quantize


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def test_levels_used_evenly_carry_all_their_bits():
    x = np.arange(-8, 8, dtype=np.float32).repeat(2)
    usage = code_usage(quantize(x, "Q4_0"), "q4_0")
    assert usage.counts.tolist() == [2] * 16 and usage.type == "Q4_0"
    assert (usage.entropy_bits, usage.capacity_bits, usage.n_unused) == (4, 4, 0)


def test_a_constant_wastes_all_codes_but_one():
    usage = code_usage(quantize(np.full(64, 3, np.float32), "Q4_0"), "Q4_0")
    assert (usage.entropy_bits, usage.n_unused, usage.levels[usage.counts > 0]) == (0, 15, [-8])


def test_many_rows_are_counted_in_tiles():
    x = normal(300, 2048)
    usage = code_usage(quantize(x, "Q8_0"), "Q8_0")
    assert usage.counts.sum() == x.size and usage.shares.sum() == pytest.approx(1)
    assert usage.counts[usage.levels == -128] == 0  # ggml's Q8_0 ends at -127


def test_scales_are_gathered_and_the_odd_ones_counted():
    x = np.ones((3, 32), np.float32) * np.float32([[0], [2], [-2]])
    raw = quantize(x, "Q4_0")
    spread = scale_spread(raw, "Q4_0")
    assert spread.scales.tolist() == [0, -0.25, 0.25] and spread.group == 32
    assert (spread.n_zero, spread.n_negative, spread.n_infinite) == (1, 1, 0)
    assert spread.percentiles[100] == 0.25
    raw[0, :2] = 0x7C00 & 255, 0x7C00 >> 8
    assert scale_spread(raw, "Q4_0").n_infinite == 1


def test_a_block_seen_closely_is_that_block_of_the_tensor():
    x = normal(4, 128)
    zoom = block_zoom(x, "Q4_1", row=2, block=3)
    np.testing.assert_array_equal(zoom.x, x[2, 96:])
    np.testing.assert_array_equal(zoom.codes.decode(), zoom.y)
    assert zoom.level_values.shape == (1, 16)
    assert all(y in zoom.level_values for y in zoom.y)
    assert 0 < zoom.rmse < 0.1


@pytest.mark.parametrize(
    ("row", "block", "match"),
    [
        (4, 0, "row: not in this tensor; expected 0 to 3, got 4"),
        (0, -1, "block: .* 0 to 3, got -1"),
    ],
)
def test_a_block_that_is_not_there_is_refused(row, block, match):
    with pytest.raises(ParameterError, match=match):
        block_zoom(normal(4, 128), "Q4_0", row, block)


def test_what_has_no_codes_is_refused():
    with pytest.raises(ParameterError, match="x: no matrix of weights"):
        block_zoom(normal(32), "Q4_0")
    with pytest.raises(UnsupportedError, match="type F16: its weights have no codes"):
        code_usage(quantize(normal(2, 32), "F16"), "F16")
    with pytest.raises(ParameterError, match="raw is no array of bytes"):
        code_usage([1, 2], "Q4_0")


def test_no_blocks_are_no_codes():
    assert code_usage(np.zeros((0, 18), np.uint8), "Q4_0").counts.sum() == 0
    assert scale_spread(np.zeros((2, 0), np.uint8), "Q4_0").scales.size == 0
