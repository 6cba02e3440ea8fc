"""What is done with decoded blocks: products with float32 or int8 activations, and expansion.

    packed row ──decode──▶ 256 codes, 16 scales, 16 lows, in the first-level cache ──▶ sums

All threads run the same function on the same arrays and take the next rows from a shared counter,
so a thread that the machine holds up takes fewer. A row that is no multiple of 256 long ends in
blocks with scale 0.

    T tokens   M rows of the weight   N weights in a row

Source: ggml-cpu's `ggml_vec_dot_*` for the integer form; the float form is our own.
"""

import numpy as np
from numba import njit

from .activations import BASE, RECORD_BYTES, SUMS
from .activations import SCALES as X_SCALES
from .blocks64 import ask_ahead
from .simd import (
    flip,
    fused,
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
from .simd_lanes import (
    add_products,
    ints_to_floats,
    quarter0,
    quarter1,
    quarter2,
    quarter3,
    to_floats,
    total,
)
from .team import arguments, n_rows, take_rows

product = njit(nogil=True, error_model="numpy")

CODES, SCALES, LOWS, CHUNK_BYTES = 0, 256, 320, 384  # a decoded chunk in scratch memory
PIECE = 2048  # weights in scratch memory at once
ZERO = np.float32(0)


@product
def bytes_between(n):
    """From one token's activations to the next: whole chunks, and 64 bytes as in `tiles`."""
    return (n + 255) // 256 * 1024 + 64


@product
def _decode_small(decode, block_bytes, source, i, scratch):
    """Block i of a chunk of eight."""
    scales, lows = scratch + SCALES + 8 * i, scratch + LOWS + 8 * i
    decode(source + i * block_bytes, scratch + CODES + 32 * i, scales, lows)


@product
def decode_chunk(decode, block_size, block_bytes, source, count, scratch):
    """Decode the next 256 weights of a row, or the `count` that are left of it."""
    if block_size == 256:
        decode(source, scratch + CODES, scratch + SCALES, scratch + LOWS)
        return
    if count >= 256:
        for i in range(8):  # a number LLVM knows: it unrolls this loop
            _decode_small(decode, block_bytes, source, i, scratch)
        return
    for i in range(count // 32):
        _decode_small(decode, block_bytes, source, i, scratch)
    for i in range(count // 32 * 2, 16):
        store(scratch + SCALES + 4 * i, ZERO)
        store(scratch + LOWS + 4 * i, ZERO)


@product
def decode_piece(decode, form, source, count, scratch):
    """Decode the next 2048 weights of a row, or all that are left, and return the chunks they are.

    What is written is read only chunks later: a wide load of bytes that narrower stores have just
    written would wait until they have left the store buffer.
    """
    block_size, block_bytes, _ = form
    chunks = min(PIECE, count + 255) // 256
    for i in range(chunks):
        at = source + i * (256 // block_size * block_bytes)
        ask_ahead(at, 0, 256 // block_size * block_bytes)
        decode_chunk(
            decode, block_size, block_bytes, at, count - 256 * i, scratch + i * CHUNK_BYTES
        )
    return chunks


@product
def sixteen_weights(has_lows, scratch, i):
    """Weights 16 i .. 16 i + 15 of the chunk."""
    codes = to_floats(load_bytes16(scratch + CODES + 16 * i))
    scale = splat(load_f32(scratch + SCALES + 4 * i))
    if has_lows:
        return fused(codes, scale, splat(-load_f32(scratch + LOWS + 4 * i)))
    return times(codes, scale)


@product
def float_chunk(has_lows, scratch, x, sums):
    """Add the products of 256 weights with 256 floats to four sums."""
    a, b, c, d = sums
    for i in range(0, 16, 4):
        at = x + 64 * i
        a = fused(sixteen_weights(has_lows, scratch, i), load_floats16(at), a)
        b = fused(sixteen_weights(has_lows, scratch, i + 1), load_floats16(at + 64), b)
        c = fused(sixteen_weights(has_lows, scratch, i + 2), load_floats16(at + 128), c)
        d = fused(sixteen_weights(has_lows, scratch, i + 3), load_floats16(at + 192), d)
    return a, b, c, d


@product
def times_floats(decode, form, job):
    """out (T, M) = x (T, N) float32 times the rows of a packed weight."""
    weight, stride, n, x, tokens, out = arguments(job)
    rows = n_rows(job)
    block_size, block_bytes, has_lows = form
    scratch = stack_memory()
    x_stride = bytes_between(n)
    zero = splat(ZERO)
    chunk_bytes = 256 // block_size * block_bytes
    first, stop = take_rows(job)
    while first < stop:
        for row in range(first, stop):
            for t in range(tokens):
                sums = (zero, zero, zero, zero)
                source, at = weight + row * stride, x + t * x_stride
                for start in range(0, n, PIECE):
                    chunks = decode_piece(decode, form, source, n - start, scratch)
                    for i in range(chunks):
                        sums = float_chunk(has_lows, scratch + i * CHUNK_BYTES, at + 1024 * i, sums)
                    source += chunks * chunk_bytes
                    at += 1024 * chunks
                result = total(plus(plus(sums[0], sums[1]), plus(sums[2], sums[3])))
                store(out + 4 * (t * rows + row), result)
        first, stop = take_rows(job)


@product
def int_chunk(has_lows, scratch, x, sums):
    """Add the products of 256 weights with 256 int8 activations to two sums.

    The codes become unsigned by adding 128, which the record's int32 take off again.
    """
    a, b = sums
    scales = times(load_floats16(scratch + SCALES), load_floats16(x + X_SCALES))
    a = fused(_int_products(scratch, x), quarter0(scales), a)
    b = fused(_int_products(scratch + 64, x + 64), quarter1(scales), b)
    a = fused(_int_products(scratch + 128, x + 128), quarter2(scales), a)
    b = fused(_int_products(scratch + 192, x + 192), quarter3(scales), b)
    if has_lows:
        lows = times(load_floats16(scratch + LOWS), splat(np.float32(-1)))
        a = fused(lows, load_floats16(x + SUMS), a)
    return a, b


@product
def _int_products(codes, x):
    unsigned = flip(load_bytes64(codes), 128)
    return ints_to_floats(add_products(load_ints16(x + BASE), unsigned, load_bytes64(x)))


@product
def times_ints(decode, form, job):
    """As `times_floats`, for records of int8 activations."""
    weight, stride, n, x, tokens, out = arguments(job)
    rows = n_rows(job)
    block_size, block_bytes, has_lows = form
    scratch = stack_memory()
    x_stride = (n + 255) // 256 * RECORD_BYTES
    zero = splat(ZERO)
    chunk_bytes = 256 // block_size * block_bytes
    first, stop = take_rows(job)
    while first < stop:
        for row in range(first, stop):
            for t in range(tokens):
                sums = (zero, zero)
                source, at = weight + row * stride, x + t * x_stride
                for start in range(0, n, PIECE):
                    chunks = decode_piece(decode, form, source, n - start, scratch)
                    for i in range(chunks):
                        sums = int_chunk(
                            has_lows, scratch + i * CHUNK_BYTES, at + RECORD_BYTES * i, sums
                        )
                    source += chunks * chunk_bytes
                    at += RECORD_BYTES * chunks
                store(out + 4 * (t * rows + row), total(plus(sums[0], sums[1])))
        first, stop = take_rows(job)
