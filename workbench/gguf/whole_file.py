"""Write a file whole or not at all.

    out.gguf's folder:   .out.gguf.1a2b3c4d.part  ── all written ──▶  os.replace  ──▶  out.gguf

Until the last step the old file is untouched, even when it is the one being read.
Source: our own. Left out: what is in the file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ..errors import ParameterError

__all__ = ["whole_file"]


@contextmanager
def whole_file(path: str | os.PathLike, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends, and vanishes if it fails.

    durable: wait until it is on the disk. Raises: ParameterError for a place that cannot be
    written, or no path.
    """
    try:
        target = os.path.abspath(os.fsdecode(path))
        folder, name = os.path.split(target)
        if os.path.isdir(target):
            raise IsADirectoryError(0, "a directory")
        part = os.path.join(folder, f".{name[:200]}.{os.urandom(4).hex()}.part")
        file = open(part, "xb")
    except OSError as error:
        raise _unwritable(path, error) from None
    except (TypeError, ValueError):
        raise ParameterError(
            f"path: not a path; expected a string or Path, got {path!r}; give the file's path"
        ) from None
    try:
        with file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException as error:
        os.unlink(part)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _unwritable(path: str | os.PathLike, error: OSError) -> ParameterError:
    return ParameterError(
        f"{path}: cannot be written; expected a place for a new file, got {error.strerror}; "
        "check folder, permissions and free space"
    )
