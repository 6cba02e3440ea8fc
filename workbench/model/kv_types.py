"""The types that keys and values may be cached in, and whether they are rotated first.

    f32 f16 bf16                        numbers        32  16  16 bits each
    q8_0 q5_1 q5_0 q4_1 q4_0 iq4_nl     blocks of 32   8.5   6  5.5   5  4.5  4.5 bits a number

A few channels of keys are far larger than the others, and a block that holds one has little
precision left for the rest. A Hadamard rotation spreads them: scores stay the same when queries
are rotated too, and what attention mixes of rotated values is rotated back.

    H = 1/sqrt(n) [[+ +] [+ -]] ⊗ …      H Hᵀ = 1, H = Hᵀ      on each n numbers of a head

Source: llama.cpp src/llama-kv-cache.cpp (`attn_rot_k`, `ggml_gen_hadamard`) and pull request 21038:
for quantized types and heads of a multiple of 64 numbers, keys by the greatest power of two that
divides a head, values by 64. Ashkboos et al., arXiv:2404.00456 (QuaRot).
Left out: the environment variable that turns it off there; here it is an argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..gguf.types import GGML_TYPES

__all__ = [
    "CACHE_TYPES",
    "CacheType",
    "cache_types",
    "hadamard",
    "one_name",
    "rotation_lengths",
    "with_hadamard",
]

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
DTYPES = {"f32": "float32", "f16": "float16"}  # the others are packed, as bytes
ROTATES = 64  # numbers: heads of a multiple of it are rotated


@dataclass(frozen=True)
class CacheType:
    """How the keys or the values of one layer are stored; name: one of CACHE_TYPES."""

    name: str

    @property
    def ggml(self) -> str:
        """ggml's name of the type."""
        return self.name.upper()

    @property
    def dtype(self) -> str:
        """Of the array that holds them."""
        return DTYPES.get(self.name, "uint8")

    @property
    def is_packed(self) -> bool:
        """Whether the array holds blocks, not numbers."""
        return self.name not in DTYPES

    @property
    def is_quantized(self) -> bool:
        """Whether several numbers share a scale."""
        return GGML_TYPES[self.ggml].block_size > 1

    def stored_length(self, length: int) -> int:
        """Elements of the array for a head of `length` numbers."""
        return GGML_TYPES[self.ggml].row_bytes(length) if self.is_packed else length

    def nbytes(self, length: int) -> int:
        """Bytes for a head of `length` numbers."""
        return self.stored_length(length) * np.dtype(self.dtype).itemsize


def cache_types(argument: str, names: Any, lengths: Sequence[int]) -> tuple[CacheType, ...]:
    """The type of each layer.

    argument: what to call it in errors; names: one name for all layers, or one for each; lengths:
    numbers of a head in each layer.
    Raises: ParameterError for an unknown name, another number of names, or blocks that do not
        divide a head.
    """
    is_one = isinstance(names, str) or not isinstance(names, Sequence)
    each = [names] * len(lengths) if is_one else list(names)
    if len(each) != len(lengths):
        raise ParameterError(
            f"{argument}: not a type for each layer; expected one name or {len(lengths)} of them, "
            f"got {len(each)}"
        )
    for layer, (name, length) in enumerate(zip(each, lengths, strict=True)):
        where = argument if is_one else f"{argument}[{layer}]"
        if not isinstance(name, str) or name not in CACHE_TYPES:
            raise ParameterError(
                f"{where}: no such cache type; expected one of {', '.join(CACHE_TYPES)}, got "
                f"{name!r}"
            )
        block = GGML_TYPES[name.upper()].block_size
        if length % block:
            raise ParameterError(
                f"{where}: {name} stores blocks of {block} numbers, which do not divide the heads "
                f"of layer {layer}; expected a head_dim that is a multiple of {block}, got "
                f"{length}; f16 fits every head"
            )
    return tuple(map(CacheType, each))


def one_name(types: Sequence[CacheType]) -> str | tuple[str, ...]:
    """The name of the type of all layers, or of each where they differ."""
    names = tuple(type.name for type in types)
    return names[0] if len(set(names)) == 1 else names


def rotation_lengths(
    rotate: bool | None, k: Sequence[tuple[CacheType, int]], v: Sequence[tuple[CacheType, int]]
) -> tuple[tuple[int, int], ...]:
    """How many numbers are rotated together in each layer, of keys and of values; 0: none are.

    rotate: True for all, False for none, None as llama.cpp does; k, v: type and length of the heads
    of each layer.
    Raises: ParameterError if heads cannot be rotated that are to be.
    """
    if rotate is not None and not isinstance(rotate, bool | np.bool_):
        raise ParameterError(
            f"rotate: not a choice; expected True, False or None (as llama.cpp), got {rotate!r}"
        )
    keys = _lengths_of(rotate, k, lambda length: length & -length)
    return tuple(zip(keys, _lengths_of(rotate, v, lambda length: ROTATES), strict=True))


def _lengths_of(rotate: bool | None, layers: Any, n_together: Any) -> list[int]:
    if rotate is not None and not rotate:
        return [0] * len(layers)
    unfit = [length for _, length in layers if length % ROTATES]
    if unfit and rotate:
        raise ParameterError(
            f"rotate: a Hadamard rotation needs heads of a multiple of {ROTATES} numbers; expected "
            f"such a model, got head_dim {unfit[0]}; pass rotate=None, which rotates where it can"
        )
    is_alike = len({length for _, length in layers}) == 1 and not unfit
    return [
        n_together(length) if rotate or (is_alike and type.is_quantized) else 0
        for type, length in layers
    ]


@cache
def hadamard(n: int) -> np.ndarray:
    """The normed Hadamard matrix, (n, n) float32; n: a power of two. Its own inverse."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    matrix /= np.float32(np.sqrt(n))
    matrix.flags.writeable = False
    return matrix


def with_hadamard(ops: Any, x: Any, n: int) -> Any:
    """x (..., D) float32 with each n of its numbers rotated; x itself for n = 0."""
    if not n:
        return x
    return (x.reshape(-1, n) @ ops.asarray(hadamard(n))).reshape(x.shape)
