"""`entry` and `kernel` compile what is called from outside, and keep the machine code on disk.

numba takes up stored machine code again if the file of the entry itself has the same bytes: it
does not look at the files which that one imports, so an upgrade of the package could run old
code. Here the name under which the code is stored contains a hash of all that it is made of.

Source: numba/core/caching.py (the name of a stored file, its index and what stamps it).
Left out: removing the files of earlier versions, which go with the package's __pycache__.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import cfunc, njit, types

__all__ = ["compiled", "entry", "kernel"]


def _stamp() -> str:
    """A hash of the sources of this folder and of the levels that `decode` takes from `quants`."""
    here = Path(__file__).parent
    quants = here.parent.parent / "quants"
    sources = [*sorted(here.glob("*.py")), quants / "iq4.py", quants / "mx.py"]
    return sha256(b"".join(map(Path.read_bytes, sources))).hexdigest()[:12]


STAMP = _stamp()


def entry(function: Callable) -> Callable:
    """`function` compiled at its first call or loaded from disk; it runs without Python's lock."""
    return njit(cache=True, nogil=True, error_model="numpy")(kernel(function))


def kernel(function: Callable) -> Callable:
    """Name a function of one job's address as its machine code is to be stored."""
    function.__qualname__ += f"-{STAMP}"
    return function


@cache
def compiled(function: Callable) -> Any:
    """The machine code of a `kernel`, compiled or loaded from disk; `.address` is where it is."""
    return cfunc(types.void(types.int64), cache=True, error_model="numpy")(function)
