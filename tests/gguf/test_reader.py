"""The reader on files made by hand: every value type, version and byte order; tensors and rows."""

import gc
import pickle

import numpy as np
import pytest

from tests.gguf.build import Build, all_values
from workbench.errors import GGUFError, GGUFNotFoundError, ParameterError, UnsupportedError
from workbench.gguf import open_gguf

LAYOUTS = [(v, order) for v in (1, 2, 3) for order in ("little", "big")]


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file and returns its path."""

    def write_bytes(content: bytes, name: str = "made.gguf"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_bytes


def two_tensors(build: Build, alignment: int = 32) -> bytes:
    pairs = [build.pair("general.alignment", 4, build.pack("I", alignment))]
    first = build.pack("6f", *range(6))
    data = first + bytes(-len(first) % alignment) + bytes(range(36)) + bytes(28)
    infos = [build.tensor("a", [3, 2], 0, 0), build.tensor("b", [32, 2], 2, alignment)]
    return build.file(pairs, infos, data, alignment)


def as_floats(raw, type_name, byte_order):
    """A decoder for F32 only, which also accepts Q4_0 by showing its bytes."""
    if type_name == "F32":
        return raw.view(np.dtype("f4").newbyteorder("<>"[byte_order == "big"])).astype("f4")
    return np.repeat(raw[..., :1], 32, axis=-1).astype("f4")


@pytest.mark.parametrize(("version", "byte_order"), LAYOUTS)
def test_every_value_type_is_read_in_every_version_and_byte_order(write, version, byte_order):
    build = Build(version, byte_order)
    with open_gguf(write(build.file(all_values(build)))) as gguf:
        meta = gguf.metadata
        assert (gguf.version, gguf.byte_order) == (version, byte_order)
        assert (meta["u8"], meta["i8"], meta["u16"], meta["i16"]) == (200, -100, 60000, -30000)
        assert (meta["u32"], meta["i32"]) == (4_000_000_000, -2_000_000_000)
        assert (meta["u64"], meta["i64"]) == (2**64 - 1, -(2**63))
        assert (meta["f32"], meta["f64"], meta["yes"]) == (1.5, 0.1, True)
        assert type(meta["u8"]) is int and type(meta["f32"]) is float and meta["yes"] is True
        assert meta["text"] == "naïve" and meta["strings"] == ["a", "", "é中"]
        np.testing.assert_array_equal(meta["ints"], [1, -2, 3])
        assert meta["ints"].dtype == np.dtype("i4").newbyteorder("<>"[byte_order == "big"])
        np.testing.assert_array_equal(meta["flags"], [True, False])
        assert meta["no.floats"].shape == (0,) and meta["no.strings"] == []
        np.testing.assert_array_equal(meta["nested"], [[1, -2, 3], [1, -2, 3]])
        assert meta["mixed"][1] == ["a", "", "é中"] and meta["mixed"][2] == []


def test_types_name_each_value_as_it_is_stored(write):
    build = Build()
    types = open_gguf(write(build.file(all_values(build)))).metadata.types
    assert (types["u8"], types["yes"], types["text"]) == ("UINT8", "BOOL", "STRING")
    assert types["no.floats"] == "ARRAY[FLOAT32]" and types["strings"] == "ARRAY[STRING]"
    assert types["nested"] == "ARRAY[ARRAY[INT32]]" and types["mixed"] == "ARRAY[ARRAY]"


def test_metadata_is_a_read_only_mapping_in_file_order(write):
    build = Build()
    meta = open_gguf(write(build.file(all_values(build)))).metadata
    assert list(meta)[:3] == ["u8", "i8", "u16"] and len(meta) == 19
    assert meta.get("absent", 7) == 7 and "u8" in meta
    with pytest.raises(TypeError):
        meta["u8"] = 1
    with pytest.raises(TypeError):
        meta.types["u8"] = "INT8"
    with pytest.raises(ValueError, match="read-only"):
        meta["ints"][0] = 9
    assert repr(meta) == "Metadata(19 keys, 'no general.architecture', version 3, little)"


@pytest.mark.parametrize(("version", "byte_order"), LAYOUTS)
def test_tensors_have_numpy_shapes_and_absolute_offsets(write, version, byte_order):
    path = write(two_tensors(Build(version, byte_order), alignment=64))
    with open_gguf(path) as gguf:
        a, b = gguf.tensors.values()
        assert (a.name, a.shape, a.type, a.nbytes, a.n_elements) == ("a", (2, 3), "F32", 24, 6)
        assert (b.shape, b.type, b.nbytes, b.bits_per_weight) == ((2, 32), "Q4_0", 36, 4.5)
        assert gguf.alignment == 64 and gguf.data_offset % 64 == 0
        assert (a.offset, b.offset) == (gguf.data_offset, gguf.data_offset + 64)
        assert gguf.size == path.stat().st_size and gguf.path == str(path)


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_raw_is_a_read_only_view_with_one_row_of_bytes_a_row(write, byte_order):
    with open_gguf(write(two_tensors(Build(3, byte_order)))) as gguf:
        assert gguf.raw("a").shape == (2, 12) and gguf.raw("a").dtype == np.uint8
        np.testing.assert_array_equal(gguf.raw("b"), np.arange(36).reshape(2, 18))
        assert not gguf.raw("b").flags.writeable and not gguf.raw("b").flags.owndata


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("rows", [None, 1, -2, np.int64(0), slice(1, 2), slice(None, None, -1)])
def test_dequantize_takes_rows_like_numpy_indexing(write, byte_order, rows):
    with open_gguf(write(two_tensors(Build(3, byte_order))), as_floats) as gguf:
        whole = np.arange(6, dtype="f4").reshape(2, 3)
        expected = whole if rows is None else whole[rows]
        np.testing.assert_array_equal(gguf.dequantize("a", rows), expected)
        assert gguf.dequantize("b", rows).shape == (*expected.shape[:-1], 32)


def test_dequantize_decodes_only_the_rows_asked_for(write):
    seen = []

    def spy(raw, type_name, byte_order):
        seen.append((raw.shape, type_name, byte_order))
        return as_floats(raw, type_name, byte_order)

    with open_gguf(write(two_tensors(Build())), spy) as gguf:
        assert gguf.dequantize("b", 1).shape == (32,)
        assert gguf.dequantize("b", slice(0, 1)).shape == (1, 32)
    assert seen == [((18,), "Q4_0", "little"), ((1, 18), "Q4_0", "little")]


def test_rows_of_a_vector_are_its_elements(write):
    build = Build()
    info = build.tensor("v", [5], 0, 0), build.tensor("s", [], 0, 32)
    content = build.file([], info, build.pack("5f", *range(5)) + bytes(12) + build.pack("f", 7))
    with open_gguf(write(content), as_floats) as gguf:
        np.testing.assert_array_equal(gguf.dequantize("v"), np.arange(5))
        np.testing.assert_array_equal(gguf.dequantize("v", slice(1, 3)), [1, 2])
        assert gguf.dequantize("v", 4) == 4 and gguf.raw("v").shape == (20,)
        assert gguf.dequantize("s").shape == () and gguf.dequantize("s") == 7


@pytest.mark.parametrize("rows", [2, -3, "all", 1.5, [0, 1], slice("a", None), slice(0, 2, 0)])
def test_rows_that_do_not_exist_are_refused(write, rows):
    with (
        open_gguf(write(two_tensors(Build())), as_floats) as gguf,
        pytest.raises(ParameterError, match="not rows of it; expected None, a slice, or an index"),
    ):
        gguf.dequantize("a", rows)


def test_an_unknown_tensor_brings_near_names(write):
    build = Build()
    content = build.file([], [build.tensor("blk.0.attn_q.weight", [1], 0, 0)], bytes(32))
    with open_gguf(write(content)) as gguf:
        with pytest.raises(ParameterError, match=r"did you mean blk.0.attn_q.weight"):
            gguf.raw("blk.0.attn_k.weight")
        with pytest.raises(ParameterError, match=r"no tensor 3; .* see .tensors for all names"):
            gguf.raw(3)


def test_a_file_without_decoder_does_not_dequantize(write):
    with (
        open_gguf(write(two_tensors(Build()))) as gguf,
        pytest.raises(UnsupportedError, match=r"open the file with workbench.open_gguf"),
    ):
        gguf.dequantize("a")


def test_views_outlive_close_but_new_ones_are_refused(write):
    gguf = open_gguf(write(two_tensors(Build())), as_floats)
    view = gguf.raw("b")
    gguf.close()
    gguf.close()
    gc.collect()
    np.testing.assert_array_equal(view[0], np.arange(18))
    assert "closed" in repr(gguf) and gguf.tensors["a"].nbytes == 24
    for read in (gguf.raw, gguf.dequantize):
        with pytest.raises(GGUFError, match=r"the file is closed; .* open it again"):
            read("a")


def test_a_tensor_info_can_be_sent_to_another_process(write):
    info = open_gguf(write(two_tensors(Build()))).tensors["b"]
    assert pickle.loads(pickle.dumps(info)) == info


def test_repr_of_a_file_says_what_it_holds(write):
    content = two_tensors(Build())
    assert repr(open_gguf(write(content))) == (
        f"GGUFFile('made.gguf': version 3, 1 keys, 2 tensors, {len(content)} bytes)"
    )


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"", "the file is empty"),
        (b"Hello, this is a text.\n", "looks like a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "looks like a web page"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a":1}', "looks like a safetensors file"),
        (b"PK\x03\x04rest", "looks like a zip or PyTorch file"),
        (b"tjgg\1\0\0\0", "from before GGUF"),
        (b"GGU", "expected it to start with b'GGUF', got b'GGU'"),
        (b"\xde\xad\xbe\xef", "check the path, or download"),
    ],
)
def test_a_file_of_another_kind_is_recognised(write, content, advice):
    with pytest.raises(GGUFError, match=r"byte 0: not a GGUF file; .*" + advice):
        open_gguf(write(content))


def test_a_missing_file_and_a_directory_are_no_files(tmp_path):
    with pytest.raises(GGUFNotFoundError, match=r"absent.gguf: no such file; .* check the path"):
        open_gguf(tmp_path / "absent.gguf")
    with pytest.raises(FileNotFoundError):
        open_gguf(tmp_path / "absent.gguf")
    with pytest.raises(GGUFError, match=r"not a file; expected a .gguf file, got a directory"):
        open_gguf(tmp_path)
    with pytest.raises(GGUFError, match="got a device or pipe"):
        open_gguf("/dev/zero")
    with pytest.raises(GGUFError, match=r"cannot be read; .* Not a directory"):
        (tmp_path / "file").write_bytes(b"")
        open_gguf(tmp_path / "file" / "x.gguf")
    for path in (None, 3.5, "nul\0byte"):
        with pytest.raises(ParameterError, match="path: not a path"):
            open_gguf(path)
