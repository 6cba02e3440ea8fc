"""Edited files: what was not named is as it was; what was interrupted has harmed nothing."""

import hashlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.conftest import BUILTIN_MODEL, REFERENCE, needs_reference
from tests.gguf.test_shards import WEIGHTS, write_split
from workbench.cli import app
from workbench.errors import GGUFError, ParameterError
from workbench.gguf import edit, write_gguf

METADATA = {
    "general.architecture": "llama",
    "general.name": "one",
    "odd": np.float32("nan"),
    "empty": np.empty(0, np.int16),
    "nested": [[1, 2], [3]],
    "words": ["a", "b\0c", b"\xff\xfe"],
    "small": np.uint8(3),
}


@pytest.fixture
def path(tmp_path):
    write_gguf(tmp_path / "model.gguf", METADATA, WEIGHTS)
    return tmp_path / "model.gguf"


def test_what_is_not_named_keeps_type_bytes_and_order(path, tmp_path):
    out = tmp_path / "out.gguf"
    done = wb.edit_gguf(
        path,
        out,
        set={"small": 7, "new": [1, 2], "big": 5},
        types={"big": "UINT64"},
        unset=["empty"],
        rename={"odd": "even", "blk.1.weight": "blk.1.other"},
    )
    assert len(done.changes) == 6 and not done.in_place and done.path == str(out)
    with wb.open_gguf(path) as old, wb.open_gguf(out) as new:
        assert list(new.metadata) == [
            *("general.architecture", "general.name", "even", "nested", "words", "small"),
            *("new", "big"),
        ]
        assert new.metadata["small"] == 7 and new.metadata.types["small"] == "UINT8"
        assert new.metadata.types["new"] == "ARRAY[INT32]" and new.metadata.types["big"] == "UINT64"
        for key in ("general.name", "nested", "words"):
            assert new.metadata.raw(key) == old.metadata.raw(key)
        assert new.metadata.raw("even") == old.metadata.raw("odd")
        assert [name.replace("other", "weight") for name in new.tensors] == list(old.tensors)
        np.testing.assert_array_equal(new.raw("blk.1.other"), old.raw("blk.1.weight"))
    assert wb.validate_gguf(out).accepted


def test_a_change_in_place_leaves_the_tensors_where_they_are(path):
    before = path.read_bytes()
    with wb.open_gguf(path) as gguf:
        start = gguf.data_offset
    wb.edit_gguf(path, set={"general.name": "two"}, rename={"small": "thing"}, in_place=True)
    after = path.read_bytes()
    assert after[start:] == before[start:] and after != before
    with wb.open_gguf(path) as gguf:
        assert gguf.metadata["general.name"] == "two" and gguf.metadata["thing"] == 3
        np.testing.assert_array_equal(gguf.dequantize("blk.4.weight"), WEIGHTS["blk.4.weight"])
    assert [p.name for p in path.parent.iterdir()] == ["model.gguf"]


def test_a_header_that_does_not_fit_is_refused_and_nothing_written(path):
    before = path.read_bytes()
    with pytest.raises(ParameterError, match=r"the new header does not fit; expected \d+ bytes"):
        wb.edit_gguf(path, set={"general.name": "a name that is longer" * 3}, in_place=True)
    assert path.read_bytes() == before


def interrupt(path, monkeypatch):
    """Leave a change in place just before its end. Returns: the bytes before and after."""
    before, synced = path.read_bytes(), []

    def fsync(number):
        synced.append(number)
        if len(synced) == 2:  # the old header is safe, the new one half way
            raise KeyboardInterrupt

    monkeypatch.setattr(edit.os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        wb.edit_gguf(path, rename={"general.name": "x"}, set={"added": "y" * 3}, in_place=True)
    monkeypatch.undo()
    return before, path.read_bytes()


@pytest.mark.parametrize("command", [False, True])
def test_an_interrupted_change_in_place_is_undone_by_the_next(path, monkeypatch, command):
    before, after = interrupt(path, monkeypatch)
    assert before != after
    path.write_bytes(after[:90] + before[90:])  # half of each header
    with pytest.raises(GGUFError):
        wb.open_gguf(path)
    if command:
        done = CliRunner().invoke(app, ["edit", str(path), "--set", "small=3", "--in-place"])
        assert done.exit_code == 0
    else:
        wb.edit_gguf(path, set={"small": 3}, in_place=True)
    assert path.read_bytes() == before and not edit.undo_path(path).exists()
    edit.undo_path(path).write_bytes(b"not whole")
    wb.edit_gguf(path, set={"small": 3}, in_place=True)
    assert path.read_bytes() == before


def test_a_file_put_there_after_the_interruption_is_not_touched(path, monkeypatch):
    interrupt(path, monkeypatch)
    write_gguf(path, {"general.architecture": "another"}, {"u": np.ones(640, "f4")})
    other = path.read_bytes()
    with pytest.raises(GGUFError, match="not the file whose change was interrupted"):
        wb.edit_gguf(path, set={"n": 1}, in_place=True)
    assert path.read_bytes() == other and edit.undo_path(path).exists()


def test_a_killed_process_leaves_the_original_and_no_half_file(tmp_path):
    path, out = tmp_path / "model.gguf", tmp_path / "out.gguf"
    write_gguf(path, METADATA, WEIGHTS)
    before = hashlib.sha256(path.read_bytes()).digest()
    code = (
        "import numpy as np, workbench as wb, sys\n"
        "w = {f'w{i}': np.zeros((256, 4096), np.float32) for i in range(400)}\n"
        "print('go', flush=True)\n"
        "wb.write_gguf(sys.argv[1], {'a': 1}, w)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    child.stdout.readline()
    time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert hashlib.sha256(path.read_bytes()).digest() == before
    wb.edit_gguf(path, out, set={"small": 1})
    assert wb.validate_gguf(out).accepted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "out: where to write is not clear"),
        ({"out": "x.gguf", "in_place": True}, "out: where to write is not clear"),
        ({"out": "x.gguf"}, "nothing to change"),
        ({"out": "x.gguf", "unset": ["nothing"]}, "unset 'nothing': no such key"),
        ({"out": "x.gguf", "rename": {"no": "n"}}, "rename 'no': neither a key nor a tensor"),
        ({"out": "x.gguf", "rename": {"odd": "small"}}, "rename 'odd': 'small' is there already"),
        ({"out": "x.gguf", "rename": {"odd": "n", "small": "n"}}, "two names become one"),
        ({"out": "x.gguf", "set": {"general.alignment": 64}}, "where the tensors lie"),
        ({"out": "x.gguf", "set": {"small": 300}}, "'small'.* UINT8"),
        ({"out": "x.gguf", "set": {"new": object()}}, "set 'new'"),
        ({"out": "model.gguf", "set": {"small": 1}}, "out: the file itself"),
    ],
)
def test_what_cannot_be_done_is_said(path, arguments, said, monkeypatch):
    monkeypatch.chdir(path.parent)
    before = path.read_bytes()
    with pytest.raises(ParameterError, match=said):
        wb.edit_gguf(path, **arguments)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("limit", [{"max_tensors": 2}, {"max_bytes": 800}, {"max_bytes": 1}])
