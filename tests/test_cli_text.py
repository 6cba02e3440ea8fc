"""`workbench perplexity` and `workbench parity`: what they print, and what they refuse."""

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.analysis.test_parity_table import DATA
from tests.conftest import BUILTIN_MODEL
from workbench.cli import app
from workbench.errors import ParameterError

STORY = "Once upon a time there was a little dog. He liked to run in the park. " * 6


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_perplexity_prints_llama_perplexitys_line(tmp_path):
    text = tmp_path / "story.txt"
    text.write_text(STORY)
    output = run("perplexity", BUILTIN_MODEL, text, "-c", 32)
    assert output.startswith("PPL = ") and "tokens scored in 3 chunks of 32" in output


def test_perplexity_beside_a_base_prints_the_table(tmp_path):
    text = tmp_path / "story.txt"
    text.write_text(STORY)
    output = run("perplexity", BUILTIN_MODEL, text, "-c", 32, "--base", BUILTIN_MODEL)
    assert "Mean KLD" in output and "0.000000" in output and "100.000 %" in output


def test_parity_prints_the_distances():
    output = run("parity", DATA / "llama-tied.gguf", DATA / "llama-tied.npz")
    assert "llama-tied.gguf beside llama.cpp" in output and "24/24" in output
    assert all(column in output for column in ("nmse", "kl_mean", "top1"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"hello", b"\x93NUMPY\x01"])
def test_a_file_that_is_no_recording_is_refused(tmp_path, content):
    path = tmp_path / "golden.npz"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match="not a recording"):
        run("parity", DATA / "llama-tied.gguf", path)


def test_a_lone_array_is_no_recording(tmp_path):
    np.save(tmp_path / "golden.npy", np.zeros(3))
    with pytest.raises(ParameterError, match="not a recording"):
        run("parity", DATA / "llama-tied.gguf", tmp_path / "golden.npy")
