"""Read one metadata value: a number, a string, or an array, which may hold arrays.

    type word | value          ARRAY: element type | count | elements

Arrays of numbers become views of the file, arrays of strings are found but not decoded.
Source: `gguf_metadata_value_t` in the GGUF specification (ggml/docs/gguf.md).
Left out: what llama.cpp alone refuses, such as arrays in arrays.
"""

from typing import Any

import numpy as np

from .cursor import REPAIR, Cursor
from .strings import StringArray, string_bounds
from .types import MAX_ARRAY_DEPTH, ValueType, array_of, value_dtype

__all__ = ["read_value"]


def read_value(cursor: Cursor) -> tuple[Any, str]:
    """A type word and its value; returns the value and the name of its type."""
    value_type = _value_type(cursor, "value type")
    if value_type == ValueType.ARRAY:
        return _read_array(cursor, 1)
    return _read_scalar(cursor, value_type), value_type.name


def _value_type(cursor: Cursor, what: str) -> ValueType:
    start = cursor.pos
    word = cursor.number(4, what)
    if word > max(ValueType):
        cursor.fail(f"{what} not known; expected 0 to 12, got {word}; {REPAIR}", start)
    return ValueType(word)


def _read_scalar(cursor: Cursor, value_type: ValueType) -> int | float | bool | str:
    if value_type == ValueType.STRING:
        return cursor.string("string")
    dtype = value_dtype(value_type, cursor.byte_order)
    start = cursor.take(dtype.itemsize, "value")
    if value_type == ValueType.BOOL:
        _check_bools(cursor, np.frombuffer(cursor.data, np.uint8, 1, start), start)
    return np.frombuffer(cursor.data, dtype, 1, start)[0].item()


def _check_bools(cursor: Cursor, array: np.ndarray, start: int) -> None:
    if array.size and array.max() > 1:
        first = int(np.argmax(array > 1))
        cursor.fail(
            f"byte is no truth value; expected 0 or 1, got {array[first]}; {REPAIR}", start + first
        )


def _read_array(cursor: Cursor, depth: int) -> tuple[Any, str]:
    """An array value after its type word, and the name of its type."""
    element = _value_type(cursor, "array element type")
    if element == ValueType.ARRAY:
        return _read_nested(cursor, depth)
    if element == ValueType.STRING:
        return _read_strings(cursor), array_of(element.name)
    dtype = value_dtype(element, cursor.byte_order)
    count = cursor.count("array length", dtype.itemsize)
    start = cursor.take(count * dtype.itemsize, "array")
    if element == ValueType.BOOL:
        _check_bools(cursor, np.frombuffer(cursor.data, np.uint8, count, start), start)
    return np.frombuffer(cursor.data, dtype, count, start), array_of(element.name)


def _read_strings(cursor: Cursor) -> StringArray:
    prefix = cursor.count_bytes
    count = cursor.count("array length", prefix)
    data = cursor.reach(cursor.pos + count * prefix)
    bounds = string_bounds(data, cursor.pos, count, prefix, cursor.byte_order)
    while isinstance(bounds, int) and len(data) < len(cursor.data):  # not all is there yet
        data = cursor.reach(len(data) + 1)
        bounds = string_bounds(data, cursor.pos, count, prefix, cursor.byte_order)
    if isinstance(bounds, int):
        cursor.fail(
            f"string {bounds} of an array passes the end of the file; expected {count} strings, "
            f"got {bounds}; {REPAIR}"
        )
    cursor.pos = int(bounds[-1])
    return StringArray(cursor.data, bounds, prefix)


def _read_nested(cursor: Cursor, depth: int) -> tuple[list, str]:
    if depth >= MAX_ARRAY_DEPTH:
        cursor.fail(
            f"arrays lie too deep in one another; expected at most {MAX_ARRAY_DEPTH} levels, "
            "got more; the file is damaged or hostile"
        )
    count = cursor.count("array length", cursor.count_bytes + 4)
    items = [_read_array(cursor, depth + 1) for _ in range(count)]
    inner = {type_name for _, type_name in items}
    # Where the inner arrays differ, each says its own type: "ARRAY[ARRAY]".
    return [value for value, _ in items], array_of(inner.pop() if len(inner) == 1 else "ARRAY")
