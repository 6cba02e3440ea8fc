"""Importance matrices in both formats of llama.cpp, read and written; damaged ones refused."""

import struct

import gguf
import numpy as np
import pytest

from tests.conftest import BUILTIN_MODEL
from workbench.errors import GGUFError, GGUFNotFoundError, ParameterError
from workbench.gguf import write_gguf
from workbench.quants import open_gguf
from workbench.quants.imatrix import Imatrix, ImatrixEntry, read_imatrix, write_imatrix

DENSE, EXPERTS = "blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"
IMATRIX = Imatrix(
    {
        DENSE: ImatrixEntry(np.array([[2, 4, 6, 8]], np.float32), np.array([4])),
        EXPERTS: ImatrixEntry(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([2, 0, 5])),
    },
    datasets=("a text", "ein Text"),
    chunk_count=7,
    chunk_size=512,
)


def dat(*entries, tail=b""):
    """entries: (name, n_calls, values)."""
    parts = [struct.pack("<i", len(entries))]
    for name, n_calls, values in entries:
        values = np.asarray(values, "<f4")
        parts += [struct.pack("<i", len(name)), name, struct.pack("<ii", n_calls, values.size)]
        parts.append(values.tobytes())
    return b"".join(parts) + tail


TAIL = struct.pack("<ii", 12, 8) + b"wiki.txt"


def test_what_is_written_is_read_again(tmp_path):
    write_imatrix(tmp_path / "im.gguf", IMATRIX)
    again = read_imatrix(tmp_path / "im.gguf")
    assert again.datasets == ("a text", "ein Text")
    assert (again.chunk_count, again.chunk_size) == (7, 512)
    assert again.path == str(tmp_path / "im.gguf")
    assert list(again.entries) == list(IMATRIX.entries)
    for name, entry in IMATRIX.entries.items():
        np.testing.assert_array_equal(again.entries[name].sums, entry.sums)
        np.testing.assert_array_equal(again.entries[name].counts, entry.counts)


def test_gguf_py_finds_what_llama_imatrix_writes(tmp_path):
    write_imatrix(tmp_path / "im.gguf", IMATRIX)
    reader = gguf.GGUFReader(tmp_path / "im.gguf")
    assert [(t.name, t.shape.tolist(), t.tensor_type.name) for t in reader.tensors] == [
        (f"{DENSE}.in_sum2", [4, 1], "F32"),
        (f"{DENSE}.counts", [1, 1], "F32"),
        (f"{EXPERTS}.in_sum2", [2, 3], "F32"),
        (f"{EXPERTS}.counts", [1, 3], "F32"),
    ]
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["a text", "ein Text"]
    assert reader.fields["imatrix.chunk_count"].types == [gguf.GGUFValueType.UINT32]


def test_importances_are_means_and_ones_for_an_expert_without_tokens():
    np.testing.assert_array_equal(IMATRIX.importance(DENSE, (9, 4)), [[0.5, 1, 1.5, 2]])
    expected = np.array([[0, 0.5], [1, 1], [np.float32(4) / 5, 1]], np.float32)
    np.testing.assert_array_equal(IMATRIX.importance(EXPERTS, (3, 9, 2)), expected)
    assert IMATRIX.importance("blk.9.attn_q.weight", (9, 4)) is None


def test_the_old_format_stores_means_times_calls_for_all_experts_in_a_row(tmp_path):
    path = tmp_path / "im.dat"
    path.write_bytes(dat((DENSE.encode(), 4, [2, 4, 6, 8]), (b"e", 3, np.arange(6)), tail=TAIL))
    imatrix = read_imatrix(path)
    np.testing.assert_array_equal(imatrix.importance(DENSE, (9, 4)), [[0.5, 1, 1.5, 2]])
    values = (np.arange(6, dtype=np.float32) / np.float32(3)).reshape(3, 2)
    np.testing.assert_array_equal(imatrix.importance("e", (3, 9, 2)), values)
    assert imatrix.datasets == ("wiki.txt",) and imatrix.chunk_count == 12


def test_the_old_format_may_end_after_its_entries_and_lack_a_number_of_calls(tmp_path):
    path = tmp_path / "im.dat"
    path.write_bytes(dat((b"t", 0, [2, 4])))
    imatrix = read_imatrix(path)
    np.testing.assert_array_equal(imatrix.importance("t", (1, 2)), [[2, 4]])
    assert imatrix.datasets == () and imatrix.chunk_count == 0


