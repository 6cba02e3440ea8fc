"""Errors of keys and values in coarser types, counted by hand and beside the codecs."""

import numpy as np
import pytest

from tests.analysis.test_kv_arrays import made_of, random_rows
from workbench import analysis
from workbench.errors import ParameterError
from workbench.quants import dequantize, quantize


def test_errors_are_those_of_the_codec_on_each_heads_rows():
    rows = random_rows((10, 2, 64))
    table = analysis.kv_errors(made_of(rows), ["Q4_0"], ["k"])
    for head, found in enumerate(table.relative_rmse):
        x = rows[:, head]
        error = dequantize(quantize(x, "q4_0"), "q4_0") - x
        assert found == pytest.approx(np.sqrt((error**2).mean() / (x**2).mean()), rel=1e-5)
    assert list(table.type) == ["q4_0"] * 2 and set(table.bits) == {4.5}


def test_along_positions_a_block_holds_one_channel():
    rows = np.ones((64, 1, 32)) * np.arange(1, 33)  # each channel is one number everywhere
    kv = made_of(rows)
    channels, positions = (
        analysis.kv_errors(kv, ["q8_0"], ["k"], along).sqnr_db[0]
        for along in ("channels", "positions")
    )
    assert positions > channels + 15  # only the scale's float16 is rounded


def test_positions_that_fill_no_block_are_left_out():
    rows = random_rows((50, 1, 32))
    changed = rows.copy()
    changed[32:] = 1e4
    first, second = (
        analysis.kv_errors(made_of(x), ["q4_0"], ["k"], "positions") for x in (rows, changed)
    )
    assert first.sqnr_db[0] == second.sqnr_db[0]


def test_hadamard_helps_rows_with_an_outlier_and_not_even_rows():
    even = random_rows((64, 1, 32))
    peaked = even.copy()
    peaked[..., 7] *= 20
    table = analysis.kv_errors(made_of(peaked, v=even), ["q4_0"])
    db = table.set_index("kind").sqnr_db
    assert db["k_hadamard"] - db["k"] > 1
    assert abs(db["v_hadamard"] - db["v"]) < 0.5


def test_by_default_all_types_of_a_cache_with_more_bits_first():
    table = analysis.kv_errors(made_of(random_rows((8, 1, 32))), kinds=["v"])
    assert tuple(table.type) == analysis.KV_ERROR_TYPES
    assert table.sqnr_db.iloc[0] == table.sqnr_db.max()


def test_a_block_that_does_not_divide_a_head_is_refused_by_both_numbers():
    with pytest.raises(ParameterError, match=r"q4_0 do not divide a row of k; .* of 32, got 48"):
        analysis.kv_errors(made_of(random_rows((4, 1, 48))), ["q4_0"])


def test_too_few_positions_for_a_block_along_them_are_refused():
    with pytest.raises(ParameterError, match="blocks of 32, more than there are positions"):
        analysis.kv_errors(made_of(random_rows((31, 1, 32))), ["q4_0"], along="positions")


def test_unknown_types_kinds_and_ways_are_refused():
    kv = made_of(random_rows((4, 1, 32)))
    with pytest.raises(ParameterError, match="type: no ggml type has this name"):
        analysis.kv_errors(kv, ["q4_9"])
    with pytest.raises(ParameterError, match="kind: no such rows"):
        analysis.kv_errors(kv, ["q4_0"], ["keys"])
    with pytest.raises(ParameterError, match=r"along: .* expected one of channels, positions"):
        analysis.kv_errors(kv, ["q4_0"], along="rows")
    with pytest.raises(ParameterError, match="types: not a list; expected several names of types"):
        analysis.kv_errors(kv, None)
    with pytest.raises(ParameterError, match="kinds: not a list; expected several kinds of rows"):
        analysis.kv_errors(kv, ["q4_0"], 3)


def test_numbers_that_are_not_finite_are_refused_by_the_codec():
    rows = random_rows((4, 1, 32))
    rows[1, 0, 3] = np.nan
    with pytest.raises(ParameterError, match="row 1, column 3 of x is nan"):
        analysis.kv_errors(made_of(rows), ["q4_0"], ["k"])
