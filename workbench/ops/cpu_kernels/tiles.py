"""Products of packed rows with many tokens: a tile of rows becomes float32 once for all of them.

    64 packed rows ──▶ 64 x 2048 float32 in the second-level cache
                       4 rows x 4 tokens at a time: 16 sums in registers, 8 loads for 16 products

Same arguments and the same sharing of rows as in `products`; BLAS is not asked, whose threads would
spin while others have work.

Source: our own; the blocking is that of Goto and van de Geijn, ACM TOMS 34 (2008), in small.
"""

import numpy as np
from numba import njit
from numba.extending import register_jitable

from .half_products import load_bf16
from .products import bytes_between, decode_chunk, sixteen_weights
from .simd import fused, load_f16, load_f32, load_floats16, splat, stack_memory, store
from .simd_lanes import total
from .team import arguments, n_rows, take_rows

product = njit(nogil=True, error_model="numpy")

TILE_ROWS, TILE_COLUMNS = 64, 2048
ROW_BYTES = 4 * TILE_COLUMNS + 64  # rows a power of two apart would fight for the same cache lines
ZERO = np.float32(0)


@register_jitable
def expand_blocks(decode, form, source, count, tile, scratch):
    """`count` weights of a row of blocks, from a whole number of chunks on, as float32."""
    block_size, block_bytes, has_lows = form
    for start in range(0, count, 256):
        decode_chunk(decode, block_size, block_bytes, source, count - start, scratch)
        for i in range(16):
            store(tile + 4 * start + 64 * i, sixteen_weights(has_lows, scratch, i))
        source += 256 // block_size * block_bytes


@register_jitable
def expand_f16(load, form, source, count, tile, scratch):
    """`count` numbers of 16 bits as float32, and zeros to the end of the chunk."""
    for i in range(0, count // 16 * 16, 16):
        store(tile + 4 * i, load(source + 2 * i))
    for i in range(count // 16 * 16, (count + 255) // 256 * 256):
        store(tile + 4 * i, load_f16(source + 2 * i) if i < count else ZERO)


@register_jitable
def expand_bf16(load, form, source, count, tile, scratch):
    """As `expand_f16`."""
    for i in range(0, count // 16 * 16, 16):
        store(tile + 4 * i, load(source + 2 * i))
    for i in range(count // 16 * 16, (count + 255) // 256 * 256):
        store(tile + 4 * i, load_bf16(source + 2 * i) if i < count else ZERO)


@product
def _four(w, x0, x1, x2, x3, sums):
    return (
        fused(w, x0, sums[0]),
        fused(w, x1, sums[1]),
        fused(w, x2, sums[2]),
        fused(w, x3, sums[3]),
    )


@product
def _rows_by_tokens(w, x, x_stride, last, columns):
    """Sums of 4 rows, one after the other in the tile, with 4 tokens; token `last` is repeated."""
    zero = splat(ZERO)
    a = b = c = d = (zero, zero, zero, zero)
    x1, x2, x3 = (
        x + min(1, last) * x_stride,
        x + min(2, last) * x_stride,
        x + min(3, last) * x_stride,
    )
    for i in range(0, 4 * columns, 64):
        y0, y1 = load_floats16(x + i), load_floats16(x1 + i)
        y2, y3 = load_floats16(x2 + i), load_floats16(x3 + i)
        a = _four(load_floats16(w + i), y0, y1, y2, y3, a)
        b = _four(load_floats16(w + ROW_BYTES + i), y0, y1, y2, y3, b)
        c = _four(load_floats16(w + 2 * ROW_BYTES + i), y0, y1, y2, y3, c)
        d = _four(load_floats16(w + 3 * ROW_BYTES + i), y0, y1, y2, y3, d)
    return a, b, c, d


@product
def _add_four(out, rows, sums, last):
    """Add the sums of one row with up to four tokens to out, whose tokens are `rows` apart."""
    store(out, load_f32(out) + total(sums[0]))
    if last >= 1:
        store(out + 4 * rows, load_f32(out + 4 * rows) + total(sums[1]))
    if last >= 2:
        store(out + 8 * rows, load_f32(out + 8 * rows) + total(sums[2]))
    if last >= 3:
        store(out + 12 * rows, load_f32(out + 12 * rows) + total(sums[3]))


@product
def _times_tile(tile, count, columns, rows, x, x_stride, tokens, out):
    """Add the products of `count` rows of the tile with all tokens to out."""
    for t in range(0, tokens, 4):
        last = min(3, tokens - 1 - t)
        for row in range(0, count, 4):
            sums = _rows_by_tokens(
                tile + row * ROW_BYTES, x + t * x_stride, x_stride, last, columns
            )
            at = out + 4 * (t * rows + row)
            _add_four(at, rows, sums[0], last)
            if row + 1 < count:
                _add_four(at + 4, rows, sums[1], last)
            if row + 2 < count:
                _add_four(at + 8, rows, sums[2], last)
            if row + 3 < count:
                _add_four(at + 12, rows, sums[3], last)


@product
def times_tiles(expand, decode, form, job):
    """out (T, M), zeros before, plus x (T, N) times the rows."""
    weight, stride, n, x, tokens, out = arguments(job)
    rows = n_rows(job)
    scratch = stack_memory()
    memory = np.zeros(TILE_ROWS * ROW_BYTES + 64, np.uint8)
    tile = (memory.ctypes.data + 63) // 64 * 64
    x_stride = bytes_between(n)
    chunk_bytes = 256 // form[0] * form[1]
    first, stop = take_rows(job)
    while first < stop:
        count = min(TILE_ROWS, stop - first)
        for start in range(0, n, TILE_COLUMNS):
            columns = min(TILE_COLUMNS, n - start)
            for row in range(count):
                source = weight + (first + row) * stride + start // 256 * chunk_bytes
                expand(decode, form, source, columns, tile + row * ROW_BYTES, scratch)
            padded = (columns + 255) // 256 * 256
            _times_tile(tile, count, padded, rows, x + 4 * start, x_stride, tokens, out + 4 * first)
        first += count
        if first == stop:
            first, stop = take_rows(job)
    memory[0] = 0  # alive until here
