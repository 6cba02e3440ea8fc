"""What differs between files is found, and nothing else."""

import json

import numpy as np
import pytest

import workbench as wb
from workbench.errors import ParameterError
from workbench.gguf import write_gguf

WEIGHTS = {
    f"{name}.weight": np.arange(64, dtype=np.float32).reshape(2, 32)
    for name in ("token_embd", "blk.0.attn_q", "blk.0.ffn_up", "blk.1.attn_q", "blk.1.ffn_up")
}
METADATA = {"general.architecture": "llama", "words": ["a", "b", "c"], "n": 3}


def write(folder, name, metadata=METADATA, **changes):
    tensors = {key: changes.get(key.split(".")[-2], x) for key, x in WEIGHTS.items()}
    write_gguf(folder / name, metadata, {k: x for k, x in tensors.items() if x is not None})
    return folder / name


def test_a_file_is_equal_to_itself(tmp_path):
    path = write(tmp_path, "a.gguf")
    diff = wb.diff_gguf(path, path)
    assert diff.equal and diff.metadata.empty and diff.tensors["same"].all()
    assert diff.names == (f"1: {path}", f"2: {path}")


def test_keys_that_differ_are_shown_where_they_differ(tmp_path):
    a = write(tmp_path, "a.gguf")
    b = write(tmp_path, "b.gguf", {**METADATA, "words": ["a", "x", "c"], "n": np.uint64(3)})
    c = write(tmp_path, "c.gguf", {"general.architecture": "llama", "words": ["a", "b", "c"]})
    rows = wb.diff_gguf(a, b, c).metadata.set_index("key")
    assert list(rows.index) == ["words", "n"]
    assert rows.loc["words"].tolist() == [
        "ARRAY[STRING] of 3; [1] 'b'",
        "ARRAY[STRING] of 3; [1] 'x'",
        "ARRAY[STRING] of 3; [1] 'b'",
    ]
    assert rows.loc["n"].tolist() == ["3", "3", "—"]


def test_types_stand_by_layer_and_role(tmp_path):
    a = write(tmp_path, "a.gguf")
    b = write(tmp_path, "b.gguf", ffn_up=WEIGHTS["blk.0.ffn_up.weight"].astype(np.float16))
    diff = wb.diff_gguf(a, b)
    assert diff.types.loc["0", "ffn_up"] == "F32 → F16" and diff.types.loc["1", "attn_q"] == "F32"
    assert diff.types.loc["model", "token_embd"] == "F32"
    assert diff.tensors["same"].tolist() == [True, True, False, True, False]
    assert diff.sizes["bits_per_weight"].tolist() == pytest.approx([32, 25.6])
    assert "2 of 5 tensors differ" in repr(diff)


def test_bytes_are_compared_only_if_asked(tmp_path):
    a = write(tmp_path, "a.gguf")
    b = write(tmp_path, "b.gguf", token_embd=np.zeros((2, 32), np.float32), ffn_up=None)
    assert wb.diff_gguf(a, b).tensors["same"].tolist() == [False, True, False, True, False]
    quick = wb.diff_gguf(a, b, tensors=False)
    assert quick.tensors["same"].tolist() == [None, None, False, None, False]
    assert not quick.equal
    assert quick.tensors["type b.gguf"].tolist() == ["F32", "F32", "—", "F32", "—"]


def test_all_of_it_is_json(tmp_path):
    with wb.open_gguf(write(tmp_path, "a.gguf")) as a:
        found = wb.diff_gguf(a, write(tmp_path, "b.gguf", {"n": 1})).to_dict()
    assert json.loads(json.dumps(found))["equal"] is False
    assert [row["key"] for row in found["metadata"]] == ["general.architecture", "words", "n"]


def test_one_file_has_nothing_to_be_compared_with(tmp_path):
    with pytest.raises(ParameterError, match="expected at least two files, got 1"):
        wb.diff_gguf(write(tmp_path, "a.gguf"))
