"""Write a GGUF file: header, then one tensor after another, put in place only when complete.

Source: the GGUF specification (ggml/docs/gguf.md); padding as `gguf_write_out` in
ggml/src/gguf.cpp and gguf-py write it, so that equal content gives equal bytes.
Left out: changing a file in place, and turning the bytes of quantized tensors into the other byte
order: raw bytes are written as they are given.
"""

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError
from .encode import Encoding, encode_string, encode_value, infer_type
from .metadata import Metadata
from .tensor_info import TensorInfo
from .types import DEFAULT_ALIGNMENT, GGML_TYPES, MAX_DIMS, MAX_NAME_BYTES, align_up
from .whole_file import whole_file

__all__ = ["header_bytes", "write_gguf"]

RawTensor = tuple[np.ndarray | Callable[[], np.ndarray], str, tuple[int, ...]]

_TYPE_OF_DTYPE = {
    ("f", 4): "F32",
    ("f", 2): "F16",
    ("f", 8): "F64",
    ("i", 1): "I8",
    ("i", 2): "I16",
    ("i", 4): "I32",
    ("i", 8): "I64",
}


@dataclass(frozen=True)
class _Planned:
    """A tensor whose size is known; its data may not have been made yet."""

    name: str
    shape: tuple[int, ...]
    type: str
    nbytes: int
    data: np.ndarray | Callable[[], np.ndarray] | None


def write_gguf(
    path: str | os.PathLike,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray | RawTensor],
    *,
    types: Mapping[str, str] | None = None,
    version: int | None = None,
    byte_order: str | None = None,
    durable: bool = True,
) -> None:
    """Write a GGUF file, in the order of the two mappings, through a temporary file.

    metadata: key -> value. The `metadata` of an open file is repeated byte by byte. In a dict, a
        value is stored as its NumPy dtype; bool as BOOL, str and bytes as STRING, int as UINT32 if
        it fits (else INT32, INT64, UINT64), float as FLOAT32; a list of int as INT32 if all fit.
    tensors: name -> float or int array (F32 F16 F64 BF16 I8 … I64 by dtype), or (raw uint8 array of
        the stored bytes, type name, shape); raw may be a function without arguments, called when
        its turn comes, so that one tensor at a time needs memory.
    types: key -> type name that overrules the above, such as {"x": "UINT64", "y": "ARRAY[STRING]"};
        `dict(gguf.metadata)` with `types=gguf.metadata.types` edits a file and keeps its types.
    version, byte_order: default to those of `metadata` if it came from a file, else 3 and "little".
    durable: wait until the disk has all of it; False leaves that to the operating system, which is
        enough for a file that can be made again.
    Raises: ParameterError for what cannot be stored; nothing is left behind then.
    Source: gguf_write_out in ggml/src/gguf.cpp.
    """
    layout = metadata.layout if isinstance(metadata, Metadata) else None
    encoding = _encoding(layout, version, byte_order)
    alignment = _alignment(metadata, types or {})
    plan = [_plan(name, tensor) for name, tensor in tensors.items()]
    head = _header(metadata, types or {}, plan, encoding, alignment)
    pads_end = True
    if layout is not None and layout.has_tensors == bool(plan):
        pads_end = layout.pads_end
    with whole_file(path, durable) as file:
        file.write(head)
        if plan or pads_end:
            file.write(bytes(-len(head) % alignment))
        for tensor in plan:
            file.write(_stored_bytes(tensor, encoding.byte_order))
            if tensor is not plan[-1] or pads_end:
                file.write(bytes(-tensor.nbytes % alignment))


def _encoding(layout: Any, version: int | None, byte_order: str | None) -> Encoding:
    version = version if version is not None else layout.version if layout else 3
    byte_order = byte_order or (layout.byte_order if layout else "little")
    if version not in (1, 2, 3):
        raise ParameterError(f"version: not known; expected 1, 2 or 3, got {version!r}; use 3")
    if byte_order not in ("little", "big"):
        raise ParameterError(
            f"byte_order: not known; expected 'little' or 'big', got {byte_order!r}; use 'little'"
        )
    return Encoding(version, byte_order)


def _alignment(metadata: Mapping[str, Any], types: Mapping[str, str]) -> int:
    key = "general.alignment"
    if key not in metadata:
        return DEFAULT_ALIGNMENT
    value = metadata[key]
    known = metadata.types if isinstance(metadata, Metadata) else {}
    type_name = types.get(key) or known.get(key) or infer_type(value, f"metadata {key!r}")
    is_integer = isinstance(value, int | np.integer)
    if type_name != "UINT32" or not is_integer or value <= 0 or value % 8:
        raise ParameterError(
            f"metadata {key!r}: not an alignment; expected a multiple of 8 above 0 as UINT32, "
            f"got {value!r} as {type_name}; use {DEFAULT_ALIGNMENT}"
        )
    return int(value)


def _plan(name: str, tensor: np.ndarray | RawTensor) -> _Planned:
    place = f"tensor {name!r}"
    if not isinstance(name, str) or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise ParameterError(
            f"{place}: bad name; expected text of at most {MAX_NAME_BYTES} bytes, got {name!r}; "
            "shorten it"
        )
    if isinstance(tensor, tuple) and len(tensor) == 3:
        planned = _plan_raw(name, *tensor)
    else:
        planned = _plan_array(name, tensor)
    if len(planned.shape) > MAX_DIMS:
        raise ParameterError(
            f"{place}: too many axes; expected at most {MAX_DIMS}, got shape {planned.shape}; "
            "reshape it"
        )
    return planned


