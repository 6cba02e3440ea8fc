"""Python values as the bytes of GGUF metadata.

    type word | number                              UINT32  7        04000000 07000000
    type word | length | bytes                      STRING  "hi"     08000000 0200000000000000 6869
    type word | element type | count | elements     ARRAY   of the above without their type words

A value's type is the one named for it, else its NumPy dtype, else the smallest that llama.cpp
expects of such a value: non-negative int UINT32, float FLOAT32, list of ints INT32.

Source: the GGUF specification (ggml/docs/gguf.md).
Left out: which type a particular key should have; that is the caller's knowledge.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..errors import ParameterError
from .strings import StringArray, encode_text
from .types import MAX_ARRAY_DEPTH, ValueType, array_of, element_of, value_dtype

__all__ = ["Encoding", "encode_string", "encode_value", "infer_type"]

_TYPE_OF_DTYPE = {
    (dtype.kind, dtype.itemsize): value_type.name
    for value_type in ValueType
    if (dtype := value_dtype(value_type, "little")) is not None
}
_SCALAR_NAMES = frozenset(_TYPE_OF_DTYPE.values()) | {"STRING"}


@dataclass(frozen=True)
class Encoding:
    """How numbers are written: the file's version and byte order."""

    version: int
    byte_order: str

    def number(self, value: int, size: int) -> bytes:
        """An unsigned number in `size` bytes."""
        return value.to_bytes(size, self.byte_order)

    def count(self, value: int) -> bytes:
        """A count, length or dim: 32 bits in version 1, 64 since."""
        if self.version == 1 and value >= 2**32:
            raise ParameterError(
                f"version 1: a count does not fit; expected less than 2^32, got {value}; "
                "write version 3"
            )
        return self.number(value, 4 if self.version == 1 else 8)


def encode_string(text: str | bytes, encoding: Encoding, place: str) -> bytes:
    """Length and bytes of a string."""
    try:
        raw = bytes(text) if isinstance(text, bytes) else encode_text(text)
    except UnicodeEncodeError:
        _refuse(place, "text has no UTF-8 form", "text without lone surrogates", text)
    return encoding.count(len(raw)) + raw


def encode_value(value: Any, type_name: str | None, encoding: Encoding, place: str) -> bytes:
    """Type word and bytes of a metadata value.

    type_name: such as "UINT64" or "ARRAY[STRING]", or None to infer it; place: for messages.
    Raises: ParameterError if the value has no such type, or none at all.
    """
    type_name = infer_type(value, place) if type_name is None else type_name
    if not isinstance(type_name, str):
        _refuse(place, "bad type name", "a name such as UINT32 or STRING", type_name)
    if type_name.startswith("ARRAY"):
        body = _encode_array(value, element_of(type_name), encoding, place)
        return encoding.number(ValueType.ARRAY, 4) + body
    if type_name not in _SCALAR_NAMES:
        _refuse(place, "metadata type not known", "a name such as UINT32 or STRING", type_name)
    word = encoding.number(ValueType[type_name], 4)
    if type_name == "STRING":
        if not isinstance(value, str | bytes):
            _refuse(place, "not a STRING", "str or bytes", value)
        return word + encode_string(value, encoding, place)
    if isinstance(value, Sequence | np.ndarray) and np.ndim(value) > 0:
        _refuse(place, f"not a {type_name}", "one number", value)
    return word + _numbers([value], type_name, encoding, place).tobytes()


def infer_type(value: Any, place: str, depth: int = 0) -> str:
    """The type a value is stored as when none is named for it.

    Raises: ParameterError for a value that GGUF has no type for, and for an empty list.
    """
    if isinstance(value, str | bytes):
        return "STRING"
    if isinstance(value, StringArray):
        return array_of("STRING")
    if isinstance(value, np.ndarray) and value.ndim:
        name = _dtype_name(value, place)
        for _ in range(value.ndim):
            name = array_of(name)
        return name
    if isinstance(value, np.generic | np.ndarray):
        return _dtype_name(value, place)
    if isinstance(value, Sequence):
        return array_of(_infer_element(value, place, depth))
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, float):
        return "FLOAT32"
    if isinstance(value, int):
        return _integer_type(value, value, ("UINT32", "INT32", "INT64", "UINT64"), place)
    _refuse(place, "no GGUF type for it", "bool, int, float, str or a list of one of them", value)