def test_split_and_merge_give_the_same_bytes(path, tmp_path, limit):
    paths = wb.split_gguf(path, tmp_path / "part", **limit)
    assert paths[0].endswith(f"part-00001-of-{len(paths):05}.gguf") and len(paths) > 2
    for part in paths:
        assert wb.validate_gguf(part).accepted
    with wb.open_gguf(paths[-1]) as gguf:
        assert gguf.metadata.types["split.no"] == "UINT16"
        assert gguf.metadata.types["split.tensors.count"] == "INT32"
    wb.merge_gguf(paths[1], tmp_path / "back.gguf")
    assert (tmp_path / "back.gguf").read_bytes() == path.read_bytes()


def test_what_cannot_be_split_or_merged_is_said(path, tmp_path):
    with pytest.raises(ParameterError, match="expected either max_tensors or max_bytes"):
        wb.split_gguf(path, tmp_path / "part")
    with pytest.raises(ParameterError, match="one file already"):
        wb.merge_gguf(path, tmp_path / "out.gguf")
    parts = write_split(tmp_path)
    with pytest.raises(ParameterError, match=r"model\.gguf: there is such a file"):
        wb.merge_gguf(parts[0], path)
    with pytest.raises(ParameterError, match="there is such a file"):
        wb.split_gguf(path, tmp_path / "model", max_tensors=2)
    write_gguf(tmp_path / "none.gguf", METADATA, {})
    with pytest.raises(GGUFError, match="holds no tensors"):
        wb.split_gguf(tmp_path / "none.gguf", tmp_path / "part", max_tensors=2)


def test_hashes_are_those_of_the_bytes(path):
    hashes = wb.hash_gguf(path)
    assert hashes.files == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    for name, weight in WEIGHTS.items():
        assert hashes.tensors[name] == hashlib.sha256(weight.tobytes()).hexdigest()
    assert hashes.to_frame().tensor.tolist() == list(WEIGHTS)
    assert not wb.hash_gguf(path, tensors=False).tensors
    assert not wb.hash_gguf(path, whole=False).files


def test_hashes_of_tensors_do_not_depend_on_the_files_they_are_in(tmp_path):
    paths = write_split(tmp_path)
    hashes = wb.hash_gguf(paths[1])
    assert len(hashes.files) == 3
    assert hashes.tensors["blk.3.weight"] == (
        hashlib.sha256(WEIGHTS["blk.3.weight"].tobytes()).hexdigest()
    )


@needs_reference
def test_a_split_by_llama_cpp_merges_to_the_model(tmp_path):
    folder = REFERENCE / "models"
    wb.merge_gguf(folder / "stories260K-f32-split-00002-of-00003.gguf", tmp_path / "out.gguf")
    difference = wb.diff_gguf(tmp_path / "out.gguf", folder / "stories260K-f32.gguf")
    assert difference.tensors["same"].all() and difference.metadata.empty


def test_the_built_in_model_survives_split_edit_and_merge(tmp_path):
    paths = wb.split_gguf(BUILTIN_MODEL, tmp_path / "part", max_bytes=4_000_000)
    wb.merge_gguf(paths[0], tmp_path / "back.gguf")
    assert (tmp_path / "back.gguf").read_bytes() == BUILTIN_MODEL.read_bytes()
