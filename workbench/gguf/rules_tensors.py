"""Rules on tensors: names, dims, types, and where their data lies.

    | infos | zeros | tensor a | zeros | tensor b | zeros |  trailing bytes
                    ^ data_offset      ^ a multiple of the alignment

Source: the GGUF specification (ggml/docs/gguf.md); `gguf_init_from_reader` in ggml/src/gguf.cpp,
`llama_tensor_weight` in src/llama-model-loader.h.
Left out: what lies in the data (`workbench.quants.validate_data`).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from .tensor_info import LARGEST
from .types import GGML_TYPES_BY_ID, MAX_DIMS, MAX_NAME_BYTES, align_up
from .walk import TensorRecord, Walk, text_of

__all__ = ["PlacedTensor", "check_tensors"]

MAX_PADDING = 1 << 20  # bytes between tensors that are looked at for zeros; more is a gap


@dataclass(frozen=True)
class PlacedTensor:
    """A tensor of known size, wherever its data may lie."""

    info: TensorRecord
    type: str
    start: int  # absolute, bytes
    nbytes: int

    @property
    def end(self) -> int:
        """First byte behind the data."""
        return self.start + self.nbytes


def check_tensors(walk: Walk, alignment: int) -> list[PlacedTensor]:
    """Apply every rule on tensors; returns those whose data lies inside the file."""
    names: dict[bytes, int] = {}
    sizes = []
    for info in walk.infos:
        walk.place = f"tensor {text_of(info.name)}"
        _check_name(walk, info, names)
        sizes.append((info, _checked_size(walk, info)))
    if not walk.complete:
        return []
    data_offset = align_up(walk.pos, alignment)
    placed = _place(walk, sizes, alignment, data_offset)
    _check_order(walk, sizes, alignment)
    _check_apart(walk, placed)
    _check_rest(walk, placed, alignment)
    return [tensor for tensor in placed if tensor.end <= len(walk.data)]


def _check_name(walk: Walk, info: TensorRecord, names: dict[bytes, int]) -> None:
    name, at = info.name, info.start
    if name in names:
        text = f"the name comes twice, first at byte {names[name]}"
        walk.note("tensor-duplicate", text, at)
    names.setdefault(name, at)
    if not name:
        walk.note("tensor-name-empty", "the tensor has no name", at)
    if len(name) > MAX_NAME_BYTES:
        text = f"the name has {len(name)} bytes, at most {MAX_NAME_BYTES} are allowed"
        walk.note("tensor-name-too-long", text, at)
    elif len(name) == MAX_NAME_BYTES:
        walk.note("tensor-name-64", "the name has 64 bytes, llama.cpp takes at most 63", at)
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        walk.note("tensor-name-not-utf8", "the name is no UTF-8", at)


def _checked_size(walk: Walk, info: TensorRecord) -> int | None:
    """Bytes of a tensor's data, None where dims or type leave them unknown."""
    dims, at = info.dims, info.start
    if 0 in dims:
        walk.note("dim-zero", f"dims {list(dims)} make an empty tensor", at)
    if math.prod(max(dim, 1) for dim in dims) * 8 >= LARGEST:
        walk.note("dims-overflow", f"dims {list(dims)} make 2^60 weights or more", at)
    if not _countable(dims):
        text = f"the number of weights of dims {list(dims)} is no signed 64-bit number"
        walk.note("dims-not-countable", text, at)
    type_ = GGML_TYPES_BY_ID.get(info.type_id)
    if type_ is None:
        walk.note(
            "tensor-type-unknown", f"no tensor type has the id {info.type_id}", info.type_start
        )
        return None
    row = dims[0] if dims else 1
    if row % type_.block_size:
        text = f"rows of {row} weights are no whole blocks of {type_.name}'s {type_.block_size}"
        walk.note("row-not-whole-blocks", text, at)
        return None
    return math.prod(dims[1:]) * type_.row_bytes(row)


