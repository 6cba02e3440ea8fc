"""`model_speed` and `workbench bench MODEL` on a small model: rows and refusals, no timings."""

import importlib
import importlib.util
import os
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import workbench as wb
from workbench.cli import app

model_speed = importlib.import_module("workbench.analysis.model_speed")  # not the function

ONE_ROUND = {"n_prompt": 6, "n_gen": 3, "repeats": 1, "progress": False}


def test_one_row_for_each_test_and_precision():
    speed = wb.analysis.model_speed(wb.model_path(), precisions=("exact", "fast"), **ONE_ROUND)
    assert speed.test.tolist() == ["pp6", "pp6", "tg3", "tg3"]
    assert speed.backend.tolist() == ["workbench exact", "workbench fast"] * 2
    assert (speed.tokens_per_s > 0).all()
    np.testing.assert_array_equal(speed["std"], 0)  # of one round
    np.testing.assert_array_equal(speed.gb_per_s.isna(), [True, True, False, False])


def test_a_test_of_no_tokens_is_left_out():
    speed = wb.analysis.model_speed(wb.model_path(), **{**ONE_ROUND, "n_gen": 0})
    assert speed.test.tolist() == ["pp6"]


def test_a_token_reads_every_tied_weight_once():
    with wb.load_model(wb.model_path()) as model:
        every = sum(info.nbytes for info in model.gguf.tensors.values())
        tied = "output.weight" not in model.gguf.tensors
        embeddings = model.gguf.tensors["token_embd.weight"]
        unread = 0 if tied else embeddings.nbytes - embeddings.nbytes // embeddings.shape[0]
        assert wb.analysis.bytes_per_token(model) == every - unread


def test_copying_has_a_speed():
    assert wb.analysis.copy_bandwidth(1) > 1e8


@pytest.mark.parametrize("count", ["n_prompt", "n_gen", "repeats"])
def test_counts_below_their_least_are_refused(count):
    with pytest.raises(wb.ParameterError, match=f"{count}: no such number"):
        wb.analysis.model_speed(wb.model_path(), **{**ONE_ROUND, count: -1})


@pytest.mark.parametrize("python", ["/no/such/python", sys.executable])
def test_a_python_without_llama_cpp_is_refused(python):
    if python == sys.executable and importlib.util.find_spec("llama_cpp"):
        pytest.skip("llama-cpp-python is installed here")
    with pytest.raises(wb.UnsupportedError, match=r"llama\.cpp does not run under"):
        wb.analysis.model_speed(wb.model_path(), peer_python=python, **ONE_ROUND)


@pytest.mark.skipif(os.name == "nt", reason="the silent program is a shell script")
def test_a_peer_that_never_answers_is_ended_and_refused(tmp_path, monkeypatch):
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(model_speed, "PATIENCE", 0.1)
    with pytest.raises(wb.UnsupportedError, match=r"llama\.cpp did not answer; expected .* 0\.1 s"):
        wb.analysis.model_speed(wb.model_path(), peer_python=str(silent), **ONE_ROUND)


def test_the_command_takes_a_path_as_its_first_word_and_prints_rates():
    arguments = ["bench", str(wb.model_path()), "-p", "6", "-n", "3", "-r", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "pp6" in result.output and "tg3" in result.output and "±" in result.output


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--device", "tpu"], "device: no such device"),
        (["--against", "x"], "against: unknown"),
    ],
)
def test_the_command_refuses_what_it_does_not_measure(option, message):
    result = CliRunner().invoke(app, ["bench", str(wb.model_path()), *option])
    assert message in str(result.exception)


def test_precision_is_exact_or_fast_and_fast_needs_packed_weights():
    with pytest.raises(wb.ParameterError, match="precision: no such precision"):
        wb.load_model(wb.model_path(), precision="half")
    with pytest.raises(wb.ParameterError, match="expanded weights have no fast products"):
        wb.load_model(wb.model_path(), weights="float32", precision="fast")
    with wb.load_model(wb.model_path(), precision="fast") as model:
        assert model.precision == "fast"
