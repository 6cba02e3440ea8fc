"""A weight as the file stores it: quantized blocks and what is needed to read them.

Source: our own; the layout of a row of blocks is ggml's (ggml/include/ggml.h, `ggml_row_size`).
Left out: decoding, which is layer 2's, and every sum, which is in the module of the device.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["PackedTensor"]


@dataclass(frozen=True, slots=True, eq=False)
class PackedTensor:
    """A tensor of weights, never expanded as a whole.

    raw: the blocks, (*rows, bytes per row) uint8, or for "F32" the numbers, (*shape) float32
    type: as ggml prints it, such as "Q4_K"
    shape: of the weights, NumPy order; byte_order: "little" or "big"
    """

    raw: Any
    type: str
    shape: tuple[int, ...]
    byte_order: str = "little"

    def __getitem__(self, index: int) -> "PackedTensor":
        """Part `index` of the first axis, such as one expert's matrix (a view)."""
        return PackedTensor(self.raw[index], self.type, self.shape[1:], self.byte_order)

    def rows(self, start: int, stop: int) -> "PackedTensor":
        """Rows start … stop-1 of each matrix, such as the queries' of one for q, k, v (a view)."""
        shape = (*self.shape[:-2], stop - start, self.shape[-1])
        return PackedTensor(self.raw[..., start:stop, :], self.type, shape, self.byte_order)

    def __repr__(self) -> str:
        return f"PackedTensor({self.type}, shape {self.shape})"