def _countable(dims: tuple[int, ...]) -> bool:
    """Whether llama.cpp's check, dim by dim, lets the number of weights pass."""
    if any(dim >= LARGEST for dim in dims):
        return False
    n = dims[0] if dims else 1
    for dim in dims[1:MAX_DIMS]:
        if dim > 1 and (LARGEST - 1) // dim < n:
            return False
        n *= dim
    return True


def _place(
    walk: Walk, sizes: list[tuple[TensorRecord, int | None]], alignment: int, data_offset: int
) -> list[PlacedTensor]:
    """The tensors of known size, each checked against the alignment and the end of the file."""
    placed, size = [], len(walk.data)
    for info, nbytes in sizes:
        walk.place = f"tensor {text_of(info.name)}"
        if info.offset % alignment:
            text = f"the offset {info.offset} is no multiple of the alignment {alignment}"
            walk.note("offset-unaligned", text, info.start)
        if nbytes is None:
            continue
        type_ = GGML_TYPES_BY_ID[info.type_id].name
        tensor = PlacedTensor(info, type_, data_offset + info.offset, nbytes)
        placed.append(tensor)
        if tensor.end > size:
            text = f"{nbytes} bytes from byte {tensor.start} on pass the end of the file at {size}"
            walk.note("tensor-data-past-end", text, info.start)
    return placed


def _check_order(walk: Walk, sizes: list[tuple[TensorRecord, int | None]], alignment: int) -> None:
    """llama.cpp's rule: each tensor begins at the padded end of the one before it."""
    expected = 0
    for info, nbytes in sizes:
        if info.offset != expected:
            walk.place = f"tensor {text_of(info.name)}"
            text = f"the offset is {info.offset}, llama.cpp expects {expected}"
            walk.note("offset-not-contiguous", text, info.start)
            return  # what follows differs too, and says nothing new
        if nbytes is None:
            return
        expected = align_up(expected + nbytes, alignment)


def _check_apart(walk: Walk, placed: list[PlacedTensor]) -> None:
    by_start = sorted((t for t in placed if t.nbytes), key=lambda tensor: tensor.start)
    for before, after in pairwise(by_start):
        if before.end > after.start:
            walk.place = f"tensor {text_of(after.info.name)}"
            text = (
                f"the data from byte {after.start} on lies in that of tensor "
                f"{text_of(before.info.name)}, which ends at {before.end}"
            )
            walk.note("tensors-overlap", text, after.info.start)


def _check_rest(walk: Walk, placed: list[PlacedTensor], alignment: int) -> None:
    """The bytes that belong to nothing: padding, and what comes behind the last tensor."""
    size = len(walk.data)
    spans = [(walk.pos, walk.pos, "header")]
    spans += [(t.start, t.end, f"tensor {text_of(t.info.name)}") for t in placed if t.nbytes]
    ends = sorted(span for span in spans if span[1] <= size)
    for before, after in pairwise(ends):
        _check_zeros(walk, before[2], before[1], after[0])
    _, end, walk.place = max(ends, key=lambda span: span[1])
    padded = align_up(end, alignment)
    _check_zeros(walk, walk.place, end, min(padded, size))
    if padded > size and placed:
        text = f"zeros up to byte {padded} are missing, which gguf.cpp wants to read with the data"
        walk.note("end-not-padded", text, size)
    elif padded < size:
        walk.place = "end of the file"
        walk.note("trailing-bytes", f"{size - padded} bytes follow the last tensor", padded)


def _check_zeros(walk: Walk, place: str, start: int, stop: int) -> None:
    piece = bytes(walk.data[start : min(stop, start + MAX_PADDING)])
    if piece.count(0) != len(piece):
        walk.place = place
        at = start + len(piece) - len(piece.lstrip(b"\0"))
        walk.note(
            "padding-not-zero", f"the padding behind it holds the byte {piece[at - start]}", at
        )
