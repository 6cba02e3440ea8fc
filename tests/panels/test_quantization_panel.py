import sys

import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.gguf import write_gguf
from workbench.panels import QuantizationPanel
from workbench.quants import open_gguf


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    rng = np.random.default_rng(2)
    path = tmp_path_factory.mktemp("panel") / "model.gguf"
    shapes = {"blk.0.attn_q.weight": (48, 256), "blk.0.ffn_up.weight": (300, 96)}
    tensors = {name: rng.standard_normal(s, dtype=np.float32) for name, s in shapes.items()}
    write_gguf(path, {}, {**tensors, "blk.0.attn_norm.weight": np.ones(256, np.float32)})
    with open_gguf(path) as gguf:
        yield gguf


@pytest.fixture
def panel(gguf):
    return QuantizationPanel(gguf, type="Q4_0")


def test_selectors_list_the_matrices_and_the_types_that_can_be_written(panel):
    assert panel.tensor.options == ("blk.0.attn_q.weight", "blk.0.ffn_up.weight")
    assert {"Q4_0", "Q8_0", "TQ1_0"} <= set(panel.type.options)
    assert not {"F16", "Q8_K"} & set(panel.type.options)


def test_another_type_changes_numbers_and_picture(panel):
    before, rmse = bytes(panel.picture.value), panel.result.rmse
    panel.type.value = "Q8_0"
    assert panel.result.type == panel.usage.type == panel.zoom.type == "Q8_0"
    assert panel.result.rmse < rmse / 5
    assert bytes(panel.picture.value) != before and bytes(panel.picture.value)[1:4] == b"PNG"
    assert "8.5 bits per weight" in panel.numbers.value


def test_row_and_block_choose_what_is_shown_and_end_with_the_tensor(panel, gguf):
    panel.row.value, panel.block.value = 47, 7
    x = gguf.dequantize("blk.0.attn_q.weight", rows=47)
    np.testing.assert_array_equal(panel.zoom.x, x[224:])
    assert (panel.zoom.row, panel.zoom.block) == (47, 7)
    panel.row.value = 1000
    assert panel.row.value == 47
    panel.type.value = "TQ1_0"
    assert panel.block.value == 0 == panel.zoom.block
    panel.tensor.value = "blk.0.attn_q.weight"


def test_a_large_tensor_is_measured_on_some_of_its_rows(gguf):
    panel = QuantizationPanel(gguf, "blk.0.ffn_up.weight", "Q8_0", max_rows=100)
    assert panel.result.n_weights == 100 * 96
    assert panel.summary().splitlines()[1].endswith("100 of 300 rows")


def test_a_type_that_does_not_fit_the_row_is_an_error_in_the_panel_that_goes_away(panel):
    panel.tensor.value = "blk.0.ffn_up.weight"
    panel.type.value = "TQ1_0"
    assert "expected a multiple of 256 weights, got 96" in panel.error
    assert "ParameterError" in panel.message.value and panel.result is None
    assert "error: quantize: a row" in panel.summary()
    panel.row.value = 3  # nothing to draw: the error stays
    assert panel.error is not None
    panel.type.value = "Q5_1"
    assert (panel.error, panel.message.value) == (None, "")


def test_an_imatrix_is_given_to_the_quantizer(gguf):
    importance = np.geomspace(1, 1000, 256).astype(np.float32)
    panel = QuantizationPanel(gguf, imatrix={"blk.0.attn_q.weight": importance})
    assert panel.result.weighted_rmse is not None and ", weighted 0." in panel.summary()
    assert panel.result.imatrix and panel.result.rmse != QuantizationPanel(gguf).result.rmse


def test_summary_and_repr_are_stable_text(panel):
    lines = panel.summary().splitlines()
    assert lines[0] == "blk.0.attn_q.weight in Q4_0"
    assert lines[1].startswith("4.5 bits per weight, RMSE 0.")
    assert lines[2].startswith("codes carry 3.") and lines[3].startswith("row 0, block 0: RMSE")
    assert repr(panel) == "QuantizationPanel(tensor='blk.0.attn_q.weight', type='Q4_0')"
    assert panel._repr_mimebundle_()["text/plain"] == repr(panel)


def test_first_choices_that_are_not_there_are_refused(gguf, tmp_path):
    with pytest.raises(ParameterError, match="tensor: not to choose here; expected one of blk"):
        QuantizationPanel(gguf, "blk.0.attn_norm.weight")
    with pytest.raises(ParameterError, match="type: not to choose here; expected one of Q1_0"):
        QuantizationPanel(gguf, type="F16")
    write_gguf(tmp_path / "empty.gguf", {}, {})
    with open_gguf(tmp_path / "empty.gguf") as empty:
        with pytest.raises(ParameterError, match="has no matrices"):
            QuantizationPanel(empty)


def test_no_pyplot_figure_is_left_behind(panel):
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
