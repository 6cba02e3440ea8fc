"""The writer: types it gives to values, bytes equal to gguf-py's, round trips, and safety."""

import os
import threading

import gguf as gguf_py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import REFERENCE, needs_reference
from tests.gguf.build import Build, all_values
from workbench.errors import ParameterError
from workbench.gguf import StringArray, open_gguf, write_gguf

LAYOUTS = [(v, order) for v in (1, 2, 3) for order in ("little", "big")]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.gguf"


def stored(gguf) -> dict:
    """The tensors of a file in the form `write_gguf` takes."""
    return {name: (gguf.raw(name), info.type, info.shape) for name, info in gguf.tensors.items()}


def as_lists(value):
    """Arrays and lazy strings as plain lists, for comparison."""
    if isinstance(value, list | StringArray):
        return [as_lists(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        (True, "BOOL"),
        ("text", "STRING"),
        (b"\xff", "STRING"),
        (0, "UINT32"),
        (2**32 - 1, "UINT32"),
        (-1, "INT32"),
        (2**32, "INT64"),
        (-(2**31) - 1, "INT64"),
        (2**63, "UINT64"),
        (1.5, "FLOAT32"),
        (np.float64(0.1), "FLOAT64"),
        (np.float32(0.1), "FLOAT32"),
        (np.uint8(3), "UINT8"),
        (np.int16(-3), "INT16"),
        (np.bool_(True), "BOOL"),
        (np.array(7, "u8"), "UINT64"),
        (["a", "b"], "ARRAY[STRING]"),
        ([1, 2**31 - 1], "ARRAY[INT32]"),
        ([1, 2**31], "ARRAY[INT64]"),
        ([1, 2**63], "ARRAY[UINT64]"),
        ((1.0, 2), "ARRAY[FLOAT32]"),
        ([True, False], "ARRAY[BOOL]"),
        ([np.int8(1), np.int8(2)], "ARRAY[INT8]"),
        (np.zeros(3, ">u2"), "ARRAY[UINT16]"),
        (np.zeros(0, "f8"), "ARRAY[FLOAT64]"),
        (np.array(["x", "y"]), "ARRAY[STRING]"),
        ([[1], [2, 3]], "ARRAY[ARRAY[INT32]]"),
        ([[1], []], "ARRAY[ARRAY[INT32]]"),
        ([[1], ["a"]], "ARRAY[ARRAY]"),
        (np.zeros((2, 3), "f4"), "ARRAY[ARRAY[FLOAT32]]"),
    ],
)
def test_values_of_a_dict_get_the_type_llama_cpp_expects(out, value, type_name):
    write_gguf(out, {"k": value}, {})
    meta = open_gguf(out).metadata
    assert meta.types == {"k": type_name}
    if value != b"\xff" if isinstance(value, bytes) else True:
        assert as_lists(meta["k"]) == as_lists(list(value) if type(value) is tuple else value)


def test_a_named_type_overrules_the_usual_one(out):
    types = {"a": "UINT64", "b": "ARRAY[STRING]", "c": "FLOAT64", "d": "ARRAY[ARRAY[INT8]]"}
    write_gguf(out, {"a": 1, "b": [], "c": 0.1, "d": [[], [1]]}, {}, types=types)
    meta = open_gguf(out).metadata
    assert dict(meta.types) == types
    assert (meta["a"], list(meta["b"]), meta["c"]) == (1, [], 0.1)
    assert as_lists(meta["d"]) == [[], [1]]


@pytest.mark.parametrize(
    ("value", "type_name", "message"),
    [
        (None, None, "no GGUF type for it"),
        ({"a": 1}, None, "no GGUF type for it"),
        (2**64, None, "integer too large; expected a range of 64 bits"),
        ([-1, 2**63], None, "integer too large"),
        ([], None, "an empty list has no type"),
        ([[]], None, "an empty list has no type"),
        ([1, "a"], None, "list of mixed kinds"),
        ([True, 1], None, "list of mixed kinds"),
        (np.float16(1), None, "no GGUF type for this dtype"),
        (1e300, None, "does not fit FLOAT32; .* np.float64"),
        ("lone \ud800", None, "text has no UTF-8 form"),
        (300, "UINT8", "does not fit UINT8; expected 0 to 255, got 300"),
        (1.5, "INT32", "not INT32"),
        ("a", "INT32", "not INT32"),
        ([1], "INT32", "not a INT32; expected one number"),
        (1, "STRING", "not a STRING; expected str or bytes"),
        (1, "ARRAY[INT32]", "not an array"),
        ("abc", "ARRAY[STRING]", "not an array"),
        ([1], "ARRAY[STRING]", "not an array of strings"),
        ([[1], [2, 3]], "ARRAY[INT32]", "not INT32"),
        (1, "INT128", "metadata type not known"),
        ([1], "ARRAY[INT128]", "array element type not known"),
        (1, 4, "bad type name"),
    ],
)
def test_values_without_a_type_are_refused_and_leave_nothing(out, value, type_name, message):
    types = {} if type_name is None else {"k": type_name}
    with pytest.raises(ParameterError, match=f"metadata 'k': {message}"):
        write_gguf(out, {"k": value}, {}, types=types)
    assert os.listdir(out.parent) == []


