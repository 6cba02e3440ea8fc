import numpy as np
import pandas as pd
import pytest

from workbench.analysis import (
    error_change,
    error_pivot,
    file_errors,
    matrices,
    model_errors,
    quant_error,
    weight_types,
)
from workbench.errors import ParameterError
from workbench.gguf import write_gguf
from workbench.quants import CODECS, open_gguf, quantize

SHAPES = {
    "token_embd.weight": (40, 64),
    "blk.0.attn_q.weight": (64, 64),
    "blk.1.attn_q.weight": (64, 64),
    "blk.1.ffn_down_exps.weight": (2, 32, 96),
    "blk.1.attn_norm.weight": (64,),
}


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal(s, dtype=np.float32) for name, s in SHAPES.items()}


@pytest.fixture
def base(tmp_path):
    ids = {"ids": np.arange(64, dtype=np.int32).reshape(2, 32)}
    write_gguf(tmp_path / "base.gguf", {"general.architecture": "test"}, weights() | ids)
    with open_gguf(tmp_path / "base.gguf") as gguf:
        yield gguf


def quantized_file(path, types: dict[str, str], left_out: tuple[str, ...] = ()):
    tensors = {
        name: (quantize(x, types.get(name, "F32")), types.get(name, "F32"), x.shape)
        for name, x in weights().items()
        if name not in left_out
    }
    write_gguf(path, {"general.architecture": "test"}, tensors)
    return open_gguf(path)


def test_matrices_are_weights_with_two_axes_or_more(base):
    assert matrices(base) == [n for n in SHAPES if "norm" not in n]


def test_a_table_has_a_row_for_each_tensor_and_type_with_its_numbers(base):
    table = model_errors(base, ["Q4_0", "q8_0"], progress=False)
    assert len(table) == 8
    row = table[(table["name"] == "blk.1.attn_q.weight") & (table["type"] == "Q8_0")].iloc[0]
    alone = quant_error(base.dequantize("blk.1.attn_q.weight"), "Q8_0")
    assert (row["layer"], row["role"], row["source_type"]) == (1, "attn_q", "F32")
    assert (row["rmse"], row["nbytes"], row["p99"]) == (
        alone.rmse,
        alone.nbytes,
        alone.percentiles[99],
    )
    assert (row["bits_per_weight"], row["sampled"], row["n_rows"]) == (8.5, 1, 64)
    assert table["layer"].isna().sum() == 2


def test_sampled_rows_are_said_and_sizes_are_of_the_whole(base):
    table = model_errors(
        base, "Q4_0", tensors=["blk.1.ffn_down_exps.weight"], max_rows=8, progress=False
    )
    row = table.iloc[0]
    assert (row["n_rows"], row["sampled"], row["n_weights"]) == (8, 8 / 64, 2 * 32 * 96)
    assert row["nbytes"] == 2 * 32 * 96 // 32 * 18
    chosen = base.dequantize("blk.1.ffn_down_exps.weight").reshape(64, 96)
    rows = np.linspace(0, 63, 8).round().astype(int)
    assert row["rmse"] == pytest.approx(quant_error(chosen[rows], "Q4_0").rmse, rel=1e-12)


def test_a_type_that_does_not_fit_the_row_is_a_row_without_numbers(base):
    table = model_errors(base, ["TQ2_0"], progress=False)
    assert table["rmse"].isna().all() and (table["nbytes"] == 0).all() and len(table) == 4


def test_experts_have_an_importance_each(base):
    name = "blk.1.ffn_down_exps.weight"
    importance = np.ones((2, 96), np.float32)
    importance[0, ::3] = 50
    importance[1, 1::3] = 50
    table = model_errors(base, "Q4_0", {name: importance}, [name], progress=False)
    x = base.dequantize(name)
    parts = [quant_error(x[e], "Q4_0", importance[e]).rmse for e in range(2)]
    assert table["rmse"][0] == pytest.approx(np.sqrt(np.mean(np.square(parts))), rel=1e-9)
    assert table["imatrix"][0]
    with pytest.raises(ParameterError, match="one row for each expert; expected 2 rows, got 3"):
        model_errors(base, "Q4_0", {name: np.ones((3, 96), np.float32)}, [name], progress=False)


