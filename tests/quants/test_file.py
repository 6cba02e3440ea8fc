"""The public open_gguf: the reader, with tensors that decode."""

import struct

import numpy as np
import pytest

from workbench.errors import GGUFNotFoundError
from workbench.quants import open_gguf, quantize


def tiny_gguf(raw: bytes) -> bytes:
    """Version 3, no metadata, one Q8_0 tensor "w" of shape (2, 32)."""
    name = struct.pack("<Q", 1) + b"w"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    head += name + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
    return head + bytes(-len(head) % 32) + raw


def test_tensors_of_an_opened_file_dequantize(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
    x = np.rint(x * 127 / np.abs(x).max(axis=1, keepdims=True)) / np.float32(128)
    raw = quantize(x, "Q8_0")
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf(raw.tobytes()))
    with open_gguf(path) as gguf:
        np.testing.assert_array_equal(gguf.raw("w"), raw)
        np.testing.assert_array_equal(gguf.dequantize("w"), x)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(GGUFNotFoundError, match=r"nowhere\.gguf"):
        open_gguf(tmp_path / "nowhere.gguf")
