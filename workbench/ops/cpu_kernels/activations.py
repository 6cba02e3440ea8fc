"""Activations as the kernels read them: float32, or int8 codes, in chunks of 256.

Most kernels read them in their own order. Those that leave the codes of a block in their places
(`blocks64`) read 64 at a time in the order of the block's bytes:

    PIECES      of the 16 pieces of 16 activations in a chunk, which four belong to each 64 bytes
    as codes    in the order of the bytes
    as floats   those of byte 0 of all lanes of four bytes, of byte 1, of byte 2, of byte 3

Source: our own.
"""

import numpy as np
from numba import float32, njit

from .entry import entry
from .rounding import KINDS, Q8_1, as_half, round_chunk
from .simd import (
    load_bytes16,
    load_bytes64,
    load_f32,
    load_floats16,
    load_ints16,
    plus,
    splat,
    stack_memory,
    store,
    times,
)
from .simd_blocks import add_ints, minus_sums
from .simd_lanes import to_floats, total

__all__ = [
    "CHUNK",
    "FLOATS_OF_CHUNK",
    "KINDS",
    "ORDERS",
    "RECORD",
    "lay_out_codes",
    "lay_out_floats",
    "round_floats",
]

activation = njit(nogil=True, error_model="numpy")

CHUNK = 256
LINE = 64
ZERO = float32(0)

NATURAL, OF_Q4_0, OF_Q4_K, OF_Q6_K = range(4)
ORDERS = {"natural": NATURAL, "Q4_0": OF_Q4_0, "Q4_K": OF_Q4_K, "Q6_K": OF_Q6_K}
PIECES = np.array(
    [
        range(16),
        (*(0, 2, 4, 6), *(1, 3, 5, 7), *(8, 10, 12, 14), *(9, 11, 13, 15)),
        (*(0, 1, 4, 5), *(2, 3, 6, 7), *(8, 9, 12, 13), *(10, 11, 14, 15)),
        range(16),
    ]
)
LESS = np.array([128, 8, 0, 32])  # what codes of weights are too large by, for each order

# Float32 in an order of codes: 256 of them, then for each 32 zero and minus their sum.
FLOATS_OF_CHUNK = CHUNK + 16
# One record for 256 activations: codes; what each four of them have too much (above), negative;
# their scale for each 16, for Q4_0 for each 8 by fours; and scale times sum for each 16, for Q4_K
# zero and minus the sum for each 32.
RECORD = np.dtype(
    [("codes", "i1", 256), ("base", "i4", 64), ("scales", "f4", 32), ("sums", "f4", 16)]
)
BASE, SCALES, SUMS = (RECORD.fields[name][1] for name in RECORD.names[1:])
RECORD_BYTES = RECORD.itemsize


@activation
def _aligned(memory):
    """The first address in an array at a multiple of 64 bytes: no load touches two lines."""
    return (memory.ctypes.data + LINE - 1) // LINE * LINE


@activation
def _chunk(x, n, c, scratch):
    """The address of chunk c of a row of n floats; of a copy with zeros after the end."""
    if 256 * c + 256 <= n:
        return x + 1024 * c
    for i in range(256):
        at = 256 * c + i
        store(scratch + 4 * i, load_f32(x + 4 * at) if at < n else ZERO)
    return scratch


# --- floats ----------------------------------------------------------------------------------


@activation
def _order_floats(order, x, out):
    """A chunk by lanes: byte w of lane l of the 64 bytes g goes to place 64 g + 16 w + l."""
    for i in range(16):
        source, to = x + 64 * PIECES[order, i], out + i // 4 * 256 + i % 4 * 16
        for lane in range(4):
            for byte in range(4):
                store(to + 64 * byte + 4 * lane, load_f32(source + 16 * lane + 4 * byte))
    for i in range(8):
        store(out + 1024 + 8 * i, ZERO)
        sums = plus(load_floats16(x + 128 * i), load_floats16(x + 128 * i + 64))
        store(out + 1028 + 8 * i, -total(sums))


