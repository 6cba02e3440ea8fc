"""Mutated files: the reader refuses exactly what the profile "spec" calls an error.

The two share no parsing code, so each checks the other.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gguf.build import Build, all_values
from tests.gguf.fuzz_checks import accepts, reads

PATCHES = [b"\0", b"\1", b"\xff", b"\x80", b"\xff" * 8, bytes(8), b"\x20" + bytes(7)]
LAYOUTS = [(1, "little"), (1, "big"), (2, "little"), (3, "little"), (3, "big")]


def whole_file(version: int, byte_order: str) -> bytes:
    build = Build(version, byte_order)
    infos = [build.tensor("t", [8, 2], 0, 0), build.tensor("q", [256], 12, 64)]
    return build.file(
        [*all_values(build), build.pair("general.alignment", 4, build.pack("I", 32))],
        infos,
        bytes(224),
    )


def mutated(data: st.DataObject, content: bytes) -> bytes:
    """A few bytes replaced, cut out or put in, and perhaps the end cut off."""
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        patch = data.draw(st.sampled_from(PATCHES) | st.binary(max_size=16))
        removed = data.draw(st.sampled_from([len(patch), 0, 1, 8]))
        content = content[:at] + patch + content[at + removed :]
    return content[: data.draw(st.sampled_from([None, len(content) // 2, len(content) - 1]))]


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), layout=st.sampled_from(LAYOUTS))
def test_reader_and_profile_spec_agree_on_every_mutation(tmp_path, data, layout):
    path = tmp_path / "mutated.gguf"
    path.write_bytes(mutated(data, whole_file(*layout)))
    assert reads(path) == accepts(path, "spec")
    accepts(path, "llama.cpp")  # never raises


def test_the_files_that_mutations_start_from_are_sound(tmp_path):
    for layout in LAYOUTS:
        path = tmp_path / "sound.gguf"
        path.write_bytes(whole_file(*layout))
        assert reads(path) and accepts(path, "spec")
