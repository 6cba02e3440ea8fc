"""What llama.cpp wrote and read: our own small copy always, the full reference where it is."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REFERENCE, needs_reference
from workbench.quants import CODECS, dequantize, quantize

OWN = np.load(Path(__file__).resolve().parents[1] / "data" / "quants.npz")
READ = [name for name in CODECS if f"{name}.blocks" in OWN]
WRITTEN = [name for name in CODECS if CODECS[name].encode and f"{name}.q" in OWN]
WEIGHTED = [name for name in CODECS if CODECS[name].encode_weighted]
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
    assert len(READ) >= 18
    assert len(WRITTEN) >= 20
    assert set(WEIGHTED) >= {"Q4_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"}


@pytest.mark.parametrize("name", READ)
def test_random_blocks_dequantize_to_the_same_bits(name):
    blocks = OWN[f"{name}.blocks"]
    assert_same_bits(dequantize(blocks, name), OWN[f"{name}.blocks_f32"])


@pytest.mark.parametrize("name", WRITTEN)
def test_quantize_writes_the_same_bytes(name):
    np.testing.assert_array_equal(quantize(OWN["x"], name), OWN[f"{name}.q"])


@pytest.mark.parametrize("name", [name for name in CODECS if f"{name}.q_im" in OWN])
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


# ggml passes over an all-zero IQ3_S sub-block without stepping on, so that the next one's points
# land in its place and both are lost (quantize_row_iq3_s_impl). Ours stand where they are read.
BETTER = {"IQ3_S": "single_spike"}


def squared_errors(raw: np.ndarray, name: str, golden) -> np.ndarray:
    return ((dequantize(raw, name) - golden["x"]) ** 2).mean(axis=1)


@needs_reference
@pytest.mark.parametrize("name", sorted({*WRITTEN, *WEIGHTED}))
def test_every_reference_row_quantizes_to_the_same_bytes(name):
    golden = reference(name)
    same = np.array([row != BETTER.get(name) for row in golden["row_name"].astype(str)])
    for key, imatrix in (("q", None), ("q_im", golden.get("imatrix"))):
        if key in golden and (imatrix is None or key == "q_im"):
            raw = quantize(golden["x"], name, imatrix)
            np.testing.assert_array_equal(raw[same], golden[key][same])
            ours, theirs = (squared_errors(r, name, golden)[~same] for r in (raw, golden[key]))
            assert (ours < theirs).all()
