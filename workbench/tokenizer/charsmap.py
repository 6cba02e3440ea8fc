"""SentencePiece's precompiled character map: the longest entry wins, and is replaced.

    blob    n | units: n bytes, uint32 each | replacements, each ends with a NUL

    unit    31           10  9  8  7      0
            ┌──────────────┬──┬──┬────────┐    child of node s by byte c:  t = base(s) ^ c,
            │    offset    │e │L │ label  │    which counts if unit t has the label c
            └──────────────┴──┴──┴────────┘    base(s) = s ^ offset (<< 8 if e)
            L: an entry ends here; unit base(s) then is bit 31 and the place of its replacement

This is Darts-clone's double array. The blob is little-endian in every file, so it is read the same
on every machine.

Source: `llm_tokenizer_ugm`, `llama_vocab::impl::load` in llama.cpp src/llama-vocab.cpp; Kanda 2018,
"Space- and Time-Efficient String Dictionaries". Left out: making one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import GGUFError

__all__ = ["Charsmap", "load_charsmap"]

KEY = "tokenizer.ggml.precompiled_charsmap"
VALUE_BIT = 1 << 31
LABEL = VALUE_BIT | 0xFF
ENDS = 1 << 8


def load_charsmap(metadata: Mapping[str, Any]) -> "Charsmap | None":
    """Read the map of a file, None if it has none.

    Raises: GGUFError if it is not an array of bytes or shorter than it says.
    """
    if KEY not in metadata:
        return None
    blob = _bytes_of(metadata[KEY])
    if len(blob) < 4:
        raise GGUFError(f"tokenizer: {KEY} is too short; expected 4 bytes or more, got {len(blob)}")
    size = int.from_bytes(blob[:4], "little")
    if size + 4 >= len(blob):
        raise GGUFError(
            f"tokenizer: {KEY} announces {size} bytes of units and some of replacements; "
            f"expected them, got {len(blob) - 4} bytes in all"
        )
    units = np.frombuffer(blob, "<u4", size // 4, 4).astype(np.uint32)
    return Charsmap(units, blob[4 + size :])


def _bytes_of(value: Any) -> bytes:
    try:
        array = np.asarray(value)
        fits = array.ndim == 1 and array.dtype.kind in "iu"
        if fits and array.dtype.itemsize > 1:  # a list of numbers
            fits = not isinstance(value, np.ndarray) and 0 <= array.min() and array.max() < 256
    except (ValueError, TypeError, OverflowError):
        fits = False
    if not fits and not (isinstance(value, list | np.ndarray) and len(value) == 0):
        raise GGUFError(
            f"tokenizer: {KEY} has the wrong type; expected an array of bytes, "
            f"got {type(value).__name__}"
        )
    return array.astype(np.uint8).tobytes()


class Charsmap:
    """What becomes of the characters of a text before it is tokenized."""

    def __init__(self, units: np.ndarray, replacements: bytes):
        """units: (n,) uint32, the double array; replacements: bytes, each ends with a NUL."""
        self._table, self._replacements = units, replacements
        self._units = memoryview(units)  # indexing it is several times faster than the array

    def longest(self, raw: bytes, at: int) -> tuple[int, bytes] | None:
        """The longest entry that stands in `raw` at byte `at`: its length, and its replacement.

        Raises: GGUFError if the way to it leads out of the map.
        """
        if not self._units:
            return None
        units, n_units, found, place = self._units, len(self._units), 0, 0
        node = _offset(units[0])
        for end in range(at, len(raw)):
            byte = raw[end]
            if byte == 0:
                break
            node ^= byte
            if node >= n_units:
                raise self._damaged(f"unit {node} of {n_units}")
            unit = units[node]
            if unit & LABEL != byte:
                break
            node ^= _offset(unit)
            if unit & ENDS:
                if node >= n_units:
                    raise self._damaged(f"unit {node} of {n_units}")
                found, place = end + 1 - at, units[node] & ~VALUE_BIT
        return (found, self._replacement(place)) if found else None

    def children(self, node: int) -> dict[int, int]:
        """byte -> unit of every child of a node, -1 where the map is damaged; node: its base."""
        bytes_ = np.arange(1, 256)
        units = node ^ bytes_
        inside = units < len(self._table)
        labels = self._table[np.where(inside, units, 0)] & LABEL
        here = ~inside | (labels == bytes_)
        found = np.where(inside, units, -1)[here]
        return dict(zip(bytes_[here].tolist(), found.tolist(), strict=True))

    def first_bytes(self) -> tuple[set[int], set[int], set[int]]:
        """What is known of entries by their first byte.

        Returns: (bytes that begin an entry, those that are one by themselves or damaged, bytes
        that come second after an ASCII byte).
        """
        if not self._units:
            return set(), set(), set()
        begin = self.children(_offset(self._units[0]))
        whole = {byte for byte, unit in begin.items() if unit < 0 or self._units[unit] & ENDS}
        second = set()
        for byte, unit in begin.items():
            if byte < 128 and unit >= 0:
                second.update(self.children(unit ^ _offset(self._units[unit])))
        return set(begin), whole, second

    def may_continue_with(self, byte: int) -> bool:
        """Whether some entry may have this byte after its first."""
        if not self._units:
            return False
        table = self._table.astype(np.int64)
        labelled = np.flatnonzero(table & LABEL == byte)
        number = np.arange(len(table))
        bases = number ^ ((table >> 10) << ((table & 0x200) >> 6))
        inner = bases[(number > 0) & (table & VALUE_BIT == 0)]
        return bool(np.isin(labelled ^ byte, inner).any())

    def _replacement(self, place: int) -> bytes:
        end = self._replacements.find(b"\0", place)
        if end < 0:
            raise self._damaged(f"byte {place} of {len(self._replacements)} bytes of replacements")
        return self._replacements[place:end]

    def _damaged(self, what: str) -> GGUFError:
        return GGUFError(
            f"tokenizer: {KEY} leads to {what}; expected a place inside the map; get the file anew"
        )


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 0x200) >> 6)
