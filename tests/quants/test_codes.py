import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import REFERENCE, needs_reference
from workbench.errors import ParameterError, UnsupportedError
from workbench.quants import CODECS, dequantize, quantize
from workbench.quants.codes import LAYOUTS, codes

WITH_CODES = [name for name in CODECS if name in LAYOUTS]


def assert_decodes_to_the_same_bits(raw, name):
    with np.errstate(all="ignore"):  # random scales overflow
        actual, expected = codes(raw, name).decode(), dequantize(raw, name)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[finite], expected[finite])
    np.testing.assert_array_equal(np.isfinite(actual), finite)


def test_a_q4_0_block_made_by_hand_shows_its_codes_and_scale():
    block = np.zeros(18, np.uint8)
    block[:2] = np.array([0.5], "<f2").view(np.uint8)
    block[2] = 0xF3  # weight 0 has code 3, weight 16 has code 15
    found = codes(block, "q4_0")
    assert (found.type, found.group, found.mins) == ("Q4_0", 32, None)
    assert found.codes[[0, 16, 1]].tolist() == [3, 15, 0]
    assert found.scales.tolist() == [0.5]
    np.testing.assert_array_equal(found.decode()[[0, 16, 1]], [-2.5, 3.5, -4.0])


def test_a_q4_1_block_has_a_min():
    x = np.linspace(1, 4, 32, dtype=np.float32)
    found = codes(quantize(x, "Q4_1"), "Q4_1")
    assert found.mins.tolist() == [1.0] and found.scales[0] == np.float32(np.float16(0.2))
    assert (found.codes[0], found.codes[-1]) == (0, 15)


@pytest.mark.parametrize("name", sorted(set(CODECS) - set(LAYOUTS)))
def test_only_numbers_without_blocks_have_no_codes(name):
    assert CODECS[name].block_size == 1
    raw = np.zeros(16, np.uint8)
    with pytest.raises(UnsupportedError, match=f"type {name}: its weights have no codes"):
        codes(raw, name)


@pytest.mark.parametrize("name", WITH_CODES)
@given(seed=st.integers(0, 2**32 - 1))
def test_scale_times_level_plus_min_has_the_bits_of_dequantize(name, seed):
    raw = np.random.default_rng(seed).integers(0, 256, (2, 3 * CODECS[name].type_size), np.uint8)
    assert_decodes_to_the_same_bits(raw, name)


@pytest.mark.parametrize("name", WITH_CODES)
def test_big_endian_blocks_have_the_same_codes(name):
    codec = CODECS[name]
    raw = np.random.default_rng(5).integers(0, 256, (4, codec.type_size), np.uint8)
    swapped = raw.view(codec.dtype).astype(codec.dtype.newbyteorder(">")).view(np.uint8)
    with np.errstate(all="ignore"):
        here, there = codes(raw, name), codes(swapped, name, "big")
    np.testing.assert_array_equal(here.codes, there.codes)
    np.testing.assert_array_equal(here.scales, there.scales)


@pytest.mark.parametrize("name", WITH_CODES)
def test_a_zero_scale_leaves_the_codes_readable(name):
    raw = np.random.default_rng(6).integers(0, 256, (4, CODECS[name].type_size), np.uint8)
    before = codes(raw, name).codes
    blocks = raw.view(CODECS[name].dtype)
    for field in {"d", "e", "dmin"} & set(blocks.dtype.names):
        blocks[field] = 0
    np.testing.assert_array_equal(codes(raw, name).codes, before)


@needs_reference
@pytest.mark.parametrize("name", WITH_CODES)
def test_llama_cpp_s_own_blocks_are_read(name):
    path = REFERENCE / "quants" / (name.lower().replace("_k", "_K") + ".npz")
    if not path.exists():
        pytest.skip("no goldens: the type has no to_float")
    golden = np.load(path)
    assert_decodes_to_the_same_bits(golden["blocks"], name)
    assert_decodes_to_the_same_bits(golden["q_im" if "q" not in golden else "q"], name)


def test_rows_keep_their_shape():
    raw = quantize(np.ones((2, 3, 64), np.float32), "Q8_0")
    found = codes(raw, "Q8_0")
    assert found.codes.shape == (2, 3, 64) and found.scales.shape == (2, 3, 2)
    assert codes(raw[:0], "Q8_0").codes.shape == (0, 3, 64)


def test_what_dequantize_refuses_is_refused():
    with pytest.raises(ParameterError, match="expected a multiple of 18 bytes, got 19"):
        codes(np.zeros(19, np.uint8), "Q4_0")
    with pytest.raises(ParameterError, match="raw is no array of bytes"):
        codes(np.zeros(18), "Q4_0")
    with pytest.raises(ParameterError, match="expected 'little' or 'big'"):
        codes(np.zeros(18, np.uint8), "Q4_0", "middle")
    with pytest.raises(ParameterError, match="no ggml type has this name"):
        codes(np.zeros(18, np.uint8), "Q4_9")
