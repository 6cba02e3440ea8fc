"""String arrays: the search for their bounds against the plain definition, and the sequence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gguf.build import Build
from workbench.gguf import StringArray
from workbench.gguf.strings import decode_text, encode_text, string_bounds

LAYOUTS = [(3, "little"), (3, "big"), (1, "little"), (1, "big")]


def found(texts: list[bytes], version: int, byte_order: str, tail: bytes = b"") -> StringArray:
    build = Build(version, byte_order)
    data = memoryview(b"head" + b"".join(build.string(text) for text in texts) + tail)
    prefix = 4 if version == 1 else 8
    bounds = string_bounds(data, 4, len(texts), prefix, byte_order)
    return StringArray(data, bounds, prefix)


def raw_list(array: StringArray) -> list[bytes]:
    return [array.raw_bytes(i) for i in range(len(array))]


@pytest.mark.parametrize(("version", "byte_order"), LAYOUTS)
@pytest.mark.parametrize(
    "texts",
    [
        [b"a", b"bc", b""] * 40,
        [b""] * 3000,
        [b"x" * 255, b"y" * 256, b"z" * 70000, b"w"] * 12,
        [b"\0" * n for n in range(60)],
        [b"short"] * 700 + [b"long" * 100] + [b"again"] * 700,
        [bytes([n % 7]) + b"\0" * 8 for n in range(2000)],
        [b"window" * 30] * 9000,
    ],
    ids=["short", "empty", "long", "zeros", "one_long", "misleading", "several_windows"],
)
def test_bounds_are_exact_whatever_the_strings_are(texts, version, byte_order):
    assert raw_list(found(texts, version, byte_order, b"tail\0\0\0\0\0\0\0\0")) == texts


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([b"", b"\1\0\0\0\0\0\0\0", b"a"])),
    st.sampled_from(LAYOUTS),
    st.integers(1, 40),
)
def test_bounds_of_random_bytes_are_exact(texts, layout, repeat):
    assert raw_list(found(texts * repeat, *layout)) == texts * repeat


@pytest.mark.parametrize(("version", "byte_order"), LAYOUTS)
def test_a_string_past_the_end_is_named_by_its_index(version, byte_order):
    build = Build(version, byte_order)
    whole = b"".join(build.string(b"word") for _ in range(100))
    prefix = 4 if version == 1 else 8
    for kept in range(len(whole)):
        index = string_bounds(memoryview(whole[:kept]), 0, 100, prefix, byte_order)
        assert index == kept // (prefix + 4)


def test_a_string_array_behaves_like_a_list_of_its_strings():
    words = ["zero", "één", "", "drei"] * 5
    array = found([word.encode() for word in words], 3, "little")
    assert array == words and list(array) == words and len(array) == 20
    assert array[1] == "één" and array[-1] == "drei" and array[np.int64(3)] == "drei"
    assert array[2:9] == words[2:9] and array[::-3] == words[::-3] and array[5:5] == []
    assert list(array[::-1]) == words[::-1]
    assert "één" in array and array.index("drei") == 3 and array.count("") == 5
    assert array != words[:-1] and array != "zero"
    assert array[2:9] == array[2:9]
    with pytest.raises(IndexError):
        array[20]


def test_the_repr_of_a_string_array_is_short():
    array = found([b"a" * 100] * 1000, 3, "little")
    assert repr(array).startswith("StringArray(1000: 'aaa") and len(repr(array)) < 120


@given(st.binary())
def test_bytes_that_are_no_utf8_survive_decoding_and_encoding(raw):
    assert encode_text(decode_text(raw)) == raw


def test_bytes_that_are_no_utf8_are_readable_as_bytes():
    array = found([b"\xff\xfe", "é".encode()], 3, "little")
    assert array[0] == "\udcff\udcfe" and array.raw_bytes(0) == b"\xff\xfe" and array[1] == "é"
