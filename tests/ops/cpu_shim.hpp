// Runs the text of our kernels on a plain CPU: the twin of workbench/ops/kernels/ptx.cuh.
//
// The kernels' threads do not speak to each other, so a launch is a loop over all of them, one
// after the other. It shows that every bit is right; what a GPU makes of it is not shown.
// Compile with -ffp-contract=off: each float32 operation is rounded by itself.

#include <cstdint>
#include <cstring>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;

#define DEVICE inline
#define __global__
#define __launch_bounds__(threads)
#define __restrict__

struct uint2 {
    u32 x, y;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Index {
    unsigned x;
};
static Index blockIdx, threadIdx;

// As on the GPU, there are no more than the kernels need: grid thread blocks of `threads` threads.
typedef void Kernel(const u8* raw, const void* table, void* out, u64 n);

extern "C" void launch(Kernel* kernel, const u8* raw, const void* table, void* out, u64 n,
                       unsigned grid, unsigned threads) {
    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) kernel(raw, table, out, n);
}

static float multiply(float a, float b) { return a * b; }
static float add(float a, float b) { return a + b; }
static float subtract(float a, float b) { return a - b; }
static float from_double(double x) { return (float)x; }

static float as_float(u32 bits) {
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

static float from_half(u16 bits) {
    const u32 sign = (u32)(bits >> 15) << 31, magnitude = bits & 0x7FFF;
    if (magnitude >= 0x7C00) return as_float(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
    const float number = as_float(magnitude << 13) * 0x1p112f;  // exact; subnormals too
    return sign ? -number : number;
}

// To nearest, ties to even: a sum with 1.5 * 2**k leaves of the magnitude what a float16 can hold.
static u32 to_half(float x) {
    u32 bits;
    memcpy(&bits, &x, 4);
    const u32 sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return sign | 0x7E00;
    if (magnitude >= 0x477FF000) return sign | 0x7C00;  // 65520 and more
    if (magnitude < 0x38800000) {                       // below 2**-14: a multiple of 2**-24
        const float shifted = as_float(magnitude) + 0.5f;
        u32 sum;
        memcpy(&sum, &shifted, 4);
        return sign | (sum - 0x3F000000);
    }
    return sign | ((magnitude + 0x0FFF + (magnitude >> 13 & 1)) >> 13) - (112 << 10);
}

static u32 to_halves(float first, float second) { return to_half(first) | to_half(second) << 16; }

static u32 pick_bytes(u32 low, u32 high, u32 selector) {
    const u64 all = (u64)high << 32 | low;
    u32 picked = 0;
    for (int i = 0; i < 4; i++) picked |= (u32)(all >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return picked;
}

static u32 count_bits(u32 x) { return __builtin_popcount(x); }

static void store_once(void* to, u32 x, u32 y, u32 z, u32 w) {
    *static_cast<uint4*>(to) = make_uint4(x, y, z, w);
}