def _infer_element(value: Sequence, place: str, depth: int) -> str:
    if len(value) == 0:
        _refuse(place, "an empty list has no type", "a typed array, or a type named for it", value)
    if depth >= MAX_ARRAY_DEPTH:
        _refuse(place, "lists lie too deep in one another", f"{MAX_ARRAY_DEPTH} levels", value)
    kinds = {type(item) for item in value}
    if all(issubclass(kind, str | bytes) for kind in kinds):
        return "STRING"
    if all(issubclass(kind, np.generic) for kind in kinds) and len(kinds) == 1:
        return _dtype_name(value[0], place)
    if kinds <= {bool, np.bool_}:
        return "BOOL"
    if all(issubclass(kind, Sequence | np.ndarray) for kind in kinds - {str, bytes}):
        return _infer_inner(value, place, depth)
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        numbers = [operator.index(item) for item in value]
        return _integer_type(min(numbers), max(numbers), ("INT32", "INT64", "UINT64"), place)
    if all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds):
        return "FLOAT32"
    _refuse(place, "list of mixed kinds", "numbers only, strings only or lists only", value)


def _infer_inner(value: Sequence, place: str, depth: int) -> str:
    """The type that all inner arrays share, which empty lists then have too; else "ARRAY"."""
    empty = [item for item in value if isinstance(item, list | tuple) and not item]
    typed = [item for item in value if not (isinstance(item, list | tuple) and not item)]
    inner = {infer_type(item, place, depth + 1) for item in typed}
    if not all(name.startswith("ARRAY") for name in inner):
        _refuse(place, "list of mixed kinds", "numbers only, strings only or lists only", value)
    if len(inner) == 1:
        return inner.pop()
    if empty:
        _refuse(place, "an empty list has no type", "a typed array, or a type named for it", value)
    return "ARRAY"


def _integer_type(low: int, high: int, names: tuple[str, ...], place: str) -> str:
    """The first of `names` that holds both numbers."""
    for name in names:
        info = np.iinfo(value_dtype(ValueType[name], "little"))
        if info.min <= low and high <= info.max:
            return name
    _refuse(place, "integer too large", "a range of 64 bits", (low, high) if low != high else low)


def _dtype_name(value: np.ndarray | np.generic, place: str) -> str:
    name = _TYPE_OF_DTYPE.get((value.dtype.kind, value.dtype.itemsize))
    if value.dtype.kind in "US":
        return "STRING"
    if name is None:
        _refuse(place, "no GGUF type for this dtype", "8 to 64 bit numbers or bool", value.dtype)
    return name


def _encode_array(value: Any, element: str | None, encoding: Encoding, place: str) -> bytes:
    """Element type, count and elements; `element` None: as the elements say."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        _refuse(place, "not an array", "a list or a NumPy array", value)
    if element is None:
        # Every empty array that was read has a type of its own, but for an array of arrays.
        element = element_of(infer_type(value, place)) if len(value) else "ARRAY"
    if element.startswith("ARRAY"):
        word, inner = ValueType.ARRAY, element_of(element)
        body = b"".join(_encode_array(item, inner, encoding, place) for item in value)
    elif element == "STRING":
        word = ValueType.STRING
        if not all(isinstance(item, str | bytes) for item in value):
            _refuse(place, "not an array of strings", "str or bytes only", value)
        body = b"".join(encode_string(item, encoding, place) for item in value)
    elif element in _SCALAR_NAMES:
        word = ValueType[element]
        body = _numbers(value, element, encoding, place).tobytes()
    else:
        _refuse(place, "array element type not known", "a name such as INT32", element)
    return encoding.number(word, 4) + encoding.count(len(value)) + body


def _numbers(
    value: Sequence | np.ndarray, type_name: str, encoding: Encoding, place: str
) -> np.ndarray:
    """(n,) array of the type's dtype in the file's byte order; refuses what would not fit."""
    target = value_dtype(ValueType[type_name], encoding.byte_order)
    shown = value[0] if len(value) == 1 else value
    try:
        source = np.asarray(value) if len(value) else np.empty(0, target)
        if target.kind in "iu" and source.dtype.kind in "fO":  # 2^63 makes NumPy give up on ints
            source = np.array([operator.index(item) for item in value], object)
    except (TypeError, ValueError, OverflowError):
        source = np.empty((0, 0))
    wanted = {"b": "b", "u": "iuO", "i": "iuO", "f": "iuf"}[target.kind]
    if source.ndim != 1 or source.dtype.kind not in wanted:
        _refuse(place, f"not {type_name}", f"values that fit {type_name}", shown)
    if target.kind in "iu" and source.size:
        info = np.iinfo(target)
        if int(source.min()) < info.min or int(source.max()) > info.max:
            _refuse(place, f"does not fit {type_name}", f"{info.min} to {info.max}", shown)
    with np.errstate(over="ignore"):
        result = source.astype(target)
    if target.kind == "f" and not np.array_equal(np.isfinite(source), np.isfinite(result)):
        _refuse(place, f"does not fit {type_name}", "a smaller number or np.float64", shown)
    return result


def _refuse(place: str, problem: str, expected: str, got: Any) -> NoReturn:
    shown = repr(got) if len(repr(got)) <= 60 else f"{type(got).__name__} {repr(got)[:50]}…"
    raise ParameterError(
        f"{place}: {problem}; expected {expected}, got {shown}; "
        "change the value, or name its type in `types`"
    )
