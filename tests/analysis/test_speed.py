import numpy as np
import pytest

from workbench.analysis.speed import dequantize_speed, random_blocks
from workbench.errors import ParameterError
from workbench.quants import CODECS, dequantize

BLOCKS = [name for name, codec in CODECS.items() if codec.block_size > 1]


@pytest.mark.parametrize("name", [*BLOCKS, "F16", "BF16"])
def test_random_blocks_have_ordinary_weights(name):
    weights = dequantize(random_blocks(name, (3, 512)), name)
    assert weights.shape == (3, 512) and np.isfinite(weights).all()
    assert 1e-6 < np.abs(weights).max() < 1e4


def test_a_table_has_both_programs_where_both_know_the_type():
    pytest.importorskip("gguf")
    table = dequantize_speed(["q4_0", "Q8_K"], (64, 256), repeats=1, progress=False)
    assert list(table["type"]) == ["Q4_0", "Q8_K"] and (table["mweights_per_s"] > 0).all()
    assert table["ratio"][0] > 0 and table["same_bits"][0]
    assert np.isnan(table["ratio"][1]) and table["same_bits"][1] is None


def test_without_gguf_py_only_our_numbers_are_there(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    table = dequantize_speed(["Q4_0"], (8, 256), repeats=1, progress=False)
    assert table["mweights_per_s"][0] > 0 and table["gguf_py_mweights_per_s"].isna().all()


def test_wrong_arguments_are_refused():
    with pytest.raises(ParameterError, match=r"repeats: no number of turns; .* got 0"):
        dequantize_speed(["Q4_0"], (8, 256), repeats=0)
    with pytest.raises(ParameterError, match="a multiple of 256, got \\(8, 100\\)"):
        dequantize_speed(["Q4_K"], (8, 100), progress=False)
    with pytest.raises(ParameterError, match="no ggml type"):
        dequantize_speed(["Q4"], (8, 256), progress=False)
