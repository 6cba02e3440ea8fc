"""Rows of the KV cache that stay packed: blocks of a ggml type instead of numbers.

    position 0   ┌ head 0: 34 bytes, 34 bytes … ┬ head 1: … ┐      q8_0: 32 numbers in 34 bytes
    position 1   ├──────────────────────────────┼───────────┤
                 raw (S, K, bytes) uint8  ◄─ quantize ─  numbers (S, K, D) float32  ◄─ dequantize

They take the place of an array of numbers where the cache slices, copies and writes one; who
computes with them asks for the numbers by `astype`.
Source: our own; the rounding is that of `quants/online.py`, ggml's at run time.
Left out: what a block is, which is the business of `quants`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["PackedRows"]


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Keys or values of consecutive positions as blocks.

    raw: (S, K, bytes) uint8 on a device; type: of the blocks; length: D, the numbers of a head;
    pack: (float32 numbers, type) -> raw; unpack: the way back.
    """

    raw: Any
    type: str
    length: int
    pack: Callable[[Any, str], Any]
    unpack: Callable[[Any, str], Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, K, D), that of the numbers."""
        return (*self.raw.shape[:2], self.length)

    @property
    def dtype(self) -> np.dtype:
        """Of what is stored: bytes."""
        return self.raw.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks."""
        return self.raw.nbytes

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: Any) -> "PackedRows":
        """A view of some positions, or of some positions and heads."""
        return replace(self, raw=self.raw[index])

    def __setitem__(self, index: Any, rows: Any) -> None:
        """Put packed rows of the same type, or numbers, which are packed."""
        is_packed = isinstance(rows, PackedRows)
        self.raw[index] = rows.raw if is_packed else self.pack(rows, self.type)

    def copy(self, order: str = "C") -> "PackedRows":
        """The same blocks in memory of their own; order: as for an array's copy."""
        return replace(self, raw=self.raw.copy(order=order))

    def astype(self, dtype: Any) -> Any:
        """The numbers that the blocks stand for, (S, K, D), a new array."""
        return self.unpack(self.raw, self.type).astype(dtype, copy=False)
