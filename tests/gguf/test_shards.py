"""Split models: opened as one from any file, and what is said of files that do not fit."""

import shutil

import numpy as np
import pytest

import workbench as wb
from tests.conftest import REFERENCE, needs_reference
from workbench.errors import GGUFError
from workbench.gguf import write_gguf

RNG = np.random.default_rng(3)
WEIGHTS = {f"blk.{i}.weight": RNG.standard_normal((3, 32)).astype(np.float32) for i in range(5)}
PARTS = (("blk.0.weight", "blk.1.weight"), ("blk.2.weight",), ("blk.3.weight", "blk.4.weight"))


def write_split(folder, parts=PARTS, stem="model", **keys):
    """The files of a split model, as llama.cpp names them."""
    paths = []
    for number, names in enumerate(parts):
        metadata = {"general.architecture": "llama", "first": True} if number == 0 else {}
        metadata |= {
            "split.no": np.uint16(number),
            "split.count": np.uint16(len(parts)),
            "split.tensors.count": np.int32(sum(map(len, parts))),
        }
        metadata |= {key.replace("_", "."): value for key, value in keys.items()}
        paths.append(folder / f"{stem}-{number + 1:05}-of-{len(parts):05}.gguf")
        write_gguf(paths[-1], metadata, {name: WEIGHTS[name] for name in names})
    return paths


@pytest.mark.parametrize("number", range(3))
def test_any_file_of_a_split_model_opens_it_whole(tmp_path, number):
    paths = write_split(tmp_path)
    with wb.open_gguf(paths[number]) as gguf:
        assert gguf.metadata["first"] and gguf.path == str(paths[0])
        assert list(gguf.tensors) == list(WEIGHTS)
        for name, weight in WEIGHTS.items():
            np.testing.assert_array_equal(gguf.dequantize(name), weight)
        assert [shard.n_tensors for shard in gguf.shards] == [2, 1, 2]
        assert gguf.size == sum(path.stat().st_size for path in paths)
        assert "5 tensors" in repr(gguf) and "in 3 files" in repr(gguf)


def test_a_file_can_be_opened_alone(tmp_path):
    with wb.open_gguf(write_split(tmp_path)[1], whole=False) as gguf:
        assert list(gguf.tensors) == ["blk.2.weight"] and len(gguf.shards) == 1


def test_a_missing_file_is_named(tmp_path):
    paths = write_split(tmp_path)
    paths[1].unlink()
    with pytest.raises(GGUFError, match=r"model-00002-of-00003\.gguf: this shard .* is missing"):
        wb.open_gguf(paths[2])


def test_a_damaged_file_is_named(tmp_path):
    paths = write_split(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    with pytest.raises(GGUFError, match=r"model-00002-of-00003\.gguf, byte .* 'blk.2.weight'"):
        wb.open_gguf(paths[0])


def test_files_that_do_not_fit_are_named(tmp_path):
    paths = write_split(tmp_path)
    shutil.copy(paths[1], paths[2])
    with pytest.raises(GGUFError, match=r"00003-of-00003\.gguf: not shard 3 of 3; .* got 1 and 3"):
        wb.open_gguf(paths[0])
    other = write_split(tmp_path, parts=(("blk.0.weight",), ("blk.0.weight",)), stem="twice")
    with pytest.raises(GGUFError, match=r"'blk.0.weight' is in two shards"):
        wb.open_gguf(other[0])
    paths = write_split(tmp_path, stem="short", split_tensors_count=np.int32(9))
    with pytest.raises(GGUFError, match=r"expected 9 tensors by split.tensors.count, got 5"):
        wb.open_gguf(paths[0])


def test_a_file_under_another_name_is_refused_with_its_own(tmp_path):
    path = write_split(tmp_path)[1].rename(tmp_path / "renamed.gguf")
    with pytest.raises(GGUFError, match=r"ends in -00002-of-00003\.gguf, got 'renamed.gguf'"):
        wb.open_gguf(path)


def test_the_layout_covers_every_byte_of_every_file_once(tmp_path):
    paths = write_split(tmp_path)
    with open(paths[2], "ab") as file:
        file.write(bytes(100))
    with wb.open_gguf(paths[0]) as gguf:
        layout = gguf.layout
        for number, size in enumerate(layout.sizes):
            spans = [span for span in layout.spans if span.shard == number]
            ends = [0, *(span.end for span in spans)]
            assert [span.start for span in spans] == ends[:-1] and ends[-1] == size
        tensors = [span for span in layout.spans if span.kind == "tensor"]
        assert [(s.name, s.nbytes, s.type) for s in tensors] == [
            (info.name, info.nbytes, info.type) for info in gguf.tensors.values()
        ]
        assert layout.by_kind()["trailing"] == 100
        assert len(layout.to_frame()) == len(layout.spans)
        keys = [span.name for span in layout.spans if span.kind == "metadata"][:2]
        assert keys == ["general.architecture", "first"]


@needs_reference
def test_a_split_copy_is_the_model_itself(tmp_path):
    folder = REFERENCE / "models"
    with (
        wb.open_gguf(folder / "stories260K-f32.gguf") as whole,
        wb.open_gguf(folder / "stories260K-f32-split-00002-of-00003.gguf") as split,
    ):
        assert list(split.tensors) == list(whole.tensors)
        for name in whole.tensors:
            np.testing.assert_array_equal(split.raw(name), whole.raw(name))
        logits = [wb.load_model(gguf, "cpu") for gguf in (whole, split)]
        logits = [model.forward([1, 5, 9], model.new_cache(8)) for model in logits]
        np.testing.assert_array_equal(*logits)
    written = []
    for gguf in (whole, split):
        wb.quantize_file(gguf.path, tmp_path / "out.gguf", "Q8_0")
        written.append((tmp_path / "out.gguf").read_bytes())
    assert written[0] == written[1]
