"""The two type tables of GGUF: metadata value types and ggml tensor types.

    metadata value   UINT8 … FLOAT64, BOOL      one fixed-size number
                     STRING                     length, then UTF-8 bytes
                     ARRAY                      element type, count, then the elements
    tensor           block_size weights are stored in type_size bytes:

        Q4_0 row of 64   |d|16 bytes of nibbles|d|16 bytes of nibbles|
                         └────── 18 bytes ─────┘        block_size 32, type_size 18

Source: the GGUF specification (ggml/docs/gguf.md) for the value types; `enum ggml_type` in
ggml/include/ggml.h and the `sizeof` of the blocks in ggml/src/ggml-common.h for the tensor types.
Left out: the removed tensor types (ids 4, 5, 31-33, 36-38), which no current program reads; how a
block is decoded, which is layer 2's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np

from ..errors import ParameterError

__all__ = [
    "GGML_TYPES",
    "GGML_TYPES_BY_ID",
    "GGMLType",
    "ValueType",
    "align_up",
    "array_of",
    "element_of",
    "value_dtype",
]

DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_NAME_BYTES = 64  # the specification's bound for tensor names; llama.cpp takes one less
MAX_ARRAY_DEPTH = 32  # arrays in arrays: our bound, so that a hostile file cannot exhaust the stack


class ValueType(IntEnum):
    """The type word in front of every metadata value."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


@dataclass(frozen=True)
class GGMLType:
    """A tensor type: `block_size` weights lie in `type_size` bytes."""

    id: int
    name: str
    block_size: int
    type_size: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage per weight, scales included."""
        return 8 * self.type_size / self.block_size

    def row_bytes(self, n: int) -> int:
        """Bytes of a row of `n` weights; `n` must be a multiple of the block size."""
        assert n % self.block_size == 0
        return n // self.block_size * self.type_size


_VALUE_DTYPES: Mapping[ValueType, str] = {
    ValueType.UINT8: "u1",
    ValueType.INT8: "i1",
    ValueType.UINT16: "u2",
    ValueType.INT16: "i2",
    ValueType.UINT32: "u4",
    ValueType.INT32: "i4",
    ValueType.FLOAT32: "f4",
    ValueType.BOOL: "?",
    ValueType.UINT64: "u8",
    ValueType.INT64: "i8",
    ValueType.FLOAT64: "f8",
}

# id, name, weights per block, bytes per block
_GGML_TYPES = (
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),  # two float16 and 32 bytes; gguf-py's table says 40, ggml's struct is 36
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
)

GGML_TYPES_BY_ID: Mapping[int, GGMLType] = MappingProxyType(
    {row[0]: GGMLType(*row) for row in _GGML_TYPES}
)
GGML_TYPES: Mapping[str, GGMLType] = MappingProxyType(
    {type_.name: type_ for type_ in GGML_TYPES_BY_ID.values()}
)


def value_dtype(value_type: ValueType, byte_order: str) -> np.dtype | None:
    """The NumPy dtype of a fixed-size value type in the file's byte order; None for the others."""
    code = _VALUE_DTYPES.get(value_type)
    return None if code is None else np.dtype(code).newbyteorder("<>"[byte_order == "big"])


def array_of(element: str) -> str:
    """The name of an array type: `array_of("STRING")` is "ARRAY[STRING]"."""
    return f"ARRAY[{element}]"


def element_of(type_name: str) -> str | None:
    """The element type in an array type's name: "INT32" for "ARRAY[INT32]".

    Returns: None for a plain "ARRAY", whose elements say their type themselves.
    Raises: ParameterError if the name is no array type.
    """
    if type_name == "ARRAY":
        return None
    if type_name.startswith("ARRAY[") and type_name.endswith("]"):
        return type_name[len("ARRAY[") : -1]
    raise ParameterError(
        f"metadata type {type_name!r}: not an array type; expected a name such as ARRAY[INT32], "
        f"got {type_name!r}; give a single value, or name the array's element type in brackets"
    )


def align_up(n: int, alignment: int) -> int:
    """`n` rounded up to a multiple of `alignment` (bytes)."""
    return -(-n // alignment) * alignment
