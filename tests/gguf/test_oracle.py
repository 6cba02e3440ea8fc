"""The reader against gguf-py's on real files: values, types, shapes, offsets and data."""

import gguf as gguf_py
import numpy as np
import pytest

from tests.conftest import REFERENCE, needs_reference
from workbench.gguf import StringArray, ValueType, open_gguf
from workbench.gguf.types import GGML_TYPES

FILES = [
    "models/stories260K-q4_0",
    "models/stories260K-f32-split-00002-of-00003",
    "logits/gpt-oss-mxfp4",
    "logits/llama-256-Q4_K_M",
]


@pytest.fixture(scope="module", params=FILES)
def pair(request):
    """The same file opened by us and by gguf-py."""
    path = REFERENCE / f"{request.param}.gguf"
    with open_gguf(path, whole=False) as ours:
        yield ours, gguf_py.GGUFReader(path)


@needs_reference
def test_metadata_equals_what_gguf_py_reads(pair):
    ours, theirs = pair
    fields = {key: f for key, f in theirs.fields.items() if not key.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, field in fields.items():
        value, expected = ours.metadata[key], field.contents()
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, expected)
        else:
            assert value == expected
        stored = ours.metadata.types[key].removeprefix("ARRAY[").removesuffix("]")
        assert ValueType[stored] == field.types[-1]


@needs_reference
def test_tensors_equal_what_gguf_py_reads(pair):
    ours, theirs = pair
    assert ours.data_offset == theirs.data_offset or not theirs.tensors
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.shape == tuple(reversed(tensor.shape.tolist()))
        assert (info.offset, info.nbytes) == (tensor.data_offset, tensor.n_bytes)
        assert GGML_TYPES[info.type].id == int(tensor.tensor_type)
        np.testing.assert_array_equal(ours.raw(tensor.name).ravel(), tensor.data.view("u1").ravel())


@needs_reference
@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "llama-spm"])
def test_a_vocabulary_equals_the_plain_walk_over_its_strings(name):
    with open_gguf(REFERENCE / "vocab" / f"ggml-vocab-{name}.gguf") as gguf:
        raw = bytes(gguf.metadata.raw("tokenizer.ggml.tokens"))
        count, pos, expected = int.from_bytes(raw[8:16], "little"), 16, []
        for _ in range(count):
            end = pos + 8 + int.from_bytes(raw[pos : pos + 8], "little")
            expected.append(raw[pos + 8 : end].decode())
            pos = end
        tokens = gguf.metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, StringArray) and pos == len(raw)
        assert tokens == expected and tokens[-1] == expected[-1]
