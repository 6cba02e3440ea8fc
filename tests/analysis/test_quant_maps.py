import numpy as np
import pytest

from workbench.analysis import error_by_value, error_map, quant_error
from workbench.errors import ParameterError, UnsupportedError
from workbench.quants import dequantize, quantize


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def test_a_spike_shows_in_the_map_as_the_one_bad_block():
    x = normal(4, 128) * np.float32(0.01)
    x[2, 70] = 5
    found = error_map(x, "Q4_0")
    assert (found.size, found.rmse.shape) == (32, (4, 4))
    worst = found.worst(2)
    assert (worst["row"][0], worst["block"][0]) == (2, 2)
    assert worst["share"][0] > 0.5 and worst["rmse"][0] > 5 * worst["rmse"][1]
    assert found.share_of_worst(1 / 16) == pytest.approx(worst["share"][0])
    assert found.share_of_worst(1) == pytest.approx(1)


def test_the_map_adds_up_to_the_error_of_the_tensor():
    x = normal(8, 256)
    rmse = error_map(x, "Q5_1").rmse
    assert np.sqrt(np.mean(np.square(rmse, dtype=float))) == pytest.approx(
        quant_error(x, "Q5_1").rmse, rel=1e-6
    )


@pytest.mark.parametrize(("name", "block", "group"), [("TQ1_0", 256, 256), ("NVFP4", 64, 16)])
def test_sub_blocks_are_the_weights_under_one_scale(name, block, group):
    x = normal(2, 256)
    assert error_map(x, name).size == block
    fine = error_map(x, name, sub_blocks=True)
    assert (fine.size, fine.rmse.shape) == (group, (2, 256 // group))


def test_what_became_of_the_weights_may_be_given():
    x = normal(4, 64)
    y = dequantize(quantize(x, "Q4_0"), "Q4_0")
    np.testing.assert_array_equal(error_map(x, "Q4_0", y=y).rmse, error_map(x, "Q4_0").rmse)
    given, made = error_by_value(x, "Q4_0", y=y), error_by_value(x, "Q4_0")
    np.testing.assert_array_equal(given.rmse, made.rmse)
    with pytest.raises(ParameterError, match="y: not what became of x; expected 256 weights"):
        error_map(x, "Q4_0", y=y[:2])


def test_floats_have_no_sub_blocks():
    with pytest.raises(UnsupportedError, match="type F16: its weights have no codes"):
        error_map(normal(2, 32), "F16", sub_blocks=True)


def test_weights_at_their_values_made_by_hand():
    x = np.zeros((1, 32), np.float32)
    x[0, :4] = -8, 7, 0.25, 0.5  # the scale of Q4_0 is 1: 0.25 becomes 0, and 0.5 becomes 1
    found = error_by_value(x, "Q4_0", bins=15)
    assert found.counts.tolist() == [1, *[0] * 7, 30, *[0] * 5, 1]
    np.testing.assert_allclose(found.bias[8], (-0.25 + 0.5) / 30)
    np.testing.assert_allclose(found.rmse[8], np.sqrt((0.0625 + 0.25) / 30))
    assert np.isnan(found.rmse[3]) and found.rmse[0] == 0
    assert found.centers[0] == -7.5


def test_all_weights_are_counted_also_equal_ones():
    assert error_by_value(normal(4, 64), "Q8_0").counts.sum() == 256
    assert error_by_value(np.ones((1, 32), np.float32), "Q8_0", bins=3).counts.tolist() == [
        32,
        0,
        0,
    ]
    with pytest.raises(ParameterError, match="bins: no number of bins; expected 1 or more, got 0"):
        error_by_value(normal(1, 32), "Q8_0", bins=0)
