"""`entry` compiles a function that others call, and keeps the machine code on disk.

numba takes up stored machine code again if the file of the entry itself has the same bytes: it
does not look at the files which that one imports, so an upgrade of the package could run old
code. Here the name under which the code is stored contains a hash of all that it is made of.

Source: numba/core/caching.py (the name of a stored file, its index and what stamps it).
Left out: removing the files of earlier versions, which go with the package's __pycache__.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from numba import njit

__all__ = ["entry"]


def _stamp() -> str:
    """A hash of the sources of this folder and of the levels that `decode` takes from `quants`."""
    here = Path(__file__).parent
    quants = here.parent.parent / "quants"
    sources = [*sorted(here.glob("*.py")), quants / "iq4.py", quants / "mx.py"]
    return sha256(b"".join(map(Path.read_bytes, sources))).hexdigest()[:12]


STAMP = _stamp()


def entry(function: Callable) -> Callable:
    """`function` compiled at its first call or loaded from disk; it runs without Python's lock."""
    function.__qualname__ += f"-{STAMP}"
    return njit(cache=True, nogil=True, error_model="numpy")(function)
