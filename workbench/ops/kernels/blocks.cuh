// What all dequantizing kernels of blocks share: who decodes what, and bytes to numbers.
//
// A thread decodes 8 consecutive weights (a part of a block) and writes them at once: 16 bytes of
// float16, so that a warp writes 512 consecutive bytes.
//
//     thread    0       1       2       3      4       5     ...
//     weights   0..7    8..15   16..23  24..31 32..39  ...
//     block     |---------- 0 ---------------| |--- 1 ...      (types with 32 weights a block)
//
// Grid: THREADS threads a thread block, CHUNKS parts a thread (both given by the loader), those of
// a thread THREADS parts apart.
// Shapes: raw (n_blocks, bytes) -> out (n_blocks, weights).
// Why it is fast: neighbours read the same packed bytes again from the L1 cache, all loads of a
// thread are on the way before its first store, and float16 numbers are written as the first to
// leave the L2 cache, which keeps the packed bytes there. Tried and slower on the whole: packed
// bytes staged in shared memory, plain stores, 1 or 4 parts a thread.
// Measured: in the header of each family.
//
// A type is a struct with `weights` and `bytes` of a block, and `decode`, which fills w[8] with
// part `part` of a block. A block's address is a multiple of the power of two in `bytes`, up to 16:
// no load may be wider.

// --- loads -----------------------------------------------------------------------------------

// N words from an address that is a multiple of ALIGNED (1, 2, 4, 8 or 16) bytes.
template <int ALIGNED, int N>
DEVICE void load_words(const u8* from, u32 (&words)[N]) {
    if constexpr (ALIGNED >= 16 && N == 4) {
        const uint4 all = *reinterpret_cast<const uint4*>(from);
        words[0] = all.x, words[1] = all.y, words[2] = all.z, words[3] = all.w;
    } else if constexpr (ALIGNED >= 8 && N == 2) {
        const uint2 both = *reinterpret_cast<const uint2*>(from);
        words[0] = both.x, words[1] = both.y;
    } else if constexpr (ALIGNED >= 4) {
        for (int i = 0; i < N; i++) words[i] = reinterpret_cast<const u32*>(from)[i];
    } else if constexpr (ALIGNED == 2) {
        const u16* pieces = reinterpret_cast<const u16*>(from);
        for (int i = 0; i < N; i++) words[i] = pieces[2 * i] | (u32)pieces[2 * i + 1] << 16;
    } else {
        for (int i = 0; i < N; i++)
            words[i] = from[4 * i] | from[4 * i + 1] << 8 | from[4 * i + 2] << 16 |
                       (u32)from[4 * i + 3] << 24;
    }
}

DEVICE u16 load_u16(const u8* from) { return *reinterpret_cast<const u16*>(from); }

DEVICE float load_half(const u8* from) { return from_half(load_u16(from)); }

// --- codes to numbers ------------------------------------------------------------------------

// w[j] = byte j of `codes`, less `bias`, exactly: a byte as the last bits of 2**23 is 2**23 + byte.
DEVICE void to_floats(u32 codes, float bias, float* w) {
    for (int j = 0; j < 4; j++)
        w[j] = subtract(as_float(pick_bytes(codes, 0x4B000000, 0x7440 + j)), 8388608.0f + bias);
}

// The same of signed bytes.
DEVICE void signed_to_floats(u32 codes, float* w) { to_floats(codes ^ 0x80808080, 128.0f, w); }

DEVICE void scale(float* w, float d) {
    for (int j = 0; j < 8; j++) w[j] = multiply(w[j], d);
}

// Bits 3 2 1 0 -> bit 0 of the bytes 3 2 1 0.
DEVICE u32 spread_bits(u32 bits) { return (bits & 15) * 0x00204081 & 0x01010101; }

// Two-bit fields 3 2 1 0 of a byte -> the bytes 3 2 1 0.
DEVICE u32 spread_pairs(u32 byte) {
    const u32 nibbles = (byte | byte << 12) & 0x000F000F;
    return (nibbles | nibbles << 6) & 0x03030303;
}

// --- out -------------------------------------------------------------------------------------

// 8 float32, 32 bytes: two plain stores.
DEVICE void store(float* out, const float* w) {
    float4* both = reinterpret_cast<float4*>(out);
    both[0] = make_float4(w[0], w[1], w[2], w[3]);
    both[1] = make_float4(w[4], w[5], w[6], w[7]);
}

// 8 float16, 16 bytes.
DEVICE void store(u16* out, const float* w) {
    store_once(out, to_halves(w[0], w[1]), to_halves(w[2], w[3]), to_halves(w[4], w[5]),
               to_halves(w[6], w[7]));
}

// --- the kernel ------------------------------------------------------------------------------

template <class Type, class Out>
DEVICE void dequantize_blocks(const u8* raw, const void* table, Out* out, u64 n_blocks) {
    constexpr int PARTS = Type::weights / 8, STEP = THREADS / PARTS;
    const u32 part = threadIdx.x % PARTS;
    const u64 first = (u64)blockIdx.x * (STEP * CHUNKS) + threadIdx.x / PARTS;
    float w[CHUNKS][8];
#pragma unroll
    for (int k = 0; k < CHUNKS; k++) {
        const u64 block = first + k * STEP < n_blocks ? first + k * STEP : n_blocks - 1;
        Type::decode(raw + block * Type::bytes, part, table, w[k]);
    }
#pragma unroll
    for (int k = 0; k < CHUNKS; k++) {
        const u64 block = first + k * STEP;
        if (block < n_blocks) store(out + block * Type::weights + 8 * part, w[k]);
    }
}

// The two kernels of a type: dequantize_TYPE_float32 and dequantize_TYPE_float16.
#define DEQUANTIZE(TYPE, BODY)                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS) dequantize_##TYPE##_float32(        \
        const u8* __restrict__ raw, const void* __restrict__ table, float* __restrict__ out,  \
        u64 n) {                                                                              \
        BODY<TYPE>(raw, table, out, n);                                                       \
    }                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) dequantize_##TYPE##_float16(        \
        const u8* __restrict__ raw, const void* __restrict__ table, u16* __restrict__ out,    \
        u64 n) {                                                                              \
        BODY<TYPE>(raw, table, out, n);                                                       \
    }
