// The machine's own instructions, each behind a plain name; every kernel sees this text first.
//
// float32 sums and products are rounded one by one, as ggml's C code does it: an instruction that
// names its rounding (.rn) is never fused into a multiply-add, and one without .ftz keeps subnormal
// numbers, whatever options the compiler was given (CuPy always adds -ftz=true).
// Source: PTX ISA, sections on floating-point instructions, cvt and prmt.
// Its twin for a plain CPU is tests/ops/cpu_shim.hpp.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__

DEVICE float multiply(float a, float b) {
    float product;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(product) : "f"(a), "f"(b));
    return product;
}

DEVICE float add(float a, float b) {
    float sum;
    asm("add.rn.f32 %0, %1, %2;" : "=f"(sum) : "f"(a), "f"(b));
    return sum;
}

DEVICE float subtract(float a, float b) {
    float difference;
    asm("sub.rn.f32 %0, %1, %2;" : "=f"(difference) : "f"(a), "f"(b));
    return difference;
}

DEVICE float as_float(u32 bits) { return __uint_as_float(bits); }

// The float32 with the value of a float16.
DEVICE float from_half(u16 bits) {
    float number;
    asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(bits));
    return number;
}

// The float32 nearest to a float64.
DEVICE float from_double(double x) {
    float number;
    asm("cvt.rn.f32.f64 %0, %1;" : "=f"(number) : "d"(x));
    return number;
}

// Two float16, each nearest to its float32, ties to even: `first` in the low half.
DEVICE u32 to_halves(float first, float second) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// Four of the eight bytes  high: 7 6 5 4  low: 3 2 1 0,  chosen by the four nibbles of `selector`.
DEVICE u32 pick_bytes(u32 low, u32 high, u32 selector) {
    u32 picked;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(picked) : "r"(low), "r"(high), "r"(selector));
    return picked;
}

DEVICE u32 count_bits(u32 x) { return __popc(x); }

// 16 bytes to an address that is a multiple of 16; they will be the first to leave the L2 cache.
DEVICE void store_once(void* to, u32 x, u32 y, u32 z, u32 w) {
    asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
