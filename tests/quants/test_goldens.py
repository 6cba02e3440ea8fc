"""What llama.cpp wrote and read: our own small copy always, the full reference where it is."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REFERENCE, needs_reference
from workbench.quants import CODECS, dequantize, quantize

OWN = np.load(Path(__file__).resolve().parents[1] / "data" / "quants.npz")
READ = [name for name in CODECS if f"{name}.blocks" in OWN]
WRITTEN = [name for name in CODECS if CODECS[name].encode and f"{name}.q" in OWN]
WEIGHTED = [name for name in WRITTEN if CODECS[name].encode_weighted]
FILES = [name for name in CODECS if name in READ or name in ("F16", "BF16")]


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal float32 bits, except that any NaN is as good as another."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan)
    np.testing.assert_array_equal(actual.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


def reference(name: str) -> np.lib.npyio.NpzFile:
    file = name.lower().replace("_k", "_K") + ".npz"
    return np.load(REFERENCE / "quants" / file)


def test_own_goldens_cover_every_type_that_ggml_converts():
    assert len(READ) == 18
    assert len(WRITTEN) == 13
    assert WEIGHTED == ["Q4_0", "Q4_1", "Q5_0", "Q5_1"]


@pytest.mark.parametrize("name", READ)
def test_random_blocks_dequantize_to_the_same_bits(name):
    blocks = OWN[f"{name}.blocks"]
    assert_same_bits(dequantize(blocks, name), OWN[f"{name}.blocks_f32"])


@pytest.mark.parametrize("name", WRITTEN)
def test_quantize_writes_the_same_bytes(name):
    np.testing.assert_array_equal(quantize(OWN["x"], name), OWN[f"{name}.q"])


@pytest.mark.parametrize("name", [name for name in WRITTEN if f"{name}.q_im" in OWN])
def test_quantize_with_imatrix_writes_the_same_bytes(name):
    np.testing.assert_array_equal(quantize(OWN["x"], name, OWN["imatrix"]), OWN[f"{name}.q_im"])


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_ties_subnormals_overflow_and_nan_of_half_floats(name):
    written = quantize(OWN[f"{name}.special_x"], name)
    assert_same_bits(dequantize(written, name), OWN[f"{name}.special_f32"])
    assert_same_bits(dequantize(OWN[f"{name}.special_q"], name), OWN[f"{name}.special_f32"])


@needs_reference
@pytest.mark.parametrize("name", FILES)
def test_every_reference_case_dequantizes_to_the_same_bits(name):
    golden = reference(name)
    pairs = [("blocks", "blocks_f32"), ("q", "q_f32"), ("q_im", "q_im_f32")]
    pairs = [pair for pair in pairs if pair[0] in golden]
    if "all_bits" in golden:
        assert_same_bits(dequantize(golden["all_bits"].view(np.uint8), name), golden["all_f32"])
    for raw, expected in pairs:
        assert_same_bits(dequantize(golden[raw], name), golden[expected])


@needs_reference
@pytest.mark.parametrize("name", WRITTEN)
def test_every_reference_row_quantizes_to_the_same_bytes(name):
    golden = reference(name)
    np.testing.assert_array_equal(quantize(golden["x"], name), golden["q"])
    if "q_im" in golden:
        np.testing.assert_array_equal(
            quantize(golden["x"], name, golden["imatrix"]), golden["q_im"]
        )
