// The machine's own instructions, each behind a plain name; every kernel sees this text first.
//
// float32 sums and products are rounded one by one, as ggml's C code does it: an instruction that
// names its rounding (.rn) is never fused into a multiply-add, and one without .ftz keeps subnormal
// numbers, whatever options the compiler was given (CuPy always adds -ftz=true).
// What threads of a warp do together is in ptx_warp.cuh, what runs beside them in ptx_async.cuh.
// Source: PTX ISA, sections on floating-point instructions, cvt, prmt, ld and st.
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

// a * b + c, rounded once.
DEVICE float multiply_add(float a, float b, float c) {
    float sum;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(sum) : "f"(a), "f"(b), "f"(c));
    return sum;
}

DEVICE float as_float(u32 bits) { return __uint_as_float(bits); }

DEVICE u32 as_bits(float number) { return __float_as_uint(number); }

// The larger number; NaN if one of them is.
DEVICE float greater(float a, float b) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}

// The nearest integer, ties to even; beyond 32 bits the nearest there is.
DEVICE int to_int(float x) {
    int nearest;
    asm("cvt.rni.s32.f32 %0, %1;" : "=r"(nearest) : "f"(x));
    return nearest;
}

// --- fast functions: a few units in the last place off, subnormal numbers are 0 ----------------

DEVICE float exp2_fast(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

DEVICE float log2_fast(float x) {
    float logarithm;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(logarithm) : "f"(x));
    return logarithm;
}

DEVICE float reciprocal_fast(float x) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
    return inverse;
}

// 1 / sqrt(x).
DEVICE float inverse_root_fast(float x) {
    float inverse;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
    return inverse;
}

// --- small formats -----------------------------------------------------------------------------

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

// The float32 with the value of a bfloat16.
DEVICE float from_brain(u16 bits) { return as_float((u32)bits << 16); }

// Two bfloat16, each nearest to its float32, ties to even: `first` in the low half.
DEVICE u32 to_brains(float first, float second) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// --- words -------------------------------------------------------------------------------------

// Four of the eight bytes  high: 7 6 5 4  low: 3 2 1 0,  chosen by the four nibbles of `selector`.
DEVICE u32 pick_bytes(u32 low, u32 high, u32 selector) {
    u32 picked;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(picked) : "r"(low), "r"(high), "r"(selector));
    return picked;
}

DEVICE u32 count_bits(u32 x) { return __popc(x); }

// c + the four products of the signed bytes of a and b.
DEVICE int dot_bytes(u32 a, u32 b, int c) { return __dp4a((int)a, (int)b, c); }

// --- global memory -----------------------------------------------------------------------------

// What another thread block wrote: past the L1 cache, which may hold an older value.
DEVICE float load_fresh(const float* from) {
    float number;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(number) : "l"(from));
    return number;
}

DEVICE u32 load_fresh(const u32* from) {
    u32 word;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(word) : "l"(from));
    return word;
}

// The same of 16 bytes at an address that is a multiple of 16.
DEVICE float4 load_fresh4(const float* from) {
    float4 all;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(all.x), "=f"(all.y), "=f"(all.z), "=f"(all.w) : "l"(from));
    return all;
}

// 16 bytes that no kernel on the way writes, and that are read once: they take no room in L1.
DEVICE uint4 load_once(const void* from) {
    uint4 all;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(all.x), "=r"(all.y), "=r"(all.z), "=r"(all.w) : "l"(from));
    return all;
}

// For other thread blocks to read, after a fence or a release, with load_fresh.
DEVICE void store_fresh(float* to, float number) {
    asm volatile("st.global.f32 [%0], %1;" :: "l"(to), "f"(number) : "memory");
}

// 16 bytes to an address that is a multiple of 16; they will be the first to leave the L2 cache.
DEVICE void store_once(void* to, u32 x, u32 y, u32 z, u32 w) {
    asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
