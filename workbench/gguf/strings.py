"""Arrays of strings that stay in the file: found once, decoded when looked at.

    | length | bytes … | length | bytes … | length | bytes …
    ^bounds[0]         ^bounds[1]         ^bounds[2]         ^bounds[3] = end of the array

Each string's place depends on all lengths before it, so a plain walk is one Python step a string.
Vocabularies have some 10^5 strings, nearly all shorter than 256 bytes, whose length field therefore
is one byte and seven zeros, a pattern text does not contain. `string_bounds` finds all such places
of a window at once, keeps those that lead exactly to one another, and walks the rest.

Source: `gguf_string_t` in the GGUF specification (ggml/docs/gguf.md); the search is our own.
Left out: strings that stand alone, which the header parser reads itself.
"""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

__all__ = ["StringArray", "decode_text", "encode_text", "string_bounds"]

WINDOW = 1 << 18  # bytes searched at once: bounds the work beyond the end of the array
SHORT_RUN = 16  # fewer linked strings than this, and a jump cost more than it gained
PLAIN_STEPS = 512  # so many strings are then walked one by one before the next try


def decode_text(raw: bytes | memoryview) -> str:
    """Bytes of the file as text; a byte that is no UTF-8 becomes a lone surrogate U+DC80..DCFF.

    Nothing is lost: `encode_text(decode_text(raw)) == raw` for every `raw`.
    """
    return str(raw, "utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The inverse of `decode_text`."""
    return text.encode("utf-8", "surrogateescape")


def string_bounds(
    data: memoryview, start: int, count: int, prefix: int, byte_order: str
) -> np.ndarray | int:
    """Find where each of `count` consecutive strings begins, from `start` on.

    data: the file's bytes; prefix: bytes of a length field, 8 (or 4 in version 1).
    Returns: (count + 1,) int64 positions of the length fields and of the end; or, if a string
    reaches past the end of `data`, the int index of that string.
    """
    bounds = np.empty(count + 1, np.int64)
    bounds[0] = start
    done = 0  # strings whose end is known: bounds[: done + 1] is final
    while done < count:
        first = int(bounds[done])
        window = np.frombuffer(data[first : first + min(WINDOW, 64 * (count - done))], np.uint8)
        links = _links(window, prefix, byte_order)
        while done < count:
            run = _linked_run(links, int(bounds[done]) - first, count - done, len(window))
            bounds[done + 1 : done + 1 + len(run)] = run + first
            done += len(run)
            steps = min(count - done, PLAIN_STEPS if len(run) < SHORT_RUN else 1)
            walked = _walk(data, bounds, done, steps, prefix, byte_order)
            done += walked
            if walked < steps:
                return done
            if bounds[done] >= first + len(window):
                break
    return bounds


def _walk(
    data: memoryview, bounds: np.ndarray, done: int, steps: int, prefix: int, byte_order: str
) -> int:
    """Follow `steps` strings one by one; returns how many lie inside `data`."""
    pos, size = int(bounds[done]), len(data)
    found = []
    for _ in range(steps):
        text = pos + prefix
        pos = text + int.from_bytes(data[pos:text], byte_order)
        if text > size or pos > size:
            break
        found.append(pos)
    bounds[done + 1 : done + 1 + len(found)] = found
    return len(found)


def _links(
    window: np.ndarray, prefix: int, byte_order: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All places of a window that could be the length field of a string below 256 bytes.

        little   L 0 0 0 0 0 0 0 text      big   0 0 0 0 0 0 0 L text

    Returns: those places, the ends of their strings, and the indices k where the string at
    place k does not end at place k + 1.
    """
    zero = window == 0
    for step in (1, 2, 3) if prefix == 8 else (1, 1):  # runs of 2, 4, 7 zeros; or of 2, 3
        zero = zero[:-step] & zero[step:]
    little = byte_order == "little"
    fields = np.flatnonzero(zero[1:] if little else zero[:-1])
    ends = fields + prefix + window[fields if little else fields + prefix - 1]
    return fields, ends, np.flatnonzero(fields[1:] != ends[:-1])


def _linked_run(
    links: tuple[np.ndarray, np.ndarray, np.ndarray], pos: int, limit: int, size: int
) -> np.ndarray:
    """The ends of the strings from `pos` on that lead to one another inside a window of `size`."""
    fields, ends, breaks = links
    k = int(np.searchsorted(fields, pos))
    if k == len(fields) or fields[k] != pos:
        return ends[:0]
    at_break = int(np.searchsorted(breaks, k))
    last = int(breaks[at_break]) if at_break < len(breaks) else len(fields) - 1
    run = ends[k : min(last + 1, k + limit)]
    return run[: int(np.searchsorted(run, size, "right"))]


class StringArray(Sequence[str]):
    """A read-only sequence of the strings of one metadata array, decoded on access.

    Compares equal to any sequence of the same strings; slices are views. Bytes that are no UTF-8
    become lone surrogates (see `decode_text`); `raw_bytes(i)` gives the bytes as they are.
    """

    __slots__ = ("_data", "_ends", "_fields", "_prefix")
    __hash__ = None

    def __init__(self, data: memoryview, bounds: np.ndarray, prefix: int):
        """data: the file's bytes; bounds: (n + 1,) int64 from `string_bounds`."""
        self._data, self._prefix = data, prefix
        self._fields, self._ends = bounds[:-1], bounds[1:]

    def __len__(self) -> int:
        return len(self._fields)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "StringArray": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            part = StringArray.__new__(StringArray)
            part._data, part._prefix = self._data, self._prefix
            part._fields, part._ends = self._fields[index], self._ends[index]
            return part
        return decode_text(self.raw_bytes(index))

    def __iter__(self) -> Iterator[str]:
        for i in range(0, len(self), 4096):  # pieces, so that their copies stay small
            yield from self._decode(self._fields[i : i + 4096], self._ends[i : i + 4096])

    def _decode(self, fields: np.ndarray, ends: np.ndarray) -> list[str]:
        """Many strings at once; those that follow one another in the file in one go."""
        low = int(min(fields[0], fields[-1]))  # a slice may run backwards
        piece = bytes(self._data[low : int(max(ends[0], ends[-1]))])
        starts, stops = fields + (self._prefix - low), ends - low
        if np.array_equal(fields[1:], ends[:-1]):
            # length text length text …  ->  NUL text NUL text …
            marks, kept = np.frombuffer(bytearray(piece), np.uint8), np.ones(len(piece), bool)
            kept[(starts[:, None] - np.arange(2, self._prefix + 1)).ravel()] = False
            marks[starts - 1] = 0
            texts = marks[kept].tobytes().decode("utf-8", "surrogateescape").split("\0")
            if len(texts) == len(fields) + 1:  # no string has a NUL of its own
                return texts[1:]
        return [
            piece[start:stop].decode("utf-8", "surrogateescape")
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(ascii(text[:24]) for text in self[:3])
        return f"StringArray({len(self)}: {shown}{', …' if len(self) > 3 else ''})"

    def raw_bytes(self, index: int) -> bytes:
        """The bytes of string `index`, exactly as in the file."""
        return bytes(self._data[int(self._fields[index]) + self._prefix : int(self._ends[index])])
