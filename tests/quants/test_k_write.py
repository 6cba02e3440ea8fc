"""Writing the types that search for their scales: Q2_K to Q6_K, IQ4, and Q4_0 to Q5_1 weighted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quants.weights import weights, weights_of
from workbench.errors import ParameterError
from workbench.quants import CODECS, convert, dequantize, quantize, search
from workbench.quants.codec import TILE_WEIGHTS
from workbench.quants.iq4 import LEVELS, nearest_codes
from workbench.quants.k_scales import (
    pack_q3_k_scales,
    pack_scales_and_mins,
    q3_k_scales,
    scales_and_mins,
)

HARD = np.load(Path(__file__).resolve().parents[1] / "data" / "hard_quants.npz")
SEARCHED = [name.removesuffix(".q") for name in HARD.files if name.endswith(".q")]
FLOAT32_SUMS = 1e-5  # of the sum of 32 squares: what rounding may hide when errors are compared
PLAIN = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]  # search without imatrix too


# --- by hand ---------------------------------------------------------------------------------


def test_q4_k_by_hand():
    x = np.tile(np.arange(16, dtype=np.float32), 16)  # codes 0..15, every scale 63 / 63, no min
    block = quantize(x, "Q4_K").view(CODECS["Q4_K"].dtype)[0]
    assert (block["d"], block["dmin"]) == (np.float16(1 / 63), 0)
    np.testing.assert_array_equal(block["scales"], [255] * 4 + [0] * 4 + [15] * 4)
    np.testing.assert_array_equal(block["qs"][:16], [code | code << 4 for code in range(16)])


def test_q5_k_by_hand_has_the_fifth_bits_in_qh():
    x = np.tile(np.arange(32, dtype=np.float32), 8)  # codes 0..31
    block = quantize(x, "Q5_K").view(CODECS["Q5_K"].dtype)[0]
    np.testing.assert_array_equal(block["qh"], [0] * 16 + [255] * 16)
    np.testing.assert_array_equal(block["qs"][:32], [code % 16 * 17 for code in range(32)])


def test_q2_k_by_hand_keeps_the_minimum_in_the_high_nibble():
    x = np.tile(np.float32([-1, 0, 1, 2]), 64)  # (q - 1): scale 1, min 1
    block = quantize(x, "Q2_K").view(CODECS["Q2_K"].dtype)[0]
    np.testing.assert_array_equal(block["scales"], 0xFF)
    np.testing.assert_array_equal(
        block["qs"], [0b00000000, 0b01010101, 0b10101010, 0b11111111] * 16
    )
    assert block["d"] == block["dmin"] == np.float16(1 / 15)


def test_q3_k_and_q6_k_make_the_largest_magnitude_their_lowest_code():
    x = np.zeros(256, np.float32)
    x[:16] = np.arange(-4, 4).repeat(2)
    q3 = quantize(x, "Q3_K").view(CODECS["Q3_K"].dtype)[0]
    assert q3["d"] == np.float16(-1 / 32)  # sc = -32, so that d sc = 1
    np.testing.assert_array_equal(dequantize(quantize(x, "Q3_K"), "Q3_K"), x)
    x[:16] = np.arange(-32, 32, 4)
    q6 = quantize(x, "Q6_K").view(CODECS["Q6_K"].dtype)[0]
    assert (q6["d"], q6["scales"][0]) == (np.float16(-1 / 128), -128)
    np.testing.assert_array_equal(dequantize(quantize(x, "Q6_K"), "Q6_K"), x)


def test_iq4_keeps_its_own_levels():
    x = np.tile(np.float32(LEVELS), 16)
    block = quantize(x[:32], "IQ4_NL").view(CODECS["IQ4_NL"].dtype)[0]
    assert block["d"] == 1
    np.testing.assert_array_equal(block["qs"], [code | code << 4 for code in range(16)])
    np.testing.assert_array_equal(dequantize(quantize(x, "IQ4_XS"), "IQ4_XS"), x)


def test_nearest_level_is_the_upper_one_of_two_as_near():
    borders = np.float32([-200, -115.5, -4.5, 7, 101, 200, np.nan])
    below = np.nextafter(borders[1:5], np.float32(-1000))
    np.testing.assert_array_equal(nearest_codes(borders), [0, 1, 8, 9, 15, 15, 15])
    np.testing.assert_array_equal(nearest_codes(below), [0, 7, 8, 14])


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("imatrix", [None, np.ones(256, np.float32)])
def test_zeros_stay_zero(name, imatrix):
    q = quantize(np.zeros((2, 256), np.float32), name, imatrix)
    np.testing.assert_array_equal(dequantize(q, name), 0)


def test_packed_scales_are_read_as_they_were_written():
    rng = np.random.default_rng(0)
    packed = np.empty((50, 12), np.uint8)
    sc, m = rng.integers(0, 64, (2, 50, 8), dtype=np.uint8)
    pack_scales_and_mins(sc, m, packed)
    np.testing.assert_array_equal(scales_and_mins(packed), [sc, m])
    sc = rng.integers(0, 64, (50, 16), dtype=np.uint8)
    pack_q3_k_scales(sc, packed)
    np.testing.assert_array_equal(q3_k_scales(packed), sc.astype(np.int8) - 32)


# --- oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHED)
def test_odd_turns_of_the_searches_give_the_bytes_of_ggml(name):
    np.testing.assert_array_equal(quantize(HARD["x"], name), HARD[f"{name}.q"])
    rows = zip(HARD["x"], HARD["imatrix"], strict=True)
    weighted = np.stack([quantize(x, name, imatrix) for x, imatrix in rows])
    np.testing.assert_array_equal(weighted, HARD[f"{name}.q_im"])


# --- what a search promises ------------------------------------------------------------------


def weighted_error(x, y, w):
    return np.sum(w.astype(np.float64) * np.square(x.astype(np.float64) - y), axis=1)


@settings(max_examples=25, deadline=None)
@given(x=weights_of(70, 32, exponents=(-8, 8)), offset=st.sampled_from([4, 8, 16, 32]))
def test_signed_search_is_no_worse_than_the_plain_scale(x, offset):
    d, codes = search.signed_fit(x, np.abs(x), offset)
    extreme = x[np.arange(70), np.abs(x).argmax(axis=1)]
    plain = extreme / np.float32(-offset)
    steps = np.divide(x, plain[:, None], out=np.zeros_like(x), where=plain[:, None] != 0)
    q = np.clip(np.rint(steps), -offset, offset - 1)
    best = weighted_error(x, d[:, None] * (codes.astype(np.float32) - offset), np.abs(x))
    rounding = FLOAT32_SUMS * weighted_error(x, 0, np.abs(x))
    assert (best <= weighted_error(x, plain[:, None] * q, np.abs(x)) + rounding).all()


@settings(max_examples=25, deadline=None)
@given(x=weights_of(70, 32, exponents=(-8, 8)), top=st.sampled_from([3, 15, 31]))
def test_affine_search_is_no_worse_than_spanning_the_block(x, top):
    w = np.ones_like(x)
    d, m, codes = search.affine_fit(x, w, top)
    low = np.minimum(x.min(axis=1), 0)[:, None]
    step = (x.max(axis=1)[:, None] - low) / np.float32(top)
    steps = np.divide(x - low, step, out=np.zeros_like(x), where=step != 0)
    plain = weighted_error(x, step * np.rint(steps) + low, w)
    assert (m <= 0).all()
    fitted = d[:, None] * codes + m[:, None]
    rounding = FLOAT32_SUMS * weighted_error(x, 0, w)
    assert (weighted_error(x, fitted, w) <= plain + rounding).all()


@pytest.mark.parametrize("name", PLAIN)
def test_importance_of_all_columns_alike_costs_little(name):
    x = weights(1, -5, 0.0, (8, 512))
    plain, even = (
        np.square(dequantize(quantize(x, name, im), name) - x).sum()
        for im in (None, np.ones(512, np.float32))
    )
    assert even < 1.3 * plain


# --- batches, threads, experts ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["Q4_0", "Q6_K", "IQ4_XS"])
@pytest.mark.parametrize("weighted", [False, True])
def test_threads_change_no_byte(name, weighted, monkeypatch):
    x = weights(2, 0, 0.1, (9, TILE_WEIGHTS // 2))
    imatrix = np.linspace(0, 1, x.shape[1], dtype=np.float32) if weighted else None
    monkeypatch.setattr(convert, "core_count", lambda: 1)
    alone = quantize(x, name, imatrix)
    monkeypatch.setattr(convert, "core_count", lambda: 3)
    np.testing.assert_array_equal(quantize(x, name, imatrix), alone)


def test_the_first_bad_weight_is_named_whichever_thread_finds_one():
    x = np.zeros((16, TILE_WEIGHTS // 2), np.float32)
    x[3, 7] = np.inf
    x[8:, 0] = np.nan
    for imatrix in (None, np.ones(x.shape[1], np.float32)):
        with pytest.raises(ParameterError, match=r"row 3, column 7 of x is inf"):
            quantize(x, "Q4_0", imatrix)


@pytest.mark.parametrize("name", ["Q4_1", "Q4_K", "Q6_K"])
def test_experts_may_have_an_imatrix_each(name):
    x = weights(4, 0, 0.0, (3, 5, 512))
    imatrix = np.random.default_rng(4).random((3, 512), dtype=np.float32)
    stacked = quantize(x, name, imatrix)
    single = [quantize(expert, name, im) for expert, im in zip(x, imatrix, strict=True)]
    np.testing.assert_array_equal(stacked, np.stack(single))
    np.testing.assert_array_equal(
        quantize(x, name, imatrix[0]),
        quantize(x.reshape(15, 512), name, imatrix[0]).reshape(3, 5, -1),
    )


@pytest.mark.parametrize("shape", [(2, 512), (5, 512), (3, 5, 512), (3, 1), (256,), ()])
def test_imatrix_of_another_shape_is_refused(shape):
    x = np.zeros((3, 5, 512), np.float32)
    with pytest.raises(ParameterError, match=r"does not fit x; expected \(512,\) or \(3, 512\)"):
        quantize(x, "Q4_K", np.ones(shape, np.float32))


def test_imatrix_with_a_row_for_each_row_is_no_imatrix():
    x = np.zeros((3, 256), np.float32)
    with pytest.raises(ParameterError, match=r"expected \(256,\) float32"):
        quantize(x, "Q4_K", np.ones((3, 256), np.float32))
    with pytest.raises(ParameterError, match=r"imatrix\[1, 5\] is -1"):
        imatrix = np.ones((3, 256), np.float32)
        imatrix[1, 5] = -1
        quantize(np.zeros((3, 1, 256), np.float32), "Q4_K", imatrix)


@pytest.mark.parametrize("name", ["Q2_K", "Q6_K", "IQ4_XS"])
def test_rows_must_be_whole_blocks_of_256(name):
    with pytest.raises(
        ParameterError, match=rf"{name} blocks; expected a multiple of 256 .*got 320"
    ):
        quantize(np.zeros((2, 320), np.float32), name)


# --- the compiled loops ----------------------------------------------------------------------


def test_reading_and_plain_writing_do_not_load_numba():
    program = (
        "import sys, numpy as np, workbench\n"
        "from workbench.quants import dequantize, quantize\n"
        "dequantize(quantize(np.zeros(256, np.float32), 'Q8_0'), 'Q8_0')\n"
        "dequantize(np.zeros(144, np.uint8), 'Q4_K')\n"
        "assert 'numba' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_read_only_and_strided_weights_compile_nothing_anew():
    from workbench.quants.signed_kernels import fit_signed

    x = weights(5, 0, 0.0, (4, 512))
    q = quantize(x, "Q6_K")
    count = len(fit_signed.signatures)
    x.flags.writeable = False
    np.testing.assert_array_equal(quantize(x, "Q6_K"), q)
    np.testing.assert_array_equal(quantize(x[::2], "Q6_K"), q[::2])
    np.testing.assert_array_equal(quantize(np.asfortranarray(x), "Q6_K"), q)
    assert len(fit_signed.signatures) == count
