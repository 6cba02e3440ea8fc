"""Damaged and hostile files: each opens or raises GGUFError, quickly and with little memory."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import REFERENCE, needs_reference
from tests.gguf.build import Build, all_values
from workbench.errors import GGUFError
from workbench.gguf import open_gguf

MALFORMED = Path(__file__).resolve().parents[1] / "data" / "malformed"
CASES = json.loads((MALFORMED / "manifest.json").read_text())
U64_MAX = 2**64 - 1


def verdict_of(path) -> str:
    """Read all there is in a file; "accept", or "reject" for a GGUFError."""
    try:
        with open_gguf(path) as gguf:
            for value in gguf.metadata.values():
                repr(value)
                len(value) and list(value) if hasattr(value, "__len__") else None
            for name in gguf.tensors:
                gguf.raw(name).sum()
    except GGUFError:
        return "reject"
    return "accept"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hostile.gguf"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_malformed_files_get_the_verdict_of_the_specification(case):
    verdict = verdict_of(MALFORMED / case["file"])
    assert case["verdict"] in ("either", verdict), case["what"]


@needs_reference
def test_every_malformed_file_of_the_reference_is_carried():
    manifest = json.loads((REFERENCE / "malformed" / "manifest.json").read_text())
    assert [case["file"] for case in CASES] == [case["file"] for case in manifest["cases"]]
    for case in CASES:
        ours, theirs = MALFORMED / case["file"], REFERENCE / "malformed" / case["file"]
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(("version", "byte_order"), [(1, "little"), (2, "big"), (3, "little")])
def test_a_file_cut_at_any_byte_of_header_or_data_is_refused(path, version, byte_order):
    build = Build(version, byte_order)
    content = build.file(all_values(build), [build.tensor("t", [8, 2], 0, 0)], bytes(64))
    for kept in range(len(content)):
        path.write_bytes(content[:kept])
        with pytest.raises(GGUFError, match=r"byte \d+.*; expected .*, got .*; "):
            open_gguf(path)


@needs_reference
@pytest.mark.parametrize("name", ["models/stories260K-q4_0", "vocab/ggml-vocab-gpt-2"])
def test_a_real_file_cut_at_every_kilobyte_is_refused(path, name):
    content = (REFERENCE / f"{name}.gguf").read_bytes()
    for kept in range(0, len(content) - 1024, 1024 if len(content) < 2**20 else 16384):
        path.write_bytes(content[:kept])
        with pytest.raises(GGUFError, match=r"byte \d+"):
            open_gguf(path)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), layout=st.sampled_from([(1, "big"), (2, "little"), (3, "little")]))
def test_a_mutated_file_opens_or_raises_gguf_error(path, data, layout):
    build = Build(*layout)
    infos = [build.tensor("t", [8, 2], 0, 0), build.tensor("q", [256], 12, 64)]
    content = bytearray(build.file(all_values(build), infos, bytes(224)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(st.sampled_from([b"\0", b"\xff", b"\x80", b"\xff" * 8]) | st.binary())
        content[at : at + len(patch)] = patch
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    verdict_of(path)
    path.write_bytes(content)
    verdict_of(path)


def hostile_headers() -> dict[str, tuple[bytes, str]]:
    """Name -> a file that announces more than it has, and a part of the message it must get."""
    b = Build()
    huge = b.pack("Q", 2**62)
    tensors = {
        "dims": (b.tensor("t", [2**40, 2**40], 0, 0), "tensor 't': dims overflow"),
        "zero_dims": (b.tensor("t", [0, 2**62, 2**62], 0, 0), "tensor 't': dims overflow"),
        "n_dims": (b.tensor("t", [1] * 5, 0, 0), "too many dims; expected at most 4, got 5"),
        "unaligned": (b.tensor("t", [1], 0, 4), "offset not aligned; expected a multiple of 32"),
        "removed_type": (b.tensor("t", [32], 4, 0), "tensor type not known; .*, got 4;"),
        "long_name": (b.tensor("n" * 65, [1], 0, 0), "name too long; expected at most 64 bytes"),
        "far_offset": (b.tensor("t", [1], 0, 2**64 - 32), "passes the end of the file"),
    }
    values = {
        "strings": (9, b.pack("I", 8) + huge, "key 'k': array length 4611686018427387904"),
        "nested": (9, b.pack("I", 9) + huge, "array length 4611686018427387904 is more than"),
        "element": (9, b.pack("IQ", 13, 0), "array element type not known; expected 0 to 12"),
        "deep": (9, b.pack("IQ", 9, 1) * 5000, "arrays lie too deep in one another"),
        "bool": (7, b"\2", "no truth value; expected 0 or 1, got 2"),
        "bools": (9, b.array(7, [b"\1", b"\0", b"\7"]), "expected 0 or 1, got 7"),
        "alignment": (4, b.pack("I", 12), None),
    }
    files = {name: (b.file([], [info], bytes(32)), text) for name, (info, text) in tensors.items()}
    for name, (type_id, value, text) in values.items():
        files[name] = (b.file([b.pair("k", type_id, value)]) + bytes(64), text)
    for bad in (0, 12):
        pair = b.pair("general.alignment", 4, b.pack("I", bad))
        files[f"alignment_{bad}"] = (b.file([pair]), "not an alignment; expected a multiple of 8")
    del files["alignment"]
    twice = [b.tensor("t", [1], 0, 0), b.tensor("t", [1], 0, 32)]
    files["twice"] = (b.file([], twice, bytes(64)), "tensor 't' comes twice")
    files["version_0"] = (b"GGUF" + bytes(40), "version not known; expected 1, 2 or 3, got 0")
    return files


@pytest.mark.parametrize("name", hostile_headers())
def test_announced_sizes_are_refused_without_allocating_them(path, name):
    content, message = hostile_headers()[name]
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(GGUFError, match=message):
        open_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_unusual_but_valid_files_are_read(path):
    b = Build()
    gap = [b.tensor("late", [1], 0, 96), b.tensor("", [0, 3], 0, 0), b.tensor("n" * 64, [1], 0, 0)]
    pairs = [b.pair("", 8, b.string(b"\xff\0")), b.pair(b"\xfe", 0, b"\1")]
    path.write_bytes(b.file(pairs, gap, bytes(100)))
    with open_gguf(path) as gguf:
        assert gguf.tensors["late"].offset == gguf.data_offset + 96
        assert gguf.raw("").shape == (3, 0) and gguf.metadata[""] == "\udcff\0"
        assert gguf.metadata["\udcfe"] == 1


def test_many_empty_strings_are_walked_in_linear_time_and_memory(path):
    b = Build()
    value = b.pack("IQ", 8, 200_000) + bytes(1_600_000)
    path.write_bytes(b.file([b.pair("k", 9, value)]))
    tracemalloc.start()
    with open_gguf(path) as gguf:
        assert gguf.metadata["k"][199_999] == ""
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