@entry
def lay_out_floats(order, x, memory):
    """x (T, N) float32 in an order, in memory; the address where it begins.

    Rows begin at multiples of 64 bytes; in the natural order 64 bytes lie between two, since rows
    a power of two apart would fight for the same cache lines.
    """
    n, out = x.shape[1], _aligned(memory)
    scratch, source, to = stack_memory(), x.ctypes.data, out
    chunks = (n + 255) // 256
    for _ in range(len(x)):
        for c in range(chunks):
            at = _chunk(source, n, c, scratch)
            if order != NATURAL:
                _order_floats(order, at, to)
                to += 4 * FLOATS_OF_CHUNK
            else:
                for i in range(0, 1024, 64):
                    store(to + i, load_floats16(at + i))
                to += 1024
        to += LINE if order == NATURAL else 0
        source += 4 * n
    return out


# --- codes -----------------------------------------------------------------------------------

CODES, SCALE, EXACT = 1024, 1280, 1312  # places in scratch memory, after a copy of a chunk


@activation
def _sum_of_codes(codes):
    """The sum of 16 codes, as float32: a whole number."""
    return total(to_floats(load_bytes16(codes)))


@activation
def _natural_numbers(kind, scratch, out):
    """Scales and sums for each 16 codes."""
    for i in range(16):
        sums = load_f32(scratch + EXACT + i // 2 * 4) * _sum_of_codes(scratch + CODES + 16 * i)
        store(out + SUMS + 4 * i, sums)
        store(out + SCALES + 4 * i, load_f32(scratch + SCALE + i // 2 * 4))
    if kind == Q8_1:
        for i in range(0, 64, 8):
            both = load_f32(out + SUMS + i) + load_f32(out + SUMS + i + 4)
            store(out + SUMS + i, as_half(both))
            store(out + SUMS + i + 4, ZERO)


@activation
def _ordered_numbers(scratch, out):
    """Scales for each 32 codes, four times; minus their sum, after a zero."""
    for i in range(8):
        codes = scratch + CODES + 32 * i
        store(out + SUMS + 8 * i, ZERO)
        store(out + SUMS + 8 * i + 4, -(_sum_of_codes(codes) + _sum_of_codes(codes + 16)))
        for j in range(4):
            store(out + SCALES + 16 * i + 4 * j, load_f32(scratch + SCALE + 4 * i))


@activation
def _record(kind, order, x, scratch, out):
    """256 floats -> a record."""
    round_chunk(kind, x, scratch + CODES, scratch + SCALE, scratch + EXACT)
    for i in range(16):
        store(out + 16 * i, load_bytes16(scratch + CODES + 16 * PIECES[order, i]))
    for i in range(0, 256, 64):
        store(out + BASE + i, minus_sums(LESS[order], load_bytes64(out + i)))
    if order == NATURAL:
        _natural_numbers(kind, scratch, out)
        return
    _ordered_numbers(scratch, out)
    if order == OF_Q4_0:  # both nibbles of a byte go to the same sum
        for i in range(2):
            both = out + BASE + 128 * i
            store(out + BASE + 64 * i, add_ints(load_ints16(both), load_ints16(both + 64)))


@entry
def lay_out_codes(kind, order, x, memory):
    """x (T, N) float32 as records in memory, a row's after the other's; where they begin."""
    n, out = x.shape[1], _aligned(memory)
    scratch, source, to = stack_memory(), x.ctypes.data, out
    for _ in range(len(x)):
        for c in range((n + 255) // 256):
            _record(kind, order, _chunk(source, n, c, scratch), scratch, to)
            to += RECORD_BYTES
        source += 4 * n
    return out


@entry
def round_floats(kind, x, out):
    """x (T, N) float32 -> out of the same shape: codes times scales."""
    n = x.shape[1]
    scratch, source, to = stack_memory(), x.ctypes.data, out.ctypes.data
    for _ in range(len(x)):
        for c in range((n + 255) // 256):
            at = _chunk(source, n, c, scratch)
            round_chunk(kind, at, scratch + CODES, scratch + SCALE, scratch + EXACT)
            for i in range(0, min(256, n - 256 * c), 32):
                scale = splat(load_f32(scratch + SCALE + i // 8))
                codes = scratch + CODES + i
                store(to + 4 * i, times(to_floats(load_bytes16(codes)), scale))
                store(to + 4 * i + 64, times(to_floats(load_bytes16(codes + 16)), scale))
            to += 1024
        source += 4 * n
        to = to - (n + 255) // 256 * 1024 + 4 * n
