"""Compiled products on packed weights: numba kernels over short vectors, one layer upon the other.

    simd              vectors of 16 floats and of 16, 32 and 64 bytes
    decode            a block of each type -> signed codes, scales, minima
    products          codes with activations, by rows; half_products: F16 and BF16
    nibble_products   the same for Q4_0 and Q4_K with float32, without a stop at bytes
    float_products    one entry a type: float32 activations (the exact mode)
    int_products      one entry a type: int8 activations (the fast mode), made by `activations`
    tile_products     one entry a type: many tokens; `tiles` does the work
    entry             compiles them and keeps the machine code

`ops.packed_linear` chooses among them and imports them at first use: numba is slow to import.
"""

__all__ = []
