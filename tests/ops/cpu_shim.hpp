// Numbers, words and loads on a plain CPU: the twin of workbench/ops/kernels/ptx.cuh.
//
// fiber_shim.hpp, which follows, runs the threads of a launch. Together they show that every bit is
// right; what a GPU makes of it is not shown.
// Compile with -ffp-contract=off: each float32 operation is rounded by itself.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;

#define DEVICE inline
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __align__(bytes) alignas(bytes)

using std::max;
using std::min;

struct alignas(8) int2 {
    int x, y;
};
struct alignas(8) uint2 {
    u32 x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
DEVICE int2 make_int2(int x, int y) { return {x, y}; }
DEVICE uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
DEVICE float2 make_float2(float x, float y) { return {x, y}; }
DEVICE int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
DEVICE uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
DEVICE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

DEVICE float multiply(float a, float b) { return a * b; }
DEVICE float add(float a, float b) { return a + b; }
DEVICE float subtract(float a, float b) { return a - b; }
DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE float from_double(double x) { return (float)x; }

DEVICE float as_float(u32 bits) {
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

DEVICE u32 as_bits(float number) {
    u32 bits;
    memcpy(&bits, &number, 4);
    return bits;
}

DEVICE int to_int(float x) {
    if (std::isnan(x)) return 0;
    return (int)std::clamp(nearbyint((double)x), -2147483648.0, 2147483647.0);
}

DEVICE float exp2_fast(float x) { return exp2f(x); }
DEVICE float log2_fast(float x) { return log2f(x); }
DEVICE float reciprocal_fast(float x) { return 1 / x; }
DEVICE float greater(float a, float b) { return a > b || a != a ? a : b; }
DEVICE float inverse_root_fast(float x) { return 1 / sqrtf(x); }

DEVICE float from_half(u16 bits) {
    const u32 sign = (u32)(bits >> 15) << 31, magnitude = bits & 0x7FFF;
    if (magnitude >= 0x7C00) return as_float(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
    const float number = as_float(magnitude << 13) * 0x1p112f;  // exact; subnormals too
    return sign ? -number : number;
}

// To nearest, ties to even: a sum with 1.5 * 2**k leaves of the magnitude what a float16 can hold.
DEVICE u32 to_half(float x) {
    const u32 bits = as_bits(x), sign = bits >> 16 & 0x8000;
    const u32 magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return sign | 0x7E00;
    if (magnitude >= 0x477FF000) return sign | 0x7C00;  // 65520 and more
    if (magnitude < 0x38800000) {                       // below 2**-14: a multiple of 2**-24
        return sign | (as_bits(as_float(magnitude) + 0.5f) - 0x3F000000);
    }
    return sign | ((magnitude + 0x0FFF + (magnitude >> 13 & 1)) >> 13) - (112 << 10);
}

DEVICE u32 to_halves(float first, float second) { return to_half(first) | to_half(second) << 16; }

DEVICE float from_brain(u16 bits) { return as_float((u32)bits << 16); }

DEVICE u32 to_brain(float x) {
    const u32 bits = as_bits(x);
    return std::isnan(x) ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

DEVICE u32 to_brains(float first, float second) { return to_brain(first) | to_brain(second) << 16; }

DEVICE u32 pick_bytes(u32 low, u32 high, u32 selector) {
    const u64 all = (u64)high << 32 | low;
    u32 picked = 0;
    for (int i = 0; i < 4; i++) {
        const u32 nibble = selector >> 4 * i & 15, byte = all >> 8 * (nibble & 7) & 255;
        picked |= (nibble < 8 ? byte : byte < 128 ? 0 : 255) << 8 * i;  // from 8 on: its sign
    }
    return picked;
}

DEVICE u32 count_bits(u32 x) { return __builtin_popcount(x); }

DEVICE int dot_bytes(u32 a, u32 b, int c) {
    for (int i = 0; i < 32; i += 8) c += (int8_t)(a >> i) * (int8_t)(b >> i);
    return c;
}

DEVICE float load_fresh(const float* from) { return *from; }
DEVICE u32 load_fresh(const u32* from) { return *from; }
DEVICE float4 load_fresh4(const float* from) { return *reinterpret_cast<const float4*>(from); }
DEVICE uint4 load_once(const void* from) { return *static_cast<const uint4*>(from); }
DEVICE void store_fresh(float* to, float number) { *to = number; }

DEVICE void store_once(void* to, u32 x, u32 y, u32 z, u32 w) {
    *static_cast<uint4*>(to) = make_uint4(x, y, z, w);
}
