"""Opens a GGUF file whose tensors can be decoded: the reader of layer 1 with `dequantize` in it.

Source: none beyond `workbench.gguf.reader` and `workbench.quants.convert`, which this joins.
Left out: anything that is not a tensor.
"""

import os

from ..gguf import reader
from .convert import dequantize


def open_gguf(path: str | os.PathLike, whole: bool = True) -> reader.GGUFFile:
    """Opens a GGUF file: its metadata, its tensors, and their weights as float32.

    path: the file; any file of a split model, all of which are opened as one; or where a file is:
        "https://…/model.gguf", "hf://owner/repository/model.gguf". Nothing but its header is read;
        tensors are mapped into memory and read where they are touched, those of a remote file are
        fetched when they are asked for.
    whole: False opens one file of a split model alone.

    Returns: a GGUFFile, a context manager: `version`, `byte_order`, `alignment`, `metadata` (a
    read-only mapping), `tensors` (name -> TensorInfo: shape, type, nbytes, offset,
    bits_per_weight), `raw(name)` -> (*rows, bytes) uint8, a read-only view of the file, and
    `dequantize(name, rows=None)` -> float32 with the tensor's shape.
    Raises: GGUFNotFoundError where there is no such file; GGUFError for a file that is damaged,
    truncated or no GGUF file at all, for a shard that is missing or another model's, and for what
    no server gives.
    Example:
        with open_gguf("model.gguf") as gguf:
            weights = gguf.dequantize("blk.0.attn_q.weight", rows=slice(0, 8))
    Source: the GGUF specification (docs/gguf.md of ggml); ggml/src/gguf.cpp.
    """
    return reader.open_gguf(path, dequantize, whole)
