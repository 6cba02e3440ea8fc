"""Tensor infos: read them, check them, and find their data in the file.

    name | n_dims | dims, the fastest varying first | type id | offset from the start of the data

Source: `gguf_tensor_info_t` in the GGUF specification (ggml/docs/gguf.md), `gguf_init_from_reader`
in ggml/src/gguf.cpp. Left out: llama.cpp's rule that tensors lie in order without gaps.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from .cursor import REPAIR, Cursor
from .types import (
    GGML_TYPES,
    GGML_TYPES_BY_ID,
    MAX_DIMS,
    MAX_NAME_BYTES,
    GGMLType,
)

__all__ = ["TensorInfo", "place_tensors", "read_tensor_infos"]

LARGEST = 2**63  # sizes are signed 64-bit numbers in ggml and NumPy


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: shape in NumPy order (rows first), type name, size and place in the file."""

    name: str
    shape: tuple[int, ...]
    type: str
    nbytes: int
    offset: int  # absolute, in bytes from the start of the file
    shard: int = 0  # which of the files of a split model

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage per weight, scales included."""
        return GGML_TYPES[self.type].bits_per_weight


def read_tensor_infos(cursor: Cursor, n: int) -> dict[str, tuple[int, TensorInfo]]:
    """Name -> byte of the info in the file, and the info with its offset still relative."""
    infos: dict[str, tuple[int, TensorInfo]] = {}
    for i in range(n):
        cursor.item, start = f"tensor info {i + 1} of {n}", cursor.pos
        name = cursor.string("tensor name")
        if cursor.pos - start - cursor.count_bytes > MAX_NAME_BYTES:
            cursor.fail(
                f"tensor name too long; expected at most {MAX_NAME_BYTES} bytes, "
                f"got {cursor.pos - start - cursor.count_bytes}; {REPAIR}",
                start,
            )
        if name in infos:
            cursor.fail(
                f"tensor {name!r} comes twice; expected each name once, got it again; "
                "rename one of them",
                start,
            )
        infos[name] = (start, _read_tensor(cursor, name))
    return infos


def _read_tensor(cursor: Cursor, name: str) -> TensorInfo:
    """A tensor info after its name."""
    cursor.item, start = f"tensor {name!r}", cursor.pos
    n_dims = cursor.number(4, "number of dims")
    if n_dims > MAX_DIMS:
        cursor.fail(f"too many dims; expected at most {MAX_DIMS}, got {n_dims}; {REPAIR}", start)
    start = cursor.pos
    dims = [cursor.number(cursor.count_bytes, "dim") for _ in range(n_dims)]
    if math.prod(max(dim, 1) for dim in dims) * 8 >= LARGEST:
        cursor.fail(f"dims overflow; expected fewer than 2^60 weights, got {dims}; {REPAIR}", start)
    start = cursor.pos
    type_id = cursor.number(4, "tensor type")
    type_ = GGML_TYPES_BY_ID.get(type_id)
    if type_ is None:
        cursor.fail(
            f"tensor type not known; expected one of {len(GGML_TYPES)} ids from 0 to "
            f"{max(GGML_TYPES_BY_ID)}, got {type_id}; the file is damaged, or newer than this "
            "program, or uses a type that ggml has removed",
            start,
        )
    shape = tuple(reversed(dims))  # GGUF lists the dim that varies fastest first, NumPy last
    return TensorInfo(
        name, shape, type_.name, _tensor_bytes(cursor, shape, type_), cursor.number(8, "offset")
    )


def _tensor_bytes(cursor: Cursor, shape: tuple[int, ...], type_: GGMLType) -> int:
    row = shape[-1] if shape else 1
    if row % type_.block_size:
        cursor.fail(
            f"row of {row} weights cannot be {type_.name}; expected a multiple of "
            f"{type_.block_size}, got {row}; {REPAIR}"
        )
    return math.prod(shape[:-1]) * type_.row_bytes(row)


def place_tensors(
    cursor: Cursor,
    infos: dict[str, tuple[int, TensorInfo]],
    alignment: int,
    data_offset: int,
    shard: int = 0,
) -> tuple[dict[str, TensorInfo], int]:
    """Tensors with absolute offsets, all inside the file and apart; and where the last one ends."""
    tensors, size = {}, len(cursor.data)
    for name, (start, info) in infos.items():
        cursor.item = f"tensor {name!r}"
        if info.offset % alignment:
            cursor.fail(
                f"offset not aligned; expected a multiple of {alignment}, got {info.offset}; "
                f"{REPAIR}",
                start,
            )
        placed = replace(info, offset=data_offset + info.offset, shard=shard)
        if placed.offset + placed.nbytes > size:
            cursor.fail(
                f"data passes the end of the file; expected {placed.nbytes} bytes from byte "
                f"{placed.offset} on, got a file of {size}; {REPAIR}",
                start,
            )
        tensors[name] = placed
    by_offset = sorted((t for t in tensors.values() if t.nbytes), key=lambda t: t.offset)
    for before, after in pairwise(by_offset):
        if before.offset + before.nbytes > after.offset:
            cursor.item = f"tensor {after.name!r}"
            cursor.fail(
                f"data overlaps tensor {before.name!r}; expected it from byte "
                f"{before.offset + before.nbytes} on, got {after.offset}; {REPAIR}",
                infos[after.name][0],
            )
    end = max((t.offset + t.nbytes for t in tensors.values()), default=data_offset)
    return tensors, end
