"""Parse everything in front of the tensor data, in one pass.

    "GGUF" | version | n_tensors | n_kv | n_kv x (key, type, value) | n_tensors x tensor info
    | zeros up to a multiple of general.alignment | tensor data …

Version 1 stores counts, lengths and dims in 32 bits, versions 2 and 3 in 64; a file is big-endian
if its version word is so.

Source: the GGUF specification (ggml/docs/gguf.md); `gguf_init_from_reader` in ggml/src/gguf.cpp.
Left out: rules that only llama.cpp has (contiguous tensors, no nested arrays, alignment a power of
two), which belong to validation; bytes behind the last tensor, which are ignored.
"""

from dataclasses import dataclass

from .cursor import REPAIR, Cursor
from .metadata import Layout, Metadata
from .source import Source
from .tensor_info import TensorInfo, place_tensors, read_tensor_infos
from .types import DEFAULT_ALIGNMENT, align_up
from .values import read_value

__all__ = ["Header", "parse_header"]


@dataclass(frozen=True)
class Header:
    """What `parse_header` found; offsets and sizes in bytes."""

    metadata: Metadata
    tensors: dict[str, TensorInfo]
    alignment: int
    pairs_offset: int  # of the first metadata pair
    infos_offset: int
    infos_end: int
    data_offset: int


def parse_header(source: Source, shard: int = 0) -> Header:
    """Read version, metadata and tensor infos of a file that starts with the magic bytes.

    source: the file (tensors are checked against its size); shard: which of a model's files it is.
    Raises: GGUFError naming the byte and the key or tensor.
    """
    data, cursor = source.data, Cursor(source)
    cursor.take(4, "magic")
    _read_version(cursor)
    # The smallest tensor info is an empty name, no dims, type and offset; the smallest pair an
    # empty key, a type and one byte.
    n_tensors = cursor.count("number of tensors", cursor.count_bytes + 16)
    n_kv = cursor.count("number of metadata pairs", cursor.count_bytes + 5)
    values, types, spans, pairs_offset = {}, {}, {}, cursor.pos
    for i in range(n_kv):
        _read_pair(cursor, f"metadata pair {i + 1} of {n_kv}", values, types, spans)
    alignment = _alignment(cursor, values, types, spans)
    infos_offset = cursor.pos
    infos = read_tensor_infos(cursor, n_tensors)
    data_offset = align_up(cursor.pos, alignment)
    tensors, end = place_tensors(cursor, infos, alignment, data_offset, shard)
    pads_end = len(data) >= (align_up(end, alignment) if infos else data_offset)
    layout = Layout(cursor.version, cursor.byte_order, bool(infos), pads_end)
    metadata = Metadata(values, types, spans, data, layout)
    places = (pairs_offset, infos_offset, cursor.pos, data_offset)
    return Header(metadata, tensors, alignment, *places)


def _read_version(cursor: Cursor) -> None:
    start = cursor.take(4, "version")
    word = bytes(cursor.data[start : start + 4])
    # A little-endian version below 65536 has zeros in its upper half, a big-endian one in the
    # half that comes first (gguf.cpp decides in the same way).
    cursor.byte_order = "big" if word[:2] == b"\0\0" else "little"
    cursor.version = int.from_bytes(word, cursor.byte_order)
    if cursor.version not in (1, 2, 3):
        cursor.fail(
            f"version not known; expected 1, 2 or 3, got {cursor.version}; "
            "the file is damaged, or newer than this program",
            start,
        )


def _read_pair(cursor: Cursor, place: str, values: dict, types: dict, spans: dict) -> None:
    cursor.item, start = place, cursor.pos
    key = cursor.string("key")
    if key in values:
        cursor.fail(
            f"key {key!r} comes twice; expected each key once, got a second value; "
            "remove one of them",
            start,
        )
    cursor.item, start = f"key {key!r}", cursor.pos
    values[key], types[key] = read_value(cursor)
    spans[key] = (start, cursor.pos)


def _alignment(cursor: Cursor, values: dict, types: dict, spans: dict) -> int:
    key = "general.alignment"
    if key not in values:
        return DEFAULT_ALIGNMENT
    cursor.item, start = f"key {key!r}", spans[key][0]
    if types[key] != "UINT32":
        cursor.fail(f"wrong type; expected UINT32, got {types[key]}; write it as UINT32", start)
    if values[key] == 0 or values[key] % 8:
        cursor.fail(
            f"not an alignment; expected a multiple of 8 above 0, got {values[key]}; {REPAIR}",
            start,
        )
    return values[key]
