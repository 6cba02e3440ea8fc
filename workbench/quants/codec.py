"""What the package knows of one ggml type: its block as a C struct, and how to read and write it.

Each family module (`floats`, `legacy`, …) builds its `Codec`s; `convert` collects them.
Sources: the block structs of ggml-common.h, the row functions of ggml-quants.c.
Left out: sizes by type id and the types of a file, which are `workbench.gguf.types`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TILE_WEIGHTS = 1 << 17  # weights at once: 512 KiB of float32 and as much beside it stay in L2

Decode = Callable[[np.ndarray, np.ndarray], None]
Encode = Callable[[np.ndarray, np.ndarray], None]
EncodeWeighted = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Codec:
    """One ggml type: a block of `block_size` weights is one element of `dtype`.

    name: as ggml prints it, upper case.
    block_size: weights in a block.
    dtype: the C struct, little-endian, without padding (its itemsize is ggml's type size).
    decode: (blocks (B,) dtype, out (B, block_size) float32) fills out; fields wider than a byte
        may be of either byte order.
    encode: (x (B, block_size) float32, blocks (B,) dtype) fills blocks; None where there is none,
        or none without an importance matrix.
    encode_weighted: (x (R, n) float32, imatrix (n,) float32, blocks (R, n / block_size) dtype)
        fills blocks, minimising the error weighted by the importance of each column; None where
        ggml ignores the importance matrix.
    keeps_nonfinite: whether NaN and infinity have codes of their own.
    """

    name: str
    block_size: int
    dtype: np.dtype
    decode: Decode
    encode: Encode | None = None
    encode_weighted: EncodeWeighted | None = None
    keeps_nonfinite: bool = False

    @property
    def type_size(self) -> int:
        """Bytes of a block."""
        return self.dtype.itemsize

    @property
    def can_write(self) -> bool:
        """Whether weights can be encoded, at least with an importance matrix."""
        return self.encode is not None or self.encode_weighted is not None

    @property
    def tile_blocks(self) -> int:
        """Blocks converted at once."""
        return max(1, TILE_WEIGHTS // self.block_size)
