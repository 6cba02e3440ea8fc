"""Compiled products on packed weights: numba kernels over short vectors, one layer upon the other.

    simd              vectors of 16 floats and of 16, 32 and 64 bytes; simd_lanes, simd_blocks
    decode            a block of each type -> signed codes, scales, minima
    products          codes with activations, by rows; half_products: F16 and BF16
    float_rows        the same for Q4_0, Q4_K and Q6_K, whose codes stay where they lie (blocks64);
    int_rows          with float32, and with int8 activations
    float_products    one entry a type: float32 activations (the exact mode)
    int_products      one entry a type: int8 activations (the fast mode), made by `rounding`
    tile_products     one entry a type: many tokens; `tiles` does the work
    activations       lays activations out as a kernel reads them
    attention_row     one token's attention on a float16 cache
    wide_blocks       packed keys and values as float32
    team              what threads do that share a product, by `atomics`
    entry             compiles them and keeps the machine code

`ops.packed_linear` chooses among them and imports them at first use: numba is slow to import.
"""

__all__ = []
