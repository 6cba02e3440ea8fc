"""Packing numbers while a model runs: keys and values on their way into the cache.

ggml packs rows for a file with searches for the best scale (`ggml_quantize_chunk`), and rows at
run time in one pass (`from_float`). The bytes differ for IQ4_NL only; all other types that a cache
may have are one pass in both.

Source: ggml.c and ggml-cpu.c, the `from_float` of each type; its reference form, without the
vector instructions of one processor.
Left out: types that no cache has.
"""

import numpy as np

from .convert import codec_of, quantize
from .iq4 import encode_iq4_nl_at_once

__all__ = ["quantize_online"]


def quantize_online(x: np.ndarray, type: str) -> np.ndarray:
    """Rows of float32 numbers as blocks of a type, as ggml packs them at run time.

    x: (..., n) float32; type: as for `quantize`. Returns: (..., bytes) uint8.
    """
    codec = codec_of(type)
    if codec.name != "IQ4_NL" or not np.isfinite(x).all():
        return quantize(x, type)
    rows = np.ascontiguousarray(x).reshape(-1, codec.block_size)
    blocks = np.empty(len(rows), codec.dtype)
    encode_iq4_nl_at_once(rows, blocks)
    return blocks.view(np.uint8).reshape(*x.shape[:-1], -1)