def test_another_file_s_error_is_that_of_its_types(base, tmp_path):
    types = {"blk.0.attn_q.weight": "Q4_0", "blk.1.attn_q.weight": "Q8_0"}
    lacks = ("token_embd.weight",)
    with quantized_file(tmp_path / "other.gguf", types, lacks) as other:
        table = file_errors(base, other, progress=False).set_index("name")
    assert table.loc["blk.0.attn_q.weight", "type"] == "Q4_0"
    alone = quant_error(base.dequantize("blk.0.attn_q.weight"), "Q4_0")
    assert table.loc["blk.0.attn_q.weight", "rmse"] == alone.rmse
    assert table.loc["blk.1.ffn_down_exps.weight", "rmse"] == 0
    missing = table.loc["token_embd.weight"]
    assert pd.isna(missing["type"]) and np.isnan(missing["rmse"])


def test_files_of_different_models_are_refused(base, tmp_path):
    write_gguf(tmp_path / "a.gguf", {}, {"x.weight": np.zeros((2, 32), np.float32)})
    write_gguf(tmp_path / "b.gguf", {}, {"token_embd.weight": np.zeros((2, 32), np.float32)})
    with open_gguf(tmp_path / "a.gguf") as a, open_gguf(tmp_path / "b.gguf") as b:
        with pytest.raises(
            ParameterError, match=r"no tensor of .*expected another file of the same"
        ):
            file_errors(base, a, progress=False)
        with pytest.raises(ParameterError, match=r"shapes differ; expected \(40, 64\)"):
            file_errors(base, b, progress=False)


def test_a_pivot_has_layers_down_and_roles_across_in_file_order(base):
    pivot = error_pivot(model_errors(base, ["Q4_0", "Q8_0"], progress=False), "Q4_0")
    assert list(pivot.index) == [0, 1] and list(pivot.columns) == ["attn_q", "ffn_down_exps"]
    assert np.isnan(pivot.loc[0, "ffn_down_exps"])
    with pytest.raises(ParameterError, match="the table has no 'Q5_0'; expected one of Q4_0"):
        error_pivot(model_errors(base, "Q4_0", progress=False), "Q5_0")


def test_the_change_of_an_error_is_by_tensor_and_type(base):
    name = "blk.0.attn_q.weight"
    importance = {name: np.geomspace(1, 1000, 64).astype(np.float32)}
    tuned = model_errors(base, ["Q4_0", "Q8_0"], importance, [name], progress=False)
    change = error_change(tuned.assign(rmse=2.0), tuned.assign(rmse=1.0), "rmse")
    assert list(change["change"]) == [-0.5, -0.5] and list(change["type"]) == ["Q4_0", "Q8_0"]
    with pytest.raises(ParameterError, match="have no row in common"):
        error_change(tuned[:1], tuned[1:], "rmse")


def test_types_to_write_are_in_order_of_their_bits_and_hold_weights():
    names = weight_types()
    bits = [CODECS[n].type_size / CODECS[n].block_size for n in names]
    assert bits == sorted(bits) and {"Q4_0", "Q8_0", "TQ1_0"} <= set(names)
    assert not {"F16", "I8", "Q8_1", "Q8_K"} & set(names)
    assert set(names) < set(weight_types(imatrix=True))
    assert {"Q4_0", "NVFP4"} <= set(weight_types(row_length=192)) and "Q4_K" in names
    assert "Q4_K" not in weight_types(row_length=192) and weight_types(row_length=33) == []


def test_wrong_names_and_numbers_are_refused(base):
    with pytest.raises(ParameterError, match=r"no tensor 'blk\.0'"):
        model_errors(base, "Q4_0", tensors=["blk.0"], progress=False)
    with pytest.raises(ParameterError, match="no matrix; expected two or more axes"):
        model_errors(base, "Q4_0", tensors=["blk.1.attn_norm.weight"], progress=False)
    with pytest.raises(ParameterError, match=r"max_rows: no number of rows; .* got 0"):
        model_errors(base, "Q4_0", max_rows=0, progress=False)
    with pytest.raises(ParameterError, match="no ggml type"):
        model_errors(base, "Q4", progress=False)
