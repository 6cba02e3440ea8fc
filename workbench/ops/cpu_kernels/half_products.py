"""Products of rows of F16 and BF16 weights with float32 activations.

Same arguments and the same sharing of rows as in `products`.

Source: ggml-cpu/vec.cpp, `ggml_vec_dot_f16` and `ggml_vec_dot_bf16`; sums run in another order.
"""

import numpy as np
from numba import njit
from numba.extending import register_jitable

from .blocks64 import ask_ahead
from .products import bytes_between
from .simd import (
    fused,
    load_bf16_16,
    load_f16,
    load_f16_16,
    load_f32,
    load_floats16,
    load_u16,
    plus,
    splat,
    store,
)
from .simd_lanes import float_of_bits, total
from .team import arguments, n_rows, take_rows

product = njit(nogil=True, error_model="numpy")


@product
def _times_halves(load, load_one, job):
    """out (T, M) = x (T, N) float32 times rows of N numbers of 16 bits."""
    weight, stride, n, x, tokens, out = arguments(job)
    rows = n_rows(job)
    x_stride = bytes_between(n)
    zero = splat(np.float32(0))
    first, stop = take_rows(job)
    while first < stop:
        for row in range(first, stop):
            for t in range(tokens):
                at, source = x + t * x_stride, weight + row * stride
                a, b, c, d = zero, zero, zero, zero
                for i in range(0, n // 64 * 64, 64):
                    w, y = source + 2 * i, at + 4 * i
                    ask_ahead(w, 0, 128)
                    a = fused(load(w), load_floats16(y), a)
                    b = fused(load(w + 32), load_floats16(y + 64), b)
                    c = fused(load(w + 64), load_floats16(y + 128), c)
                    d = fused(load(w + 96), load_floats16(y + 192), d)
                result = total(plus(plus(a, b), plus(c, d)))
                for i in range(n // 64 * 64, n):
                    result += load_one(source + 2 * i) * load_f32(at + 4 * i)
                store(out + 4 * (t * rows + row), result)
        first, stop = take_rows(job)


@register_jitable
def load_bf16(address):
    """One bfloat16 as float32."""
    return float_of_bits(load_u16(address) << 16)


@product
def times_f16(job):
    """`_times_halves` for F16."""
    _times_halves(load_f16_16, load_f16, job)


@product
def times_bf16(job):
    """`_times_halves` for BF16."""
    _times_halves(load_bf16_16, load_bf16, job)