def test_arrays_are_stored_as_the_tensor_type_of_their_dtype(out):
    x = np.arange(-3, 3).reshape(2, 3)
    dtypes = {
        "F32": "f4",
        "F16": "f2",
        "F64": "f8",
        "I8": "i1",
        "I16": "i2",
        "I32": "i4",
        "I64": "i8",
    }
    arrays = {name: x.astype(dtype) for name, dtype in dtypes.items()}
    arrays["BF16"] = x.astype(ml_dtypes.bfloat16)
    for byte_order in ("little", "big"):
        write_gguf(out, {}, arrays, byte_order=byte_order)
        with open_gguf(out) as gguf:
            for name, array in arrays.items():
                assert (gguf.tensors[name].type, gguf.tensors[name].shape) == (name, (2, 3))
                raw = gguf.raw(name).reshape(2, 3, -1)
                raw = raw[..., ::-1] if byte_order == "big" else raw
                assert raw.tobytes() == array.tobytes()


def test_strided_and_foreign_order_arrays_are_stored_by_value(out):
    x = np.arange(12, dtype=">f4").reshape(3, 4)[::2, ::-1]
    write_gguf(out, {}, {"x": x, "scalar": np.full((), 3, "f4")})
    with open_gguf(out) as gguf:
        np.testing.assert_array_equal(gguf.raw("x").view("<f4"), x)
        assert gguf.tensors["scalar"].shape == ()


def test_raw_data_may_be_made_when_its_turn_comes(out):
    def make():
        return np.full((2, 18), 7, np.uint8)

    write_gguf(out, {}, {"late": (make, "Q4_0", (2, 32)), "now": (bytes(18), "Q4_0", [32])})
    with open_gguf(out) as gguf:
        np.testing.assert_array_equal(gguf.raw("late"), make())


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("t", np.zeros(3, "u2"), "no tensor type for it; .* got uint16"),
        ("t", [1.0], "no tensor type for it; .* got list"),
        ("t", np.zeros((1,) * 5, "f4"), "too many axes; expected at most 4"),
        ("n" * 65, np.zeros(1, "f4"), "bad name; expected text of at most 64 bytes"),
        (5, np.zeros(1, "f4"), "bad name"),
        ("t", (bytes(18), "Q4_9", (32,)), "type not known; expected one of F32, F16"),
        ("t", (bytes(18), "Q4_0", (33,)), "bad shape for Q4_0; .* a multiple of 32"),
        ("t", (bytes(18), "Q4_0", (-32,)), "bad shape for Q4_0"),
        ("t", (bytes(18), "Q4_0", ("a",)), "bad shape for Q4_0"),
        ("t", (bytes(17), "Q4_0", (32,)), "expected 18 bytes of uint8, got 17 of uint8"),
        ("t", (np.zeros(18, "i1"), "Q4_0", (32,)), "got 18 of int8"),
        ("t", (lambda: np.zeros(17, "u1"), "Q4_0", (32,)), "got 17 of uint8"),
        ("t", ("text", "Q4_0", (32,)), "got str"),
    ],
)
def test_tensors_that_cannot_be_stored_are_refused_and_leave_nothing(out, name, tensor, message):
    with pytest.raises(ParameterError, match=f"tensor {name!r}: .*{message}|{message}"):
        write_gguf(out, {}, {"first": np.zeros(9, "f4"), name: tensor})
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"version": 4}, "version: not known; expected 1, 2 or 3, got 4"),
        ({"byte_order": "middle"}, "byte_order: not known"),
    ],
)
def test_unknown_versions_and_byte_orders_are_refused(out, settings_, message):
    with pytest.raises(ParameterError, match=message):
        write_gguf(out, {}, {}, **settings_)


@pytest.mark.parametrize("value", [0, 12, np.uint64(32), "32", -8, [32]])
def test_an_alignment_no_reader_takes_is_refused(out, value):
    with pytest.raises(ParameterError, match=r"'general.alignment': not an alignment"):
        write_gguf(out, {"general.alignment": value}, {})


