"""The command `workbench bench`; the speeds themselves are never tested."""

from typer.testing import CliRunner

import workbench as wb
from tests.tokenizer.vocabularies import pairs_bpe
from workbench.cli import app

SMALL = ("--type", "q4_0", "--rows", "8", "--row-length", "256", "--repeats", "1")


def test_bench_prints_a_row_for_each_type():
    done = CliRunner().invoke(app, ["bench", "dequantize", *SMALL])
    assert done.exit_code == 0, done.output
    assert "dequantize, 8 x 256" in done.output and "Q4_0" in done.output


def test_bench_tokenize_prints_a_row_for_each_file(tmp_path):
    path, text = tmp_path / "small.gguf", tmp_path / "text.txt"
    wb.write_gguf(path, pairs_bpe("gpt-2"), {})
    text.write_text("aA 's saS 11 1!s\n" * 9000)
    done = CliRunner().invoke(
        app, ["bench", "tokenize", str(path), "--text", str(text), "--mb", "0.01"]
    )
    assert done.exit_code == 0, done.output
    assert "tokenize, 0.01 MB" in done.output and "small.gguf" in done.output
