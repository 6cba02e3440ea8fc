"""dequantize and quantize as a caller meets them: table, shapes, memory, and wrong arguments."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quants.weights import weights, weights_of
from workbench.errors import ParameterError, UnsupportedError
from workbench.gguf.types import GGML_TYPES
from workbench.quants import CODECS, convert, dequantize, quantize
from workbench.quants.codec import TILE_WEIGHTS

WRITABLE = [name for name, codec in CODECS.items() if codec.encode]
WEIGHTED = [name for name, codec in CODECS.items() if codec.encode_weighted]
# Writing what was read gives the same numbers again: a block's extreme weight stays its extreme.
STABLE = ["F16", "BF16", "Q4_0", "Q5_0", "Q8_0", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"]


def table_row(codec):
    if not codec.can_write:
        return ["yes", "-", "-"]
    use = "used" if codec.encode_weighted else "ignored"
    return ["yes", "yes", "needed" if codec.encode is None else use]


def test_table_in_the_docstring_is_the_registry():
    lines = [line.split() for line in convert.__doc__.splitlines() if line.startswith("    ")]
    table = {line[0]: line[1:] for line in lines[1:]}
    assert table == {name: table_row(codec) for name, codec in CODECS.items()}


@pytest.mark.parametrize("name", CODECS)
def test_struct_has_the_block_and_byte_size_of_ggml(name):
    codec, ggml = CODECS[name], GGML_TYPES[name]
    assert (codec.block_size, codec.type_size) == (ggml.block_size, ggml.type_size)
    assert codec.dtype.isalignedstruct is False


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 2), (0,)])
def test_shapes_follow_the_blocks(name, shape):
    codec = CODECS[name]
    raw = np.zeros((*shape, 2 * codec.type_size), dtype=np.uint8)
    y = dequantize(raw, name)
    assert (y.shape, y.dtype) == ((*shape, 2 * codec.block_size), np.float32)
    if codec.encode:
        q = quantize(y, name)
        assert (q.shape, q.dtype) == (raw.shape, np.uint8)


@pytest.mark.parametrize("name", CODECS)
def test_rows_of_no_blocks_are_empty(name):
    assert dequantize(np.empty((3, 0), np.uint8), name).shape == (3, 0)
    if CODECS[name].encode:
        assert quantize(np.empty((3, 0), np.float32), name).shape == (3, 0)


@pytest.mark.parametrize("name", CODECS)
def test_big_endian_blocks_give_the_same_weights(name):
    codec = CODECS[name]
    little = np.random.default_rng(1).integers(0, 60, (4, codec.type_size), dtype=np.uint8)
    blocks = little.reshape(-1).view(codec.dtype)
    big = blocks.astype(codec.dtype.newbyteorder(">")).view(np.uint8).reshape(little.shape)
    expected = dequantize(little, name)
    np.testing.assert_array_equal(dequantize(big, name, "big"), expected)
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("name", WRITABLE)
def test_a_batch_across_tiles_is_its_rows_one_by_one(name):
    x = weights(7, 0, 0.3, (3, TILE_WEIGHTS // 2 + 256))
    q = quantize(x, name)
    np.testing.assert_array_equal(q, np.stack([quantize(row, name) for row in x]))
    np.testing.assert_array_equal(
        dequantize(q, name), np.stack([dequantize(row, name) for row in q])
    )


@pytest.mark.parametrize("name", WEIGHTED)
@settings(max_examples=10, deadline=None)
@given(x=weights_of(5, 512), seed=st.integers(0, 2**32 - 1))
def test_a_batch_with_imatrix_is_its_rows_one_by_one(name, x, seed):
    imatrix = np.random.default_rng(seed).random(512, dtype=np.float32)
    rows = np.stack([quantize(row, name, imatrix) for row in x])
    np.testing.assert_array_equal(quantize(x, name, imatrix), rows)


@pytest.mark.parametrize("name", STABLE)
@settings(max_examples=20, deadline=None)
@given(x=weights_of(2, 512, exponents=(-3, 3)))
def test_quantizing_what_was_dequantized_changes_nothing(name, x):
    once = dequantize(quantize(x, name), name)
    np.testing.assert_array_equal(dequantize(quantize(once, name), name), once)


@settings(max_examples=20, deadline=None)
@given(x=weights_of(1, 512, exponents=(-3, 3)), name=st.sampled_from(["Q4_0", "Q5_0", "Q8_0"]))
def test_error_is_at_most_one_step_of_the_block(x, name):
    steps = {"Q4_0": 8, "Q5_0": 16, "Q8_0": 127}[name]
    error = np.abs(dequantize(quantize(x, name), name) - x).reshape(-1, 32).max(axis=1)
    largest = np.abs(x).reshape(-1, 32).max(axis=1)
    assert (error <= largest / steps * 1.01 + 1e-7).all()


@pytest.mark.parametrize("name", WEIGHTED)
def test_imatrix_lowers_the_error_of_the_columns_that_matter(name):
    x = np.random.default_rng(3).standard_normal((16, 512), dtype=np.float32)
    imatrix = np.ones(512, np.float32)
    even = np.ones(512, np.float32) if CODECS[name].encode is None else None
    imatrix[::4] = 1000
    plain, tuned = (dequantize(quantize(x, name, im), name) for im in (even, imatrix))
    assert np.square(tuned - x)[:, ::4].sum() < 0.9 * np.square(plain - x)[:, ::4].sum()


def test_views_with_gaps_and_read_only_input_are_fine():
    x = weights(5, 0, 0.0, (4, 64))
    x.flags.writeable = False
    q = quantize(x, "Q8_0")
    q.flags.writeable = False
    np.testing.assert_array_equal(quantize(x[::2], "Q8_0"), q[::2])
    np.testing.assert_array_equal(dequantize(q[::2], "Q8_0"), dequantize(q, "Q8_0")[::2])
    np.testing.assert_array_equal(quantize(np.asfortranarray(x), "Q8_0"), q)


@pytest.mark.parametrize("name", ["F16", "Q4_0", "Q6_K"])
def test_memory_beside_the_output_is_a_few_tiles(name):
    codec = CODECS[name]
    raw = np.zeros((64, 65536 // codec.block_size * codec.type_size), dtype=np.uint8)
    tracemalloc.start()
    y = dequantize(raw, name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < y.nbytes + 8 * 4 * TILE_WEIGHTS


@pytest.mark.parametrize("name", ["q4_k", "Q4_K", "q4_K"])
def test_type_names_are_accepted_in_any_letter_case(name):
    assert dequantize(np.zeros(144, np.uint8), name).shape == (256,)


def test_unknown_type_is_refused_with_the_near_name():
    with pytest.raises(ParameterError, match=r"no ggml type .*Q4_0.*got 'Q4_M'; did you mean Q4_"):
        dequantize(np.zeros(144, np.uint8), "Q4_M")
    with pytest.raises(ParameterError, match=r"type: not a name.*got int"):
        quantize(np.zeros(32, np.float32), 2)
    with pytest.raises(ParameterError, match=r"type: not a name.*got list"):
        dequantize(np.zeros(32, np.uint8), ["Q4_0"])


def test_type_without_a_quantizer_is_refused_with_those_that_have_one():
    with pytest.raises(UnsupportedError, match=r"cannot write I8; expected one of F32.*Q8_0"):
        quantize(np.zeros(256, np.float32), "i8")


def test_every_live_ggml_type_has_a_codec():
    assert set(CODECS) == set(GGML_TYPES)


@pytest.mark.parametrize("raw", [np.zeros(18), np.zeros(18, np.int8), b"\0" * 18, np.uint8(0)])
def test_raw_must_be_bytes_in_an_array(raw):
    with pytest.raises(ParameterError, match=r"expected \(\.\.\., bytes\) uint8, got"):
        dequantize(raw, "Q4_0")


def test_row_of_broken_blocks_is_refused():
    with pytest.raises(ParameterError, match=r"Q4_0 blocks; expected a multiple of 18 .*got 19"):
        dequantize(np.zeros((2, 19), np.uint8), "Q4_0")
    with pytest.raises(ParameterError, match=r"Q4_0 blocks; expected a multiple of 32 .*got 33"):
        quantize(np.zeros((2, 33), np.float32), "Q4_0")


def test_byte_order_must_be_one_of_two():
    with pytest.raises(ParameterError, match="expected 'little' or 'big', got 'middle'"):
        dequantize(np.zeros(18, np.uint8), "Q4_0", "middle")


@pytest.mark.parametrize("x", [np.zeros(32), np.zeros(32, np.float16), [0.0] * 32, np.float32(0)])
def test_weights_must_be_a_float32_array(x):
    with pytest.raises(ParameterError, match=r"expected \(\.\.\., n\) float32, got"):
        quantize(x, "Q4_0")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("imatrix", [None, np.ones(64, np.float32)])
def test_weights_that_are_not_finite_are_refused_with_their_place(bad, imatrix):
    x = np.zeros((2, 3, 64), np.float32)
    x[1, 0, 40] = bad
    with pytest.raises(ParameterError, match=rf"row 3, column 40 of x is {bad}"):
        quantize(x, "Q4_0", imatrix)


def test_imatrix_must_fit_and_be_sound():
    x = np.zeros((2, 64), np.float32)
    with pytest.raises(ParameterError, match=r"imatrix does not fit x; expected \(64,\) float32"):
        quantize(x, "Q4_0", np.ones(32, np.float32))
    with pytest.raises(ParameterError, match=r"imatrix does not fit x.*got list"):
        quantize(x, "Q8_0", [1.0] * 64)
    for bad in (-1, np.nan, np.inf):
        imatrix = np.ones(64, np.float32)
        imatrix[5] = bad
        with pytest.raises(ParameterError, match=rf"imatrix\[5\] is {bad}"):
            quantize(x, "Q4_0", imatrix)


@pytest.mark.parametrize(
    "name", [name for name, codec in CODECS.items() if codec.can_write and not codec.encode]
)
def test_types_of_two_bits_and_less_need_an_imatrix(name):
    with pytest.raises(ParameterError, match=rf"{name} has too few bits .*expected imatrix"):
        quantize(np.zeros(256, np.float32), name)
