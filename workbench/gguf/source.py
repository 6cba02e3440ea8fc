"""Where a file's bytes come from: a memory map of a local file, or ranges of a remote one.

    FileSource    all bytes are there: the map reads them when they are touched
    remote.py     bytes are fetched before they are touched, and kept

Source: our own. Left out: what the bytes mean.
"""

import mmap
import os
import stat
from typing import Protocol

from ..errors import GGUFError, GGUFNotFoundError, ParameterError

__all__ = ["FileSource", "Source", "map_file", "not_gguf_hint"]

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


class Source(Protocol):
    """A file's name, its size in bytes, and its bytes as one read-only view."""

    path: str
    data: memoryview

    def reach(self, stop: int) -> int:
        """Have at least the bytes before `stop`; returns how many from the start are there."""
        ...

    def fetch(self, start: int, stop: int) -> None:
        """Have these bytes."""
        ...

    def close(self) -> None:
        """Let go of what fetches; bytes that are there stay while anyone looks at them."""
        ...


class FileSource:
    """A local file, mapped."""

    def __init__(self, path: str | os.PathLike):
        """Raises: GGUFNotFoundError, GGUFError, ParameterError."""
        self.path, self.data = map_file(path)

    def reach(self, stop: int) -> int:
        """All bytes are there."""
        return len(self.data)

    def fetch(self, start: int, stop: int) -> None:
        """The map reads what is touched."""

    def close(self) -> None:
        """Nothing: the map goes when the last view of it does."""


def map_file(path: str | os.PathLike) -> tuple[str, memoryview]:
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


def not_gguf_hint(start: bytes) -> str:
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
