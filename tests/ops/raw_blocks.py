"""Raw blocks of any type for comparing two readers, and how to compare what they read."""

import numpy as np

from workbench.quants import CODECS


def random_blocks(type: str, n_blocks: int, seed: int = 0) -> np.ndarray:
    """(n_blocks, type size) uint8: any bytes, so any scale: subnormal, negative, infinite, NaN.

    The first four blocks are all zeros, all ones, and the smallest and largest of most fields.
    """
    blocks = np.random.default_rng(seed).integers(
        0, 256, (n_blocks, CODECS[type].type_size), dtype=np.uint8
    )
    for block, byte in zip(blocks, (0x00, 0xFF, 0x01, 0x7B), strict=False):
        block[:] = byte
    return blocks


def bits(x: np.ndarray) -> np.ndarray:
    """The bits of float16 or float32 numbers, those of every NaN made the same."""
    number = np.where(np.isnan(x), x.dtype.type(np.nan), x)
    return number.view(f"u{x.dtype.itemsize}")
