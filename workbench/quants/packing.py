"""Bit fields of a tile of blocks, packed and unpacked a whole tile at a time.

ggml keeps the codes of a run of weights in interleaved form: with 4-bit codes and runs of 16 bytes,

    byte j of the run      7 6 5 4 | 3 2 1 0
                           code of   code of
                           weight    weight
                           j + 16    j

Whole runs are moved as single elements of an opaque dtype ("V16"), because NumPy copies those in
one loop, while it would start a new loop for each run of bytes.
Left out: packings of one type only (K-quant scales, ternary digits), which stand with their type.
"""

import numpy as np

RUNS = {n: np.dtype(f"V{n}") for n in (1, 4, 8, 16, 32, 48, 64, 128, 256)}  # n bytes as one element


def flatten(field: np.ndarray) -> np.ndarray:
    """(B, n) bytes of a struct field, n in RUNS -> (B * n,): a contiguous copy, if need be."""
    return np.ascontiguousarray(field.view(RUNS[field.shape[1]])).view(field.dtype).reshape(-1)


def split_fields(packed: np.ndarray, bits: int, run: int, place: int = 0) -> np.ndarray:
    """Unpacks (B, n) uint8 into (B, n * 8 / bits) uint8 codes, the lowest bits of a run first.

    place: the bit at which the lowest bit of a code shall stand, to join it with other fields.
    """
    flat, whole, fields = flatten(packed), RUNS[run], 8 // bits
    mask = ((1 << bits) - 1) << place
    codes = np.empty((flat.size // run, fields), dtype=whole)
    for k in range(fields):
        down = bits * k - place
        if down == 0:
            field = flat & mask
        else:
            field = flat >> down if down > 0 else flat << -down
            if down + bits < 8:  # else nothing but the field is left
                field &= mask
        codes[:, k] = field.view(whole)
    return codes.view(np.uint8).reshape(len(packed), -1)


def join_fields(codes: np.ndarray, bits: int, run: int) -> np.ndarray:
    """Packs (B, n) uint8 codes below 2**bits into (B, n * bits / 8); undoes `split_fields`."""
    fields = 8 // bits
    runs = np.ascontiguousarray(codes).reshape(-1, fields * run).view(RUNS[run])
    packed = np.ascontiguousarray(runs[:, 0]).view(np.uint8)
    for k in range(1, fields):
        packed |= np.ascontiguousarray(runs[:, k]).view(np.uint8) << (bits * k)
    return packed.reshape(len(codes), -1)


def split_bits(packed: np.ndarray) -> np.ndarray:
    """Unpacks (B, n) uint8 into (B, 8 n) uint8 of 0 and 1, the lowest bit first."""
    return np.unpackbits(flatten(packed), bitorder="little").reshape(len(packed), -1)


def join_bits(bits: np.ndarray) -> np.ndarray:
    """Packs (B, 8 n) values, zero or not, into (B, n) uint8, the lowest bit first."""
    return np.packbits(bits.reshape(-1), bitorder="little").reshape(len(bits), -1)


def nibble_table(values: tuple[int, ...]) -> np.ndarray:
    """The int8 values of the four nibbles of each two bytes, as a table (65536,) of uint32.

    two bytes, the first one lower   h1 l1 h0 l0
    table entry, a value a byte      v[h1] v[h0] v[l1] v[l0]
    """
    levels = np.array(values, dtype=np.int8)
    nibbles = np.arange(1 << 16)[:, None] >> [0, 8, 4, 12] & 15
    return levels[nibbles].view("<u4").reshape(-1)


def look_up_nibbles(packed: np.ndarray, table: np.ndarray, run: int) -> np.ndarray:
    """The int8 values (B, 2 n) that a `nibble_table` gives the codes of packed (B, n) uint8.

    Look-ups are the slowest step, so that one fetches the values of four codes.
    """
    four = np.take(table, flatten(packed).view("<u2"))
    values = np.empty((packed.size // run, 2), dtype=RUNS[run])
    values[:, 0] = four.astype(np.uint16).view(values.dtype)
    values[:, 1] = (four >> 16).astype(np.uint16).view(values.dtype)
    return values.view(np.int8).reshape(len(packed), -1)
