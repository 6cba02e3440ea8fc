"""Open a GGUF file: the header parsed, the tensor data mapped and read when it is touched.

Source: the GGUF specification (ggml/docs/gguf.md).
Left out: decoding: `dequantize` calls the decoder that the file was opened with (layer 2 passes its
own); where bytes come from (`source.py`, `remote.py`), what shards are (`shards.py`). A file that
another program truncates while it is open here ends the process with SIGBUS, as with every map.
"""

import difflib
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..errors import GGUFError, ParameterError, UnsupportedError
from .layout import FileLayout, file_layout
from .metadata import Metadata
from .shards import Shard, complete, open_source, read_shard
from .source import Source
from .tensor_info import TensorInfo
from .types import GGML_TYPES

__all__ = ["GGUFFile", "open_gguf"]

Decoder = Callable[[np.ndarray, str, str], np.ndarray]  # raw, type name, byte order -> float32


def open_gguf(
    path: str | os.PathLike, decode: Decoder | None = None, whole: bool = True
) -> "GGUFFile":
    """Open a GGUF file for reading, or all files of a split model, given any of them.

    path: of a file, or where one is: "https://…", "hf://owner/repository/file.gguf"; of a remote
    file only its header is read, and each tensor when it is asked for.
    whole: False opens one file of a split model alone.
    decode: called as decode(raw uint8 (…, bytes), type name, byte order) -> float32 (…, n).
    Returns: GGUFFile, best used in a `with` statement.
    Raises: GGUFNotFoundError if there is no such file, GGUFError if it is no sound GGUF file.
    """
    first = read_shard(open_source(path))
    return GGUFFile(complete(first) if whole else [first], decode)


class GGUFFile:
    """An open GGUF file: `metadata` and `tensors` at once, tensor data on request.

    Views from `raw` and `metadata` stay valid after `close`: they keep the memory map alive.
    """

    def __init__(self, shards: Sequence[Shard], decode: Decoder | None):
        """shards: one, or all of a split model in their order, whose first says everything."""
        header = shards[0].header
        self.path: str = shards[0].path
        self.shards: tuple[Shard, ...] = tuple(shards)
        self.size: int = sum(shard.nbytes for shard in shards)  # bytes
        self.alignment: int = header.alignment
        self.data_offset: int = header.data_offset  # absolute, bytes
        self.metadata: Metadata = header.metadata
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: info for shard in shards for name, info in shard.header.tensors.items()}
        )
        self._sources: tuple[Source, ...] | None = tuple(shard.source for shard in shards)
        self._decode = decode

    @property
    def layout(self) -> FileLayout:
        """Which bytes of the file, or of each file of a split model, are what."""
        return file_layout(self.shards)

    @property
    def version(self) -> int:
        """GGUF version: 1, 2 or 3."""
        return self.metadata.version

    @property
    def byte_order(self) -> str:
        """Byte order of all numbers in the file: "little" or "big"."""
        return self.metadata.byte_order

    def __enter__(self) -> "GGUFFile":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed, " if self._sources is None else ""
        n_shards, n_fetched = len(self.shards), self.n_fetched
        split = f" in {n_shards} files" if n_shards > 1 else ""
        fetched = "" if n_fetched is None else f", {n_fetched} of them fetched"
        return (
            f"GGUFFile({os.path.basename(self.path)!r}: {state}version {self.version}, "
            f"{len(self.metadata)} keys, {len(self.tensors)} tensors, {self.size} bytes"
            f"{split}{fetched})"
        )

    @property
    def n_fetched(self) -> int | None:
        """Bytes of a remote file that were sent so far; None for a local one."""
        counts = [getattr(shard.source, "n_fetched", None) for shard in self.shards]
        return None if None in counts else sum(counts)

    def close(self) -> None:
        """Let go of the tensor data; the map goes when the last view of it does."""
        for source in self._sources or ():
            source.close()
        self._sources = None

    def raw(self, name: str) -> np.ndarray:
        """The bytes of a tensor as they lie in the file.

        Returns: (*rows, bytes per row) uint8, a read-only view.
        Raises: ParameterError if there is no such tensor, GGUFError if the file is closed.
        """
        info = self._info(name)
        if self._sources is None:
            raise GGUFError(
                f"{self.path}: the file is closed; expected an open file to read tensor {name!r} "
                "from, got a closed one; open it again or read inside the `with` block"
            )
        row = GGML_TYPES[info.type].row_bytes(info.shape[-1] if info.shape else 1)
        source, stop = self._sources[info.shard], info.offset + info.nbytes
        source.fetch(info.offset, stop)
        flat = np.frombuffer(source.data, np.uint8)[info.offset : stop]
        return flat.reshape(*info.shape[:-1], row)

    def dequantize(self, name: str, rows: int | slice | None = None) -> np.ndarray:
        """The weights of a tensor as float32.

        rows: None for all, or an index or slice of the first axis (only these are decoded).
        Returns: float32, of the tensor's shape or of `tensor[rows]`.
        Raises: ParameterError for a wrong name or rows, GGUFError if the file is closed,
            UnsupportedError if the file was opened without a decoder.
        """
        info = self._info(name)
        if self._decode is None:
            raise UnsupportedError(
                f"{self.path}: opened without a decoder; expected one to dequantize tensor "
                f"{name!r}, got none; open the file with workbench.open_gguf"
            )
        raw, part = self.raw(name), _checked_rows(info, rows)
        if len(info.shape) < 2:  # its one axis lies inside the row: decode, then cut
            return self._decode(raw, info.type, self.byte_order).reshape(info.shape)[part]
        return self._decode(raw[part], info.type, self.byte_order)

    def _info(self, name: str) -> TensorInfo:
        info = self.tensors.get(name) if isinstance(name, str) else None
        if info is None:
            near = difflib.get_close_matches(str(name), self.tensors, n=3)
            advice = f"did you mean {' or '.join(near)}?" if near else "see .tensors for all names"
            raise ParameterError(
                f"{self.path}: no tensor {name!r}; expected one of its {len(self.tensors)} "
                f"tensors, got {name!r}; {advice}"
            )
        return info


def _checked_rows(info: TensorInfo, rows: int | slice | None) -> int | slice:
    """`rows` as an index that `info`'s first axis surely takes."""
    length = info.shape[0] if info.shape else 0
    try:
        if rows is None:
            return slice(None) if info.shape else ...
        if isinstance(rows, slice) and info.shape:
            rows.indices(length)  # raises for bounds that are no integers and for step 0
            return rows
        index = operator.index(rows)
    except (TypeError, ValueError):
        index = None
    if index is None or not -length <= index < length:
        raise ParameterError(
            f"rows of tensor {info.name!r}: not rows of it; expected None, a slice, or an index "
            f"from {-length} to {length - 1}, got {rows!r}; its shape is {info.shape}"
        )
    return index