def _plan_array(name: str, array: Any) -> _Planned:
    dtype = getattr(array, "dtype", None)
    type_name = None
    if isinstance(array, np.ndarray):
        type_name = _TYPE_OF_DTYPE.get((dtype.kind, dtype.itemsize))
        if dtype.name == "bfloat16":  # ml_dtypes registers it with NumPy; no need to import it
            type_name = "BF16"
    if type_name is None:
        raise ParameterError(
            f"tensor {name!r}: no tensor type for it; expected an array of float16, float32, "
            "float64, bfloat16 or int8 to int64, or (raw uint8, type name, shape), got "
            f"{dtype or type(array).__name__}; convert it"
        )
    return _Planned(name, array.shape, type_name, array.nbytes, array)


def _plan_raw(name: str, raw: Any, type_name: str, shape: tuple[int, ...]) -> _Planned:
    place = f"tensor {name!r}"
    type_ = GGML_TYPES.get(type_name) if isinstance(type_name, str) else None
    if type_ is None:
        raise ParameterError(
            f"{place}: type not known; expected one of {', '.join(GGML_TYPES)}, got "
            f"{type_name!r}; see workbench.gguf.types.GGML_TYPES"
        )
    try:
        shape = tuple(operator.index(n) for n in shape)
    except TypeError:
        shape = (-1,)
    row = shape[-1] if shape else 1
    if min(shape, default=0) < 0 or row % type_.block_size:
        raise ParameterError(
            f"{place}: bad shape for {type_name}; expected non-negative integers, the last a "
            f"multiple of {type_.block_size}, got {shape}; give the shape in weights, rows first"
        )
    nbytes = math.prod(shape[:-1]) * type_.row_bytes(row)
    if not callable(raw):
        raw = _checked_raw(name, raw, nbytes)
    return _Planned(name, shape, type_name, nbytes, raw)


def _checked_raw(name: str, raw: Any, nbytes: int) -> np.ndarray:
    """Raw tensor bytes as an array, if they are bytes and as many as they should be."""
    if isinstance(raw, bytes | bytearray | memoryview):
        raw = np.frombuffer(raw, np.uint8)
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8 or raw.size != nbytes:
        got = f"{raw.size} of {raw.dtype}" if isinstance(raw, np.ndarray) else type(raw).__name__
        raise ParameterError(
            f"tensor {name!r}: raw data does not match type and shape; expected {nbytes} bytes of "
            f"uint8, got {got}; check the shape, or pass the float array itself"
        )
    return raw


def _header(
    metadata: Mapping[str, Any],
    types: Mapping[str, str],
    plan: list[_Planned],
    encoding: Encoding,
    alignment: int,
) -> bytes:
    """Everything up to the padding in front of the tensor data, tensors one after the other."""
    placed, offset = [], 0
    for tensor in plan:
        placed.append((tensor, offset))
        offset += align_up(tensor.nbytes, alignment)
    return _header_of(metadata, types, placed, encoding)


def _header_of(
    metadata: Mapping[str, Any],
    types: Mapping[str, str],
    placed: list[tuple[_Planned, int]],
    encoding: Encoding,
) -> bytes:
    """A header; placed: tensors and their offsets in the data."""
    parts = [b"GGUF", encoding.number(encoding.version, 4)]
    parts += [encoding.count(len(placed)), encoding.count(len(metadata))]
    for key in metadata:
        parts += _pair(key, metadata, types, encoding)
    for tensor, offset in placed:
        parts.append(encode_string(tensor.name, encoding, f"tensor {tensor.name!r}"))
        parts.append(encoding.number(len(tensor.shape), 4))
        parts += [encoding.count(n) for n in reversed(tensor.shape)]
        parts.append(encoding.number(GGML_TYPES[tensor.type].id, 4))
        parts.append(encoding.number(offset, 8))
    return b"".join(parts)


def header_bytes(metadata: Metadata, infos: Iterable[TensorInfo], data_offset: int) -> bytes:
    """The header of a file whose tensors stay where they are, without the padding behind it.

    metadata: of an open file or made of its parts; infos: with absolute offsets; data_offset: that
    of the tensor data.
    """
    encoding = _encoding(metadata.layout, None, None)
    plan = [
        (_Planned(info.name, info.shape, info.type, info.nbytes, None), info.offset - data_offset)
        for info in infos
    ]
    return _header_of(metadata, {}, plan, encoding)


def _pair(
    key: str, metadata: Mapping[str, Any], types: Mapping[str, str], encoding: Encoding
) -> list[bytes | memoryview]:
    """A key and its value; copied from the file that `metadata` is of, where it is of one."""
    place = f"metadata {key!r}"
    if not isinstance(key, str):
        raise ParameterError(f"{place}: bad key; expected str, got {type(key).__name__}; name it")
    named = types.get(key)
    if isinstance(metadata, Metadata):
        layout = metadata.layout
        same = Encoding(layout.version, layout.byte_order) == encoding
        if same and named in (None, metadata.types[key]):
            return [encode_string(key, encoding, place), metadata.raw(key)]
        named = named or metadata.types[key]
    return [
        encode_string(key, encoding, place),
        encode_value(metadata[key], named, encoding, place),
    ]


def _stored_bytes(tensor: _Planned, byte_order: str) -> np.ndarray:
    """A tensor's bytes as they go to the file: (nbytes,) uint8."""
    data = tensor.data
    if callable(data):
        data = _checked_raw(tensor.name, data(), tensor.nbytes)
    if data.dtype.name == "bfloat16":
        data = data.view(np.uint16)
    ordered = data.astype(data.dtype.newbyteorder("<>"[byte_order == "big"]), copy=False)
    return np.ascontiguousarray(ordered).reshape(-1).view(np.uint8)
