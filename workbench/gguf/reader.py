"""Open a GGUF file: the header parsed, the tensor data mapped and read when it is touched.

Source: the GGUF specification (ggml/docs/gguf.md).
Left out: split and remote files, and decoding: `dequantize` calls the decoder that the file was
opened with (layer 2 passes its own). A file that another program truncates while it is open here
ends the process with SIGBUS, as with every memory map.
"""

import difflib
import mmap
import operator
import os
import stat
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from ..errors import GGUFError, GGUFNotFoundError, ParameterError, UnsupportedError
from .header import Header, parse_header
from .metadata import Metadata
from .tensor_info import TensorInfo
from .types import GGML_TYPES

__all__ = ["GGUFFile", "open_gguf"]

Decoder = Callable[[np.ndarray, str, str], np.ndarray]  # raw, type name, byte order -> float32

# How files start that people open by mistake, and what to do about each.
_LOOK_ALIKES = (
    (b"version https://git-lfs", "it is a git-lfs pointer, not the model: run `git lfs pull`"),
    (b"PK\x03\x04", "it looks like a zip or PyTorch file: convert it to GGUF first"),
    (b"\x80\x02", "it looks like a Python pickle: convert it to GGUF first"),
    (b"\x1f\x8b", "it looks like a gzip file: unpack it first"),
    (b"lmgg", "it is a GGML file from before GGUF: convert it to GGUF first"),
    (b"fmgg", "it is a GGML file from before GGUF: convert it to GGUF first"),
    (b"tjgg", "it is a GGML file from before GGUF: convert it to GGUF first"),
    (b"<", "it looks like a web page: download the file itself"),
)


def open_gguf(path: str | os.PathLike, decode: Decoder | None = None) -> "GGUFFile":
    """Open the GGUF file at `path` for reading.

    decode: called as decode(raw uint8 (…, bytes), type name, byte order) -> float32 (…, n).
    Returns: GGUFFile, best used in a `with` statement.
    Raises: GGUFNotFoundError if there is no such file, GGUFError if it is no sound GGUF file.
    """
    name, data = _map_file(path)
    if len(data) == 0 or data[:4] != b"GGUF":
        raise GGUFError(
            f"{name}, byte 0: not a GGUF file; expected it to start with b'GGUF', "
            f"got {bytes(data[:4])!r}; {_hint(bytes(data[:64]))}"
        )
    return GGUFFile(name, parse_header(data, name), data, decode)


def _map_file(path: str | os.PathLike) -> tuple[str, memoryview]:
    """The file's name and its bytes as a read-only memory map."""
    try:
        name = os.fsdecode(path)
        kind = os.stat(name).st_mode
        if not stat.S_ISREG(kind):  # checked before opening, which would wait on a pipe
            what = "a directory" if stat.S_ISDIR(kind) else "a device or pipe"
            raise GGUFError(f"{name}: not a file; expected a .gguf file, got {what}; name the file")
        with open(name, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return name, memoryview(b"")
            return name, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise GGUFNotFoundError(
            f"{path}: no such file; expected a .gguf file, got nothing; check the path"
        ) from None
    except OSError as error:
        raise GGUFError(
            f"{path}: cannot be read; expected a readable file, got {error.strerror}; "
            "check the path and its permissions"
        ) from None
    except (TypeError, ValueError) as error:
        if isinstance(error, GGUFError):
            raise
        raise ParameterError(
            f"path: not a path; expected a string or Path, got {path!r}; give the file's path"
        ) from None


def _hint(start: bytes) -> str:
    """What a file that starts so probably is, and what to do."""
    if not start:
        return "the file is empty: download it again"
    for prefix, advice in _LOOK_ALIKES:
        if start.startswith(prefix):
            return advice
    if start[8:10] == b'{"':
        return "it looks like a safetensors file: convert it to GGUF first"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "it looks like a text file: check the path"
    return "check the path, or download the file again"


class GGUFFile:
    """An open GGUF file: `metadata` and `tensors` at once, tensor data on request.

    Views from `raw` and `metadata` stay valid after `close`: they keep the memory map alive.
    """

    def __init__(self, path: str, header: Header, data: memoryview, decode: Decoder | None):
        self.path: str = path
        self.size: int = len(data)  # bytes
        self.alignment: int = header.alignment
        self.data_offset: int = header.data_offset  # absolute, bytes
        self.metadata: Metadata = header.metadata
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(header.tensors)
        self._data: memoryview | None = data
        self._decode = decode

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
        state = "closed, " if self._data is None else ""
        return (
            f"GGUFFile({os.path.basename(self.path)!r}: {state}version {self.version}, "
            f"{len(self.metadata)} keys, {len(self.tensors)} tensors, {self.size} bytes)"
        )

    def close(self) -> None:
        """Let go of the tensor data; the map goes when the last view of it does."""
        self._data = None

    def raw(self, name: str) -> np.ndarray:
        """The bytes of a tensor as they lie in the file.

        Returns: (*rows, bytes per row) uint8, a read-only view.
        Raises: ParameterError if there is no such tensor, GGUFError if the file is closed.
        """
        info = self._info(name)
        if self._data is None:
            raise GGUFError(
                f"{self.path}: the file is closed; expected an open file to read tensor {name!r} "
                "from, got a closed one; open it again or read inside the `with` block"
            )
        row = GGML_TYPES[info.type].row_bytes(info.shape[-1] if info.shape else 1)
        flat = np.frombuffer(self._data, np.uint8)[info.offset : info.offset + info.nbytes]
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
