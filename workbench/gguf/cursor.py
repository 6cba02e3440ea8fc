"""A place in a file's bytes that moves forward, never past the end, and complains precisely.

A count is compared with the bytes that are left before anything is made of it, so time and memory
are bounded by the file's size whatever it announces.

Source: `gguf_reader` in ggml/src/gguf.cpp for the checks.
Left out: what the bytes mean.
"""

from typing import NoReturn

from ..errors import GGUFError
from .source import Source
from .strings import decode_text

__all__ = ["REPAIR", "Cursor"]

REPAIR = "the file is damaged or was not fully downloaded: fetch it again"


class Cursor:
    """A place in the file's bytes that moves forward and never past the end."""

    def __init__(self, source: Source):
        self.data, self.path = source.data, source.path
        self._source, self._have = source, 0
        self.pos = 0
        self.item = "header"  # what is being read, for messages: a key, a tensor
        self.byte_order = "little"
        self.version = 3

    def fail(self, problem: str, pos: int | None = None) -> NoReturn:
        """Raise GGUFError that names the file, the byte and the item."""
        at = self.pos if pos is None else pos
        raise GGUFError(f"{self.path}, byte {at}, {self.item}: {problem}")

    def take(self, n: int, what: str) -> int:
        """Step over `n` bytes; returns where they start."""
        start, left = self.pos, len(self.data) - self.pos
        if n > left:
            self.fail(
                f"{what} passes the end of the file; expected {n} bytes, got {left}; {REPAIR}"
            )
        self.pos = start + n
        self.reach(self.pos)
        return start

    def reach(self, stop: int) -> memoryview:
        """The file's bytes from the start, up to `stop` or farther: what of them is there."""
        if stop > self._have:
            self._have = self._source.reach(stop)
        return self.data[: self._have]

    def number(self, size: int, what: str) -> int:
        """An unsigned number of `size` bytes."""
        start = self.take(size, what)
        return int.from_bytes(self.data[start : start + size], self.byte_order)

    @property
    def count_bytes(self) -> int:
        """Bytes of a count, length or dim: 4 in version 1, 8 since."""
        return 4 if self.version == 1 else 8

    def count(self, what: str, item_bytes: int) -> int:
        """A number of items of at least `item_bytes` each, all of which must still fit."""
        start = self.pos
        n = self.number(self.count_bytes, what)
        left = len(self.data) - self.pos
        if n * item_bytes > left:
            self.fail(
                f"{what} {n} is more than the file can hold; expected at most "
                f"{left // item_bytes} ({left} bytes are left), got {n}; {REPAIR}",
                start,
            )
        return n

    def string(self, what: str) -> str:
        """A length and its bytes, as text."""
        n = self.count(f"length of the {what}", 1)
        start = self.take(n, what)
        return decode_text(self.data[start : start + n])
