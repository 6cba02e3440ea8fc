"""Walk a file's header tolerantly: note what is wrong, go on as long as the next byte is known.

    open_gguf    stops at the first fault and says how to mend it
    walk_header  notes each fault and goes on; only what hides the next field ends the walk

It shares no parsing code with the reader, so that each checks the other: whatever the walk calls an
error under the profile "spec", the reader refuses, and nothing else (held by a test on mutations).

Source: the GGUF specification (ggml/docs/gguf.md); `gguf_init_from_reader` in ggml/src/gguf.cpp.
Left out: what keys and tensors mean (`rules_metadata.py`, `rules_tensors.py`).
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

import numpy as np

from .findings import Findings
from .strings import string_bounds
from .types import MAX_ARRAY_DEPTH, MAX_DIMS, ValueType, value_dtype

__all__ = ["TensorRecord", "ValueRecord", "Walk", "text_of", "walk_header"]

MOST_DIMS = 64  # beyond this a number of dims is noise, and the walk cannot go on
LLAMA_LIMIT = 2**30  # most bytes of a string and elements of an array in llama.cpp


@dataclass(frozen=True)
class ValueRecord:
    """One metadata pair as it lies in the file; offsets in bytes."""

    key: bytes
    start: int  # of the key's length
    value_start: int  # of the type word
    type: str  # "UINT32", "STRING", "ARRAY[FLOAT32]"
    value: object  # a number; None for strings and arrays
    array: tuple[int, int] | None = None  # first byte of an array's elements and their number


@dataclass(frozen=True)
class TensorRecord:
    """One tensor info as it lies in the file."""

    name: bytes
    start: int
    dims: tuple[int, ...]  # GGUF order
    type_id: int
    type_start: int
    offset: int  # from the start of the data


class WalkEndedError(Exception):
    """Damage after which no next field can be found."""


@dataclass
class Walk:
    """A file's bytes, the place reached, and the records found so far."""

    data: memoryview
    findings: Findings
    pos: int = 0
    place: str = "header"
    version: int = 3
    byte_order: str = "little"
    pairs: list[ValueRecord] = field(default_factory=list)
    infos: list[TensorRecord] = field(default_factory=list)
    complete: bool = False

    @property
    def count_bytes(self) -> int:
        """Bytes of a count, length or dim: 4 in version 1, 8 since."""
        return 4 if self.version == 1 else 8

    def note(self, rule: str, message: str, at: int | None = None) -> None:
        """Add a finding at the place and, unless told another byte, where the walk stands."""
        self.findings.add(rule, self.pos if at is None else at, self.place, message)

    def end(self, rule: str, message: str, at: int | None = None) -> NoReturn:
        """Add a finding after which nothing more can be found."""
        self.note(rule, f"{message}; the walk ends here", at)
        raise WalkEndedError

    def number(self, size: int, what: str) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size, what), self.byte_order)

    def take(self, size: int, what: str) -> memoryview:
        """The next `size` bytes."""
        start, left = self.pos, len(self.data) - self.pos
        if size > left:
            self.end("truncated", f"{what} needs {size} bytes, the file has {left} more")
        self.pos = start + size
        return self.data[start : self.pos]

    def count(self, what: str, item_bytes: int) -> int:
        """A number of items of at least `item_bytes` each, all of which must still fit."""
        start = self.pos
        n = self.number(self.count_bytes, what)
        most = (len(self.data) - self.pos) // item_bytes
        if n > most:
            self.end("count-too-large", f"{what} is {n}, the file can hold at most {most}", start)
        return n

    def string(self, what: str) -> memoryview:
        """A length and its bytes."""
        start = self.pos
        n = self.count(f"length of the {what}", 1)
        if n > LLAMA_LIMIT:
            self.note("string-limit", f"{what} has {n} bytes, llama.cpp takes 2^30", start)
        return self.take(n, what)