def test_sums_of_inputs_in_newer_files_are_passed_over(tmp_path):
    sums = np.ones((1, 4), np.float32)
    tensors = {"t.in_sum": sums, "t.in_sum2": 2 * sums, "t.counts": sums[:, :1]}
    write_gguf(tmp_path / "im.gguf", {"general.type": "imatrix"}, tensors)
    imatrix = read_imatrix(tmp_path / "im.gguf")
    np.testing.assert_array_equal(imatrix.importance("t", (1, 4)), [[2, 2, 2, 2]])


def test_an_imatrix_without_texts_can_be_written(tmp_path):
    write_imatrix(tmp_path / "im.gguf", Imatrix(IMATRIX.entries))
    assert read_imatrix(tmp_path / "im.gguf").datasets == ()
    with open_gguf(tmp_path / "im.gguf") as file:
        assert file.metadata.types["imatrix.datasets"] == "ARRAY[STRING]"


def test_another_size_is_refused_with_both_shapes():
    with pytest.raises(ParameterError, match=r"attn_q.*shape \(1, 5\).*\(9, 5\), got \(1, 4\)"):
        IMATRIX.importance(DENSE, (9, 5))
    with pytest.raises(ParameterError, match=r"shape \(4, 2\).*got \(3, 2\)"):
        IMATRIX.importance(EXPERTS, (4, 9, 2))


WHOLE = dat((b"t", 4, [2, 4, 6, 8]), tail=TAIL)


COMPLETE = {len(WHOLE) - len(TAIL), len(WHOLE) - len(TAIL) + 4}  # chunks and text may be missing


@pytest.mark.parametrize("length", sorted(set(range(len(WHOLE))) - COMPLETE))
def test_a_cut_file_is_refused_wherever_it_ends(tmp_path, length):
    (tmp_path / "im.dat").write_bytes(WHOLE[:length])
    with pytest.raises(GGUFError, match=r"byte \d+: no imatrix, or cut short"):
        read_imatrix(tmp_path / "im.dat")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"This is a letter, not an imatrix.", "no imatrix, or cut short"),
        (struct.pack("<i", 0), "at least one entry, got 0"),
        (struct.pack("<i", -5), "at least one entry, got -5"),
        (struct.pack("<ii", 1, -1), "cut short"),
        (struct.pack("<ii", 1, 2**31 - 1), "cut short"),
        (dat((b"t", 1, [])), r"it announces 0"),
        (dat((b"t", 1, [1, np.nan])), "t has importances that are not finite"),
        (dat((b"t", 1, [1, np.inf])), "not finite"),
    ],
)
def test_what_is_no_imatrix_is_refused(tmp_path, data, message):
    (tmp_path / "im.dat").write_bytes(data)
    with pytest.raises(GGUFError, match=message):
        read_imatrix(tmp_path / "im.dat")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"t.in_sum2": np.ones((1, 4), np.float32)}, r"t is incomplete.*t\.counts"),
        ({"t.counts": np.ones((1, 1), np.float32)}, r"t is incomplete.*t\.in_sum2"),
        (
            {"t.in_sum2": np.ones((1, 4), np.float16), "t.counts": np.ones((1, 1), np.float32)},
            "expected F32 tensors",
        ),
        (
            {"t.in_sum2": np.ones((1, 4), np.float32), "t.counts": np.ones((3, 1), np.float32)},
            "expected sums for each of 3 counts, got 4",
        ),
        (
            {"t.in_sum2": np.ones((1, 4), np.float32), "t.counts": np.full((1, 1), np.nan, "f4")},
            "t has counts that are no numbers of rows",
        ),
    ],
)
def test_a_damaged_gguf_imatrix_is_refused(tmp_path, tensors, message):
    write_gguf(tmp_path / "im.gguf", {"general.type": "imatrix"}, tensors)
    with pytest.raises(GGUFError, match=message):
        read_imatrix(tmp_path / "im.gguf")


def test_a_model_or_a_missing_file_is_no_imatrix(tmp_path):
    with pytest.raises(GGUFError, match=r"holds no importances.*is it a model"):
        read_imatrix(BUILTIN_MODEL)
    with pytest.raises(GGUFNotFoundError, match="no such file; expected an imatrix"):
        read_imatrix(tmp_path / "none.dat")
    with pytest.raises(GGUFError, match="cannot be read"):
        read_imatrix(tmp_path)
