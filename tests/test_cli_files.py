"""`workbench edit`, `split`, `merge`, `hash`, `diff` and `info --json`."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from workbench.cli import app
from workbench.errors import ParameterError


def run(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_edit_takes_types_from_the_file_or_from_the_name(tmp_path):
    out = tmp_path / "out.gguf"
    sets = ("general.name=7", "x:UINT64=7", "y=[1.5, 2]", "z=some text")
    options = [option for text in sets for option in ("--set", text)]
    done = run("edit", BUILTIN_MODEL, out, *options, "--unset", "general.license")
    assert done.exit_code == 0 and "general.license removed" in done.output
    with wb.open_gguf(out) as gguf:
        types = gguf.metadata.types
        assert (gguf.metadata["general.name"], types["general.name"]) == ("7", "STRING")
        assert (types["x"], types["y"], types["z"]) == ("UINT64", "ARRAY[FLOAT32]", "STRING")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "x"], "--set 'x': not a pair; .* got no ="),
        (["--rename", "=x"], "--rename '=x': not a pair; .* got no name"),
        (["--set", "general.file_type=abc"], "expected UINT32 as JSON, .* got 'abc'"),
        (["--set", "a:UINT99=1"], "UINT99"),
    ],
)
def test_edit_says_what_is_wrong(tmp_path, options, said):
    with pytest.raises(ParameterError, match=said):
        run("edit", BUILTIN_MODEL, tmp_path / "out.gguf", *options)
    assert not list(tmp_path.iterdir())


def test_split_merge_hash_and_diff_agree(tmp_path):
    done = run("split", BUILTIN_MODEL, tmp_path / "part", "--max-size", "8M")
    assert done.output.count("wrote") == 2
    first = tmp_path / "part-00001-of-00002.gguf"
    run("merge", first, tmp_path / "back.gguf")
    digest = hashlib.sha256(BUILTIN_MODEL.read_bytes()).hexdigest()
    assert digest in run("hash", tmp_path / "back.gguf").output
    one, two = (json.loads(run("hash", p, "--json").output) for p in (first, BUILTIN_MODEL))
    assert one["tensors"] == two["tensors"] and two["files"][str(BUILTIN_MODEL)] == digest
    done = run("diff", BUILTIN_MODEL, tmp_path / "back.gguf")
    assert done.exit_code == 0 and "0 of 74 tensors differ" in done.output
    with pytest.raises(ParameterError, match="--max-size '8X': no size"):
        run("split", BUILTIN_MODEL, tmp_path / "part", "--max-size", "8X")


def test_diff_exits_with_1_and_its_json_names_the_keys(tmp_path):
    wb.edit_gguf(BUILTIN_MODEL, tmp_path / "out.gguf", set={"general.name": "other"})
    done = run("diff", BUILTIN_MODEL, tmp_path / "out.gguf", "--json")
    assert done.exit_code == 1
    assert [row["key"] for row in json.loads(done.output)["metadata"]] == ["general.name"]


def test_info_as_json_is_the_whole_header():
    facts = json.loads(run("info", BUILTIN_MODEL, "--json").output)
    assert len(facts["tensors"]) == 74 and facts["files"][0]["bytes"] == 14_830_176
    values = {row["key"]: row["value"] for row in facts["metadata"]}
    assert values["general.architecture"] == "llama"
    assert values["tokenizer.ggml.tokens"]["length"] == 4096
