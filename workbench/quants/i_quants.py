"""I-quants that are a table of 16 uneven levels: IQ4_NL and IQ4_XS.

    IQ4_NL  w = d level[q]              blocks of 32
    IQ4_XS  w = d (ls - 32) level[q]    blocks of 256, ls 6 bits, sub-blocks of 32

Sources: ggml-common.h (structs, `kvalues_iq4nl`); ggml-quants.c, `dequantize_row_iq4_*`.
Left out: the types over lattice grids (IQ1, IQ2, IQ3), and writing.
"""

import numpy as np

from .block_math import scale_codes
from .codec import Codec
from .packing import look_up_nibbles, nibble_table, split_fields

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
LEVEL_TABLE = nibble_table(LEVELS)

# qs: byte j of a sub-block = code[j] | code[j + 16] << 4
# scales_l: byte j = low 4 bits of ls[2j] | those of ls[2j + 1] << 4
# scales_h: bits 2k, 2k+1 = high 2 bits of ls[k]
IQ4_NL = np.dtype([("d", "<f2"), ("qs", "u1", 16)])
IQ4_XS = np.dtype([("d", "<f2"), ("scales_h", "<u2"), ("scales_l", "u1", 4), ("qs", "u1", 128)])

SHIFTS = np.arange(0, 16, 2, dtype=np.uint16)


def decode_iq4_nl(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ4_NL."""
    levels = look_up_nibbles(blocks["qs"], LEVEL_TABLE, 16)
    scale_codes(levels, blocks["d"].astype(np.float32), out)


def decode_iq4_xs(blocks: np.ndarray, out: np.ndarray) -> None:
    """Reads IQ4_XS."""
    scales = (blocks["scales_h"][:, None] >> SHIFTS & 3).astype(np.int8)
    scales <<= 4
    scales |= split_fields(blocks["scales_l"], 4, 1).view(np.int8)
    scales -= 32
    d = blocks["d"].astype(np.float32)[:, None] * scales.astype(np.float32)
    scale_codes(look_up_nibbles(blocks["qs"], LEVEL_TABLE, 16), d, out)


CODECS = (
    Codec("IQ4_NL", 32, IQ4_NL, decode_iq4_nl),
    Codec("IQ4_XS", 256, IQ4_XS, decode_iq4_xs),
)