def text_of(raw: bytes) -> str:
    """A key or name for messages, as Python writes it, cut after 80 characters."""
    text = repr(raw.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 80 else f"{text[:76]}…'"


def walk_header(data: memoryview, findings: Findings) -> Walk:
    """Walk version, metadata and tensor infos of a file.

    Returns: the Walk, `complete` if it came to the last tensor info. Never raises for the bytes.
    """
    walk = Walk(data, findings)
    try:
        n_tensors, n_kv = _walk_start(walk)
        for i in range(n_kv):
            walk.place = f"metadata pair {i + 1} of {n_kv}"
            _walk_pair(walk)
        for i in range(n_tensors):
            walk.place = f"tensor info {i + 1} of {n_tensors}"
            _walk_info(walk)
        walk.place, walk.complete = "header", True
    except WalkEndedError:
        pass
    return walk


def _walk_start(walk: Walk) -> tuple[int, int]:
    """Magic, version and the two counts."""
    magic = bytes(walk.data[:4])
    if magic != b"GGUF":
        walk.end("magic", f"the file starts with {magic!r}, not with b'GGUF'")
    walk.pos = 4
    word = bytes(walk.take(4, "version"))
    walk.byte_order = "big" if word[:2] == b"\0\0" else "little"
    walk.version = int.from_bytes(word, walk.byte_order)
    if walk.version not in (1, 2, 3):
        walk.end("version-unknown", f"version {walk.version} is none of 1, 2 and 3", 4)
    if walk.byte_order == "big":
        walk.note("byte-order", "the file is big-endian, llama.cpp reads its host's order only", 4)
    elif walk.version == 1:
        walk.note("version-1", "version 1 has 32-bit counts, llama.cpp no longer reads it", 4)
    n_tensors = walk.count("number of tensors", walk.count_bytes + 16)
    return n_tensors, walk.count("number of metadata pairs", walk.count_bytes + 5)


def _walk_pair(walk: Walk) -> None:
    start = walk.pos
    key = bytes(walk.string("key"))
    walk.place, value_start = f"key {text_of(key)}", walk.pos
    kind = _value_type(walk, "value type")
    value, array = None, None
    if kind == ValueType.ARRAY:
        type_name, array = _walk_array(walk, 1)
    elif kind == ValueType.STRING:
        type_name = "STRING"
        _walk_text(walk)
    else:
        type_name, value = kind.name, _scalar(walk, kind)
    walk.pairs.append(ValueRecord(key, start, value_start, type_name, value, array))


def _value_type(walk: Walk, what: str) -> ValueType:
    start = walk.pos
    word = walk.number(4, what)
    if word > max(ValueType):
        walk.end("value-type-unknown", f"{what} is {word}, types are 0 to 12", start)
    return ValueType(word)


def _scalar(walk: Walk, kind: ValueType) -> int | float | bool:
    dtype, start = value_dtype(kind, walk.byte_order), walk.pos
    numbers = np.frombuffer(walk.take(dtype.itemsize, "value"), _stored(dtype))
    _check_numbers(walk, kind, numbers, start)
    return numbers[0].item()


def _stored(dtype: np.dtype) -> np.dtype:
    """Truth values as the bytes they are, so that a 2 stays a 2."""
    return np.dtype("u1") if dtype == np.bool_ else dtype


def _check_numbers(walk: Walk, kind: ValueType, numbers: np.ndarray, start: int) -> None:
    if kind == ValueType.BOOL:
        rule, wrong, what = "bool-value", numbers > 1, "truth values are neither 0 nor 1"
    elif numbers.dtype.kind == "f":
        rule, wrong, what = "float-not-finite", ~np.isfinite(numbers), "numbers are NaN or infinite"
    else:
        return
    if wrong.any():
        first = int(np.argmax(wrong))
        text = f"{int(wrong.sum())} of {len(numbers)} {what}, the first is {numbers[first]}"
        walk.note(rule, text, start + first * numbers.itemsize)


def _walk_text(walk: Walk) -> None:
    start, raw = walk.pos, walk.string("string")
    try:
        str(raw, "utf-8")
    except UnicodeDecodeError as error:
        walk.note("string-not-utf8", f"byte {error.start} of the string is no UTF-8", start)


def _walk_array(walk: Walk, depth: int) -> tuple[str, tuple[int, int]]:
    """An array after its type word: the name of its type, its first element's byte, its length."""
    kind = _value_type(walk, "array element type")
    if kind == ValueType.ARRAY:
        return _walk_nested(walk, depth)
    start, strings = walk.pos, kind == ValueType.STRING
    dtype = None if strings else value_dtype(kind, walk.byte_order)
    n = walk.count("array length", walk.count_bytes if strings else dtype.itemsize)
    if n > LLAMA_LIMIT:
        walk.note("array-limit", f"the array has {n} elements, llama.cpp takes 2^30", start)
    first = walk.pos
    if strings:
        _walk_strings(walk, n)
    else:
        piece = walk.take(n * dtype.itemsize, "array")
        _check_numbers(walk, kind, np.frombuffer(piece, _stored(dtype)), first)
    return f"ARRAY[{kind.name}]", (first, n)


def _walk_nested(walk: Walk, depth: int) -> tuple[str, tuple[int, int]]:
    if depth >= MAX_ARRAY_DEPTH:
        walk.end("array-too-deep", f"arrays lie in one another deeper than {MAX_ARRAY_DEPTH}")
    if depth == 1:
        walk.note("array-nested", "the array holds arrays, which llama.cpp does not read")
    n = walk.count("array length", walk.count_bytes + 4)
    first = walk.pos
    for _ in range(n):
        _walk_array(walk, depth + 1)
    return "ARRAY[ARRAY]", (first, n)


def _walk_strings(walk: Walk, n: int) -> None:
    start = walk.pos
    bounds = string_bounds(walk.data, start, n, walk.count_bytes, walk.byte_order)
    if isinstance(bounds, int):
        walk.end("truncated", f"string {bounds} of {n} in the array passes the end of the file")
    walk.pos = int(bounds[-1])
    wrong = [
        i
        for i, (field_at, end) in enumerate(pairwise(bounds.tolist()))
        if not _is_utf8(walk.data[field_at + walk.count_bytes : end])
    ]
    if wrong:
        text = f"{len(wrong)} of {n} strings are no UTF-8, the first is number {wrong[0]}"
        walk.note("string-not-utf8", text, int(bounds[wrong[0]]))


def _is_utf8(raw: memoryview) -> bool:
    try:
        str(raw, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _walk_info(walk: Walk) -> None:
    start = walk.pos
    name = bytes(walk.string("tensor name"))
    walk.place, dims_start = f"tensor {text_of(name)}", walk.pos
    n_dims = walk.number(4, "number of dims")
    if n_dims > MAX_DIMS:
        text = f"the tensor has {n_dims} dims, at most {MAX_DIMS} are allowed"
        if n_dims > MOST_DIMS:
            walk.end("too-many-dims", text, dims_start)
        walk.note("too-many-dims", text, dims_start)
    dims = tuple(walk.number(walk.count_bytes, "dim") for _ in range(n_dims))
    type_start = walk.pos
    type_id = walk.number(4, "tensor type")
    offset = walk.number(8, "offset")
    walk.infos.append(TensorRecord(name, start, dims, type_id, type_start, offset))
