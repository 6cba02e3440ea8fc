"""`workbench validate`: the verdict is in the words, in the JSON and in the exit code."""

import json

import pytest
from typer.testing import CliRunner

from tests.conftest import BUILTIN_MODEL
from tests.gguf.test_hostile import MALFORMED
from workbench.cli import app

OVERLAP = MALFORMED / "tensors_overlap.gguf"


def run(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


def test_a_sound_file_is_accepted_with_exit_0():
    done = run(BUILTIN_MODEL, "--profile", "llama.cpp", "--data")
    assert done.exit_code == 0
    assert "accepted under the profile llama.cpp; 0 errors, 0 warnings, 0 notes" in done.output
    assert "looked at 14,6" in done.output


def test_a_broken_file_is_rejected_with_exit_1_and_its_findings():
    done = run(OVERLAP)
    assert done.exit_code == 1 and "rejected under the profile spec" in done.output
    assert "tensors-overlap" in done.output and "tensor 'b'" in done.output


def test_a_file_that_ends_early_says_what_was_not_looked_at():
    done = run(MALFORMED / "truncated_in_version.gguf")
    assert done.exit_code == 1 and "the walk ended early" in done.output


@pytest.mark.parametrize(("file", "code"), [(OVERLAP, 1), (BUILTIN_MODEL, 0)])
def test_json_carries_the_whole_report(file, code):
    done = run(file, "--json")
    report = json.loads(done.output)
    assert done.exit_code == code and report["accepted"] == (code == 0)
    assert bool(report["findings"]) == bool(code) and report["profile"] == "spec"


def test_json_of_hostile_names_is_still_json(tmp_path):
    path = tmp_path / "[red]x.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"\xff\x09")
    assert json.loads(run(path, "--json").output)["path"] == str(path)
