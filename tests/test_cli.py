"""The `workbench` command as its user meets it: real processes, exit codes, one-sentence errors."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL, ROOT
from workbench.cli.lab import copy_missing_notebooks
from workbench.cli.printing import cell_text


def workbench(*arguments, **settings):
    command = [sys.executable, "-m", "workbench.cli", *map(str, arguments)]
    settings["env"] = os.environ | {"PYTHONPATH": str(ROOT)}  # also from another folder
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)


def test_info_shows_metadata_sizes_and_tensors_of_the_built_in_model():
    done = workbench("info")
    assert done.returncode == 0, done.stderr
    for expected in ("llama.block_count", "token_embd.weight", "F16", "4096", "14,830,"):
        assert expected in done.stdout


def test_generate_writes_the_same_text_for_the_same_seed():
    first = workbench("generate", "Once upon a time", "-n", 12, "--seed", 3)
    again = workbench("generate", "Once upon a time", "-n", 12, "--seed", 3)
    other = workbench("generate", "Once upon a time", "-n", 12, "--seed", 4)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Once upon a time")
    assert first.stdout == again.stdout != other.stdout
    assert "tokens/s" in first.stderr and "12 tokens" in first.stderr


def test_generate_greedily_tells_the_text_that_llama_cpp_tells():
    done = workbench("generate", "Once upon a time", "-n", 24, "--temperature", 0)
    assert done.stdout.rstrip("\n") == (
        "Once upon a time, there was a little girl named Lily. She loved to play with her toys and "
        "eat snacks. One day,"
    )


BAD_FILES = {
    "text.gguf": (b"This is a letter, not a model.\n" * 20, "not a GGUF file"),
    "empty.gguf": (b"", "not a GGUF file"),
    "magic.gguf": (b"GGUX" + BUILTIN_MODEL.read_bytes()[4:4096], "not a GGUF file"),
    "cut.gguf": (BUILTIN_MODEL.read_bytes()[:100_000], "byte"),
}


@pytest.mark.parametrize("command", [["info"], ["generate", "-m"]], ids=["info", "generate"])
@pytest.mark.parametrize("name", [*BAD_FILES, "folder", "missing.gguf"])
def test_a_bad_file_is_one_sentence_and_exit_code_2(tmp_path, command, name):
    path, message = tmp_path / name, {"folder": "directory", "missing.gguf": "no such file"}
    if name == "folder":
        path.mkdir()
    elif name in BAD_FILES:
        path.write_bytes(BAD_FILES[name][0])
        message[name] = BAD_FILES[name][1]
    done = workbench(*command, path, *(["Hello"] if command[0] == "generate" else []))
    assert_one_sentence(done, message[name])
    assert name in done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--temperature", "-1"), "temperature"),
        (("--top-p", "2"), "top_p"),
        (("--max-tokens", "-3"), "max_tokens"),
        (("--top-k", "-1"), "top_k"),
    ],
)
def test_a_bad_setting_is_one_sentence_and_exit_code_2(option, message):
    assert_one_sentence(workbench("generate", "Once", *option), message)


def test_a_prompt_longer_than_the_context_is_one_sentence():
    done = workbench("generate", "the cat sat on the mat " * 400)
    assert_one_sentence(done, "n_ctx")


def test_quantize_writes_llama_quantizes_file_and_tells_the_sizes(tmp_path):
    out = tmp_path / "q8.gguf"
    done = workbench("quantize", BUILTIN_MODEL, out, "q8_0")
    assert done.returncode == 0, done.stderr
    goldens = json.loads((ROOT / "tests" / "data" / "whole_file.json").read_text())
    assert hashlib.sha256(out.read_bytes()).hexdigest() == goldens["built-in"]["Q8_0"]
    assert "Q8_0: 14.02 MiB → 7.45 MiB, 8.51 bits per weight" in done.stdout
    again = workbench("quantize", out, tmp_path / "q4.gguf", "Q4_0")
    assert_one_sentence(again, "is Q8_0 already, as are 56 other tensors")


def test_a_dry_run_of_quantize_shows_each_tensors_type_and_what_is_missing(tmp_path):
    out = tmp_path / "out.gguf"
    options = ("--dry-run", "--tensor-type", "attn_q=q8_0", "--output-tensor-type", "f16")
    done = workbench("quantize", BUILTIN_MODEL, out, "IQ2_XS", *options)
    assert done.returncode == 0 and not out.exists()
    row = next(line for line in done.stdout.splitlines() if "blk.3.attn_q.weight" in line)
    assert "Q8_0" in row and "asked" in row
    assert "blk.0.attn_k.weight and 38 others: this type needs an imatrix" in done.stderr


def test_an_imatrix_is_collected_described_and_used(tmp_path):
    text, imatrix, out = tmp_path / "text.txt", tmp_path / "im.gguf", tmp_path / "out.gguf"
    text.write_text("Once upon a time there was a little dog. " * 40)
    done = workbench("imatrix", BUILTIN_MODEL, text, "-o", imatrix, "-c", 64)
    assert done.returncode == 0, done.stderr
    assert "56 entries from" in done.stdout and "cos_sim" in done.stdout
    again = workbench("imatrix", imatrix)
    assert again.stdout.split("56 entries")[0].strip() in done.stdout
    used = workbench("quantize", BUILTIN_MODEL, out, "Q4_0", "--imatrix", imatrix)
    assert used.returncode == 0, used.stderr
    assert "token_embd.weight: the imatrix has no entry" in used.stderr
    with wb.open_gguf(out) as gguf:
        assert gguf.metadata["quantize.imatrix.dataset"] == str(text)[:127]
        assert gguf.tensors["blk.0.ffn_down.weight"].type == "Q4_1", "the first eighth"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("out.gguf", "Q4_0", "--tensor-type", "ffn_up"), "expected REGEX=TYPE"),
        (("out.gguf", "Q4_0", "--imatrix", "none.dat"), "no such file; expected an imatrix"),
        ((BUILTIN_MODEL, "Q4_0"), "is the file to read"),
    ],
)
def test_a_bad_wish_to_quantize_is_one_sentence(tmp_path, arguments, message):
    assert_one_sentence(workbench("quantize", BUILTIN_MODEL, *arguments, cwd=tmp_path), message)
    assert not list(tmp_path.iterdir())


def test_a_text_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Ein schöner Tag. ".encode("latin-1") * 99)
    done = workbench("imatrix", BUILTIN_MODEL, tmp_path / "latin.txt", cwd=tmp_path)
    assert_one_sentence(done, "not UTF-8")
    assert_one_sentence(
        workbench("imatrix", BUILTIN_MODEL, tmp_path / "latin.txt", "-o", tmp_path / "latin.txt"),
        "is a file to read",
    )


def assert_one_sentence(done, message):
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_missing_notebooks_are_copied_and_the_users_own_stay(tmp_path):
    mine = tmp_path / "01_metadata_inspection.ipynb"
    mine.write_text("my notes")
    copied = copy_missing_notebooks(tmp_path)
    assert "05_sampling_controls.ipynb" in copied and mine.name not in copied
    assert mine.read_text() == "my notes"
    assert copy_missing_notebooks(tmp_path) == []


def test_lab_starts_jupyterlab_on_the_notebooks_and_passes_options_on(tmp_path):
    done = workbench("lab", "--folder", tmp_path, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()[0].isdigit(), "jupyter lab --version prints its version"
    assert (tmp_path / "01_metadata_inspection.ipynb").exists()


def test_cells_separate_thousands():
    assert [cell_text(v) for v in (1234567, 0.125, "a", True)] == [
        "1,234,567",
        "0.125",
        "a",
        "True",
    ]
