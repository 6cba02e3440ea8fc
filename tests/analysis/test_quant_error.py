import math

import numpy as np
import pytest

from workbench.analysis import frontier, quant_error
from workbench.analysis.quant_error import TILE_WEIGHTS, measure
from workbench.errors import ParameterError, UnsupportedError
from workbench.quants import dequantize, quantize


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_numbers_of_a_case_made_by_hand():
    x = np.array([[3, 4, 0, 0]], np.float32)
    y = np.array([[3, 3, 0, 1]], np.float32)
    found = measure([(x, y)], "F32", 16, 4, np.array([1, 2, 0, 1], np.float32))
    assert found.rmse == math.sqrt(2 / 4)
    assert found.relative_rmse == math.sqrt(2 / 25)
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 2))
    assert found.cosine == pytest.approx(21 / (5 * math.sqrt(19)))
    assert (found.max_error, found.mean_error) == (1.0, 0.0)
    assert found.percentiles == {50: 0.5, 90: 1.0, 99: 1.0, 99.9: 1.0}
    assert found.weighted_rmse == math.sqrt(3 / 4)
    assert found.weighted_relative_rmse == math.sqrt(3 / (9 + 2 * 16))
    assert found.bits_per_weight == 32


def test_tiles_give_the_numbers_of_one_piece():
    x = normal(3, TILE_WEIGHTS // 2)
    y = dequantize(quantize(x, "Q4_0"), "Q4_0")
    found, whole = quant_error(x, "q4_0"), measure([(x, y)], "Q4_0", 0, x.size)
    assert found.rmse == pytest.approx(whole.rmse, rel=1e-12)
    assert found.percentiles == whole.percentiles
    assert (found.type, found.bits_per_weight, found.imatrix) == ("Q4_0", 4.5, False)


def test_weights_that_a_type_can_hold_have_no_error():
    x = np.arange(-8, 8, dtype=np.float32).repeat(2).reshape(1, 32)
    found = quant_error(x, "Q4_0")
    assert (found.rmse, found.relative_rmse, found.max_error) == (0, 0, 0)
    assert (found.sqnr_db, found.cosine) == (math.inf, pytest.approx(1, abs=1e-12))


def test_zeros_are_no_division_by_zero():
    found = quant_error(np.zeros((2, 32), np.float32), "Q8_0", np.ones(32, np.float32))
    assert (found.relative_rmse, found.sqnr_db, found.cosine) == (0, math.inf, 1)
    lost = measure([(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))], "F32", 8, 2)
    assert (lost.relative_rmse, lost.sqnr_db, lost.cosine) == (math.inf, -math.inf, 0)


def test_no_weights_have_no_error():
    found = quant_error(np.zeros((0, 32), np.float32), "Q4_0")
    assert (found.n_weights, found.rmse) == (0, 0) and math.isnan(found.percentiles[50])
    assert quant_error(np.zeros((2, 0), np.float32), "Q4_0").n_weights == 0


@pytest.mark.parametrize(("coarse", "fine"), [("Q4_0", "Q5_0"), ("Q5_0", "Q8_0")])
def test_a_bit_more_is_six_decibels_more(coarse, fine):
    x = normal(64, 256)
    low, high = quant_error(x, coarse), quant_error(x, fine)
    bits = {"Q4_0": 4, "Q5_0": 5, "Q8_0": 8}
    gain = (high.sqnr_db - low.sqnr_db) / (bits[fine] - bits[coarse])
    assert 5 < gain < 8.5


def test_an_imatrix_lowers_the_weighted_error_and_not_the_plain_one():
    x, imatrix = normal(64, 256), np.ones(256, np.float32)
    imatrix[::8] = 100
    tuned, plain = quant_error(x, "Q4_0", imatrix), quant_error(x, "Q4_0", importance=imatrix)
    assert tuned.imatrix and not plain.imatrix
    assert tuned.weighted_rmse < 0.8 * plain.weighted_rmse
    assert tuned.weighted_sqnr_db > plain.weighted_sqnr_db
    assert tuned.rmse > plain.rmse
    assert quant_error(x, "Q4_0").weighted_rmse is None


def test_several_types_make_a_table_in_their_order():
    table = quant_error(normal(8, 256), ["Q8_0", "Q4_0"])
    assert list(table["type"]) == ["Q8_0", "Q4_0"]
    assert list(table["bits_per_weight"]) == [8.5, 4.5]
    assert {"rmse", "sqnr_db", "cosine", "p50", "p99.9"} <= set(table.columns)
    assert table["weighted_rmse"].isna().all()


def test_the_frontier_leaves_out_what_is_worse_for_more_bits():
    table = quant_error(normal(16, 256), ["Q8_0", "MXFP4", "Q4_0", "NVFP4", "TQ2_0", "TQ1_0"])
    assert frontier(table) == ["TQ1_0", "MXFP4", "Q4_0", "Q8_0"]
    with pytest.raises(ParameterError, match="the table has no 'size'"):
        frontier(table, "size")


def test_half_and_double_floats_are_taken_as_float32():
    x = normal(2, 64)
    assert quant_error(x.astype(np.float64), "Q8_0") == quant_error(x, "Q8_0")


@pytest.mark.parametrize("x", [[1.0] * 32, np.zeros(32, np.int32), np.float32(1), None])
def test_what_are_no_weights_is_refused(x):
    with pytest.raises(ParameterError, match=r"x: no array of weights; expected .* float32, got"):
        quant_error(x, "Q4_0")


def test_what_quantize_refuses_is_refused():
    with pytest.raises(ParameterError, match="no ggml type has this name"):
        quant_error(normal(2, 64), "Q4_9")
    with pytest.raises(UnsupportedError, match="cannot write I8"):
        quant_error(normal(2, 64), "I8")
    with pytest.raises(ParameterError, match="expected a multiple of 32 weights, got 33"):
        quant_error(normal(2, 33), "Q4_0")
    with pytest.raises(ParameterError, match=r"imatrix does not fit x; expected \(64,\)"):
        quant_error(normal(2, 64), "Q4_0", np.ones(63, np.float32))


@pytest.mark.parametrize("importance", [np.ones(63), -np.ones(64), np.ones(64, int), "all"])
def test_an_importance_that_does_not_fit_is_refused(importance):
    with pytest.raises(ParameterError, match=r"importance: does not fit .* expected \(64,\)"):
        quant_error(normal(2, 64), "Q4_0", importance=importance)