@pytest.mark.parametrize(("version", "byte_order"), LAYOUTS)
@pytest.mark.parametrize("tensors", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_parse_then_write_gives_identical_bytes(out, version, byte_order, tensors, padded):
    build = Build(version, byte_order)
    # A signalling NaN changes when Python converts it to double; the bytes must not.
    pairs = [*all_values(build), build.pair("nan", 6, build.pack("I", 0x7FA00001))]
    info = [build.tensor("b", [3, 2], 0, 0), build.tensor("q", [32], 2, 32)] if tensors else []
    data = build.pack("6f", *range(6)) + bytes(8) + bytes(range(18)) if tensors else b""
    content = build.file(pairs, info, data + bytes(14 if tensors and padded else 0))
    if not tensors and not padded:
        content = content.rstrip(b"\0") + bytes(20)  # the last value is an empty nested array
        content = build.file(pairs, alignment=1)
    out.write_bytes(content)
    with open_gguf(out) as gguf:
        write_gguf(out, gguf.metadata, stored(gguf))  # onto the file that is open
    assert out.read_bytes() == content


@pytest.mark.parametrize("layout", LAYOUTS)
def test_metadata_survives_a_change_of_version_and_byte_order(out, layout):
    build = Build()
    out.write_bytes(build.file(all_values(build)))
    before = open_gguf(out).metadata
    write_gguf(out, before, {}, version=layout[0], byte_order=layout[1])
    build = Build(*layout)
    assert out.read_bytes() == build.file(all_values(build))
    write_gguf(out, dict(before), {}, types=before.types)
    assert as_lists(list(open_gguf(out).metadata.values())) == as_lists(list(before.values()))


def values(depth: int = 3):
    numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(width=32, allow_nan=False)
    one_kind = [st.booleans(), st.text(), st.integers(-(2**63), 2**63 - 1), st.binary()]
    flat = st.one_of([st.lists(kind, min_size=1) for kind in one_kind])
    nested = st.recursive(flat, lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=6)
    return numbers | st.text() | st.booleans() | nested


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.text(), values(), max_size=8), st.sampled_from(LAYOUTS))
def test_random_metadata_comes_back_as_it_was_written(out, metadata, layout):
    metadata.pop("general.alignment", None)
    write_gguf(out, metadata, {}, version=layout[0], byte_order=layout[1])
    with open_gguf(out) as gguf:
        assert list(gguf.metadata) == list(metadata)
        for key, value in metadata.items():
            assert as_lists(gguf.metadata[key]) == decoded(value)
        content = out.read_bytes()
        write_gguf(
            out,
            dict(gguf.metadata),
            {},
            types=gguf.metadata.types,
            version=layout[0],
            byte_order=layout[1],
        )
    assert out.read_bytes() == content


def decoded(value):
    """What the reader makes of bytes, in lists too."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return [decoded(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("n_tensors", [0, 1, 3])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_the_same_content_gives_the_same_bytes_as_gguf_py(tmp_path, out, n_tensors, endian):
    theirs = tmp_path / "theirs.gguf"
    order = gguf_py.GGUFEndian.BIG if endian == "big" else gguf_py.GGUFEndian.LITTLE
    writer = gguf_py.GGUFWriter(theirs, "llama", endianess=order)
    writer.add_custom_alignment(64)
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "é"])
    writer.add_array("tokenizer.ggml.token_type", [3, 1])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.5])
    rng = np.random.default_rng(0)
    arrays = {f"t{i}": rng.normal(size=(3, 5 + i)).astype("f4") for i in range(n_tensors)}
    for name, array in arrays.items():
        writer.add_tensor(name, array.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata = {
        "general.architecture": "llama",
        "general.alignment": 64,
        "llama.block_count": 2,
        "llama.rope.freq_base": 1e4,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.tokens": ["<s>", "é"],
        "tokenizer.ggml.token_type": [3, 1],
        "tokenizer.ggml.scores": [0.0, -1.5],
    }
    write_gguf(out, metadata, arrays, byte_order=endian)
    assert out.read_bytes() == theirs.read_bytes()


@needs_reference
@pytest.mark.parametrize("folder", ["models", "logits", "vocab"])
def test_every_reference_file_survives_parse_and_write(out, folder):
    for path in sorted((REFERENCE / folder).glob("*.gguf")):
        with open_gguf(path, whole=False) as gguf:
            write_gguf(out, gguf.metadata, stored(gguf))
        assert out.read_bytes() == path.read_bytes(), path.name


def test_a_failed_write_leaves_the_old_file_as_it_was(out):
    write_gguf(out, {"a": 1}, {"t": np.ones(8, "f4")})
    before = out.read_bytes()

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(out, {}, {"x": np.ones(99, "f4"), "t": (fail, "F32", (8,))})
    assert out.read_bytes() == before and os.listdir(out.parent) == ["out.gguf"]


def test_places_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(
        ParameterError, match=r"cannot be written; .* got No such file or directory"
    ):
        write_gguf(tmp_path / "absent" / "x.gguf", {}, {})
    with pytest.raises(ParameterError, match=r"cannot be written; .* got a directory"):
        write_gguf(tmp_path, {}, {})
    with pytest.raises(ParameterError, match="path: not a path"):
        write_gguf(None, {}, {})
    with pytest.raises(ParameterError, match="metadata 5: bad key; expected str, got int"):
        write_gguf(tmp_path / "x.gguf", {5: 1}, {})


def test_readers_of_the_old_file_keep_what_they_opened(out):
    write_gguf(out, {"a": 1}, {"t": np.ones(8, "f4")})
    with open_gguf(out) as old:
        thread = threading.Thread(target=write_gguf, args=(out, {"a": 2}, {"t": np.zeros(8, "f4")}))
        thread.start()
        thread.join()
        np.testing.assert_array_equal(old.raw("t").view("<f4"), np.ones(8))
    with open_gguf(out) as new:
        assert new.metadata["a"] == 2
