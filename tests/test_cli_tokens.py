"""`workbench tokens` as its user meets it: real processes, and what they print."""

import json
import os
import subprocess
import sys

import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL, ROOT

TEXT = "Once upon a time, a wizard said “漢” :smile: [red]!"


def tokens(*arguments, **settings):
    command = [sys.executable, "-m", "workbench.cli", "tokens", *map(str, arguments)]
    settings["env"] = os.environ | {"PYTHONPATH": str(ROOT)} | settings.pop("env", {})
    return subprocess.run(command, capture_output=True, timeout=120, **settings)


@pytest.fixture(scope="module")
def tokenizer():
    with wb.open_gguf(BUILTIN_MODEL) as gguf:
        return wb.load_tokenizer(gguf)


def test_ids_pieces_and_counts(tokenizer):
    done = tokens(BUILTIN_MODEL, TEXT)
    pieces, ids, counts = done.stdout.decode().splitlines()
    expected = tokenizer.encode(TEXT)
    assert ids == " ".join(map(str, expected))
    assert pieces.startswith("<|begin_of_text|>|Once| upon| a| time|,|")
    assert r"“|\xe6|\xbc|\xa2|”" in pieces and "[|red|]" in pieces
    assert counts == (
        f"{len(expected)} tokens (1 added) for {len(TEXT.encode())} bytes, "
        f"{len(TEXT.encode()) / (len(expected) - 1):.2f} bytes per token"
    )


def test_pieces_are_coloured_on_a_terminal():
    done = tokens(BUILTIN_MODEL, "Once upon", env={"FORCE_COLOR": "1", "COLUMNS": "80"})
    assert b"\x1b[" in done.stdout and b"|Once" not in done.stdout


def test_json_is_one_object_that_means_the_same(tokenizer):
    found = json.loads(tokens(BUILTIN_MODEL, TEXT, "--json", "--no-special").stdout)
    assert found["ids"] == tokenizer.encode(TEXT, add_special=False)
    assert (found["text"], found["model"], found["pre"]) == (TEXT, "gpt2", "llama-bpe")
    assert bytes.fromhex("".join(found["pieces_hex"])).decode() == TEXT
    assert found["tokens"][1] == "Ġupon" and found["n_added"] == 0
    assert found["bytes_per_token"] == len(TEXT.encode()) / found["n_tokens"]


def test_trace_prints_the_stages_and_goes_into_the_json():
    printed = tokens(BUILTIN_MODEL, "a wizard", "--trace").stdout.decode()
    assert printed.startswith("tokenizer   gpt2, pre-tokenizer llama-bpe\n")
    assert "a match of regex 0" in printed and "lost: " in printed
    found = json.loads(tokens(BUILTIN_MODEL, "a wizard", "--trace", "--json").stdout)
    assert found["trace"]["ids"] == found["ids"]


def test_special_tokens_are_parsed_when_asked(tokenizer):
    text = "<|end_of_text|>"
    plain = json.loads(tokens(BUILTIN_MODEL, text, "--json").stdout)["ids"]
    parsed = json.loads(tokens(BUILTIN_MODEL, text, "--json", "--parse-special").stdout)["ids"]
    assert len(plain) > 2 and parsed == [tokenizer.bos_id, 1]


def test_text_from_stdin_is_taken_as_it_is():
    found = json.loads(tokens(BUILTIN_MODEL, "-", "--json", input="né\n\x00".encode()).stdout)
    assert found["text"] == "né\n\x00"


def test_an_empty_text_has_no_bytes_per_token():
    assert b"1 tokens (1 added) for 0 bytes, 0.00" in tokens(BUILTIN_MODEL, "").stdout


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        ((BUILTIN_MODEL, "-"), b"ab\xff", "byte 2 of the text is not UTF-8"),
        (("missing.gguf", b"ab\xff"), b"", "no such file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, data, message):
    command = [sys.executable, "-m", "workbench.cli", "tokens", *arguments]
    done = subprocess.run(
        command, capture_output=True, input=data, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 2
    assert message in done.stderr.decode() and b"Traceback" not in done.stderr
    assert done.stdout == b""
