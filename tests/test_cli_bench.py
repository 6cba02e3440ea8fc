"""The command `workbench bench`; the speeds themselves are never tested."""

import json

import pytest
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


def test_bench_sampling_prints_a_row_for_each_stage():
    done = CliRunner().invoke(app, ["bench", "sampling", "--n-vocab", "300", "--repeats", "1"])
    assert done.exit_code == 0, done.output
    for word in ("sampler chain, 300 logits", "penalties and dry", "top_k", "one token in all"):
        assert word in done.output, word


def model_bench(*arguments: str):
    return CliRunner().invoke(app, ["bench", *arguments])


TINY_TEST = ("-p", "4", "-n", "2", "-r", "1", "--device", "cpu", "--precision", "exact")


def test_bench_prints_llama_bench_columns_and_where_the_time_goes():
    done = model_bench(str(wb.builtin_model_path()), *TINY_TEST, "-d", "0,8")
    assert done.exit_code == 0, done.output
    for word in ("model", "size", "params", "backend", "test", "t/s", "pp4", "tg2 @ d8", "14.02"):
        assert word in done.output, word
    assert "where the time goes" in done.output and "linear" in done.output
    assert "measured now: copy" in done.output


def test_bench_prints_json_alone():
    done = model_bench(str(wb.builtin_model_path()), *TINY_TEST, "--json")
    run = json.loads(done.stdout)
    assert [result["test"] for result in run["results"]] == ["pp4", "tg2"]
    assert run["ceilings"]["copy"] > 0 and run["machine"]["name"]
    assert run["results"][1]["bytes_per_token"] > 14_000_000


def test_bench_makes_a_model_of_its_own(tmp_path):
    done = model_bench("--synthetic", "tiny:Q4_0", *TINY_TEST)
    assert done.exit_code == 0, done.output
    assert "tiny-Q4_0" in done.output
    path = tmp_path / "kept.gguf"
    assert model_bench(str(path), "--synthetic", "tiny:Q4_0", *TINY_TEST).exit_code == 0
    assert path.exists()
    again = model_bench(str(path), "--synthetic", "tiny:Q4_0", *TINY_TEST)
    assert "there is a file already" in str(again.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "tpu"], "device: no such device; expected 'auto', 'cpu', 'cuda'"),
        (["-d", "1022"], "depth: the test would leave the context"),
        (["-d", "many"], "depth: not numbers of tokens"),
        (["-p", "1.5"], "n_prompt: not numbers of tokens"),
        (["-p", "-4"], "n_prompt: no such number"),
        (["-p", "0", "-n", "0"], "tests: there is nothing to measure"),
        (["--precision", "half"], "precision: no such precision"),
    ],
)
def test_bench_refuses_in_one_sentence(arguments, message):
    done = model_bench(str(wb.builtin_model_path()), *TINY_TEST, *arguments)
    assert done.exit_code != 0 and message in str(done.exception)


@pytest.mark.parametrize("spec", ["8b", "9b:Q4_0", "8b:Q9", "../8b:Q4_0"])
def test_bench_refuses_other_synthetic_models(spec):
    done = model_bench("--synthetic", spec, *TINY_TEST)
    assert "synthetic model: no such" in str(done.exception)


def test_bench_needs_something_to_measure():
    done = model_bench(*TINY_TEST)
    assert "MODEL: nothing to measure" in str(done.exception)
