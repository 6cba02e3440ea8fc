// Packets of types with 32 weights a block: Q8_0 Q4_0 Q5_0 Q4_1 Q5_1, and IQ4_NL, MXFP4 through
// packets_levels.cuh: a scale (and a minimum) a row and block.
//
//     Q8_0  w = q d      Q4_0  w = (q - 8) d      Q5_0  w = (q - 16) d
//     Q4_1  w = q d + m  Q5_1  w = q d + m
//
// Codes are multiplied as 16 (q - 8), 8 (q - 16), 16 q, 8 q; the last factor makes it good. A
// minimum is m times the sum of the activations; lane t adds those of side t / 2, row t % 2.
// What a packet is: packets.py; why it is fast: packets.cuh.

// The walk through a packet. Codes, a type: `columns`, `quant_bytes` of a step, `scale_bytes` of a
// block, `has_minima`, `factor`; `products` adds a step's codes times digits, `scales` reads those
// of both rows.
template <class Codes>
struct SmallBlocks {
    typedef Digits Planes;
    static constexpr int columns = Codes::columns;
    static constexpr bool has_minima = Codes::has_minima;
    static constexpr int step_bytes =
        Codes::quant_bytes + 32 * Codes::scale_bytes * (Codes::has_minima ? 2 : 1);
    static DEVICE int bytes(int n_columns) { return n_columns / 64 * step_bytes; }

    // Where things are in a packet, and what a lane has summed.
    struct Walk {
        const u8 *quants, *scales, *minima;
        const float* sums16;
        Place at;
        int lane, first_step, n_steps;
        float totals[2] = {0, 0}, low = 0;
        DEVICE Walk(const u8* packet, const Digits& x, int first_column, int n_columns, int lane)
            : quants(packet), at(lane), lane(lane), first_step(first_column / 64),
              n_steps(n_columns / 64) {
            scales = packet + n_steps * Codes::quant_bytes;
            minima = scales + n_steps * 64;
            sums16 = x.sums16 + at.side * 8;
        }
        // Sums of activations, this lane's side: 16 columns each of two steps from an even one on.
        DEVICE float4 load_sums(int s) const {
            const int step = first_step + s;
            if (!Codes::has_minima) return make_float4(0, 0, 0, 0);
            return *(const float4*)(sums16 + step / 4 * 16 + step % 4 * 2);
        }
        DEVICE void step(int s, uint2 b, float sum) {
            int c[2][4] = {};
            Codes::products(c, quants, s, n_steps, lane, b);
            float d[2];
            Codes::scales(d, scales + (s * 16 + at.g * 2 + at.side) * 2 * Codes::scale_bytes);
            totals[0] += d[0] * join_side(c, 0, at.side);
            totals[1] += d[1] * join_side(c, 1, at.side);
            if (Codes::has_minima) {
                const u8* m = minima + s * 64 + at.g * 8 + at.side * 4 + at.row * 2;
                low += from_half(*(const u16*)m) * sum;
            }
        }
    };

    static DEVICE void multiply(const u8* packet, const Digits& x, int first_column, int n_columns,
                                int lane, float (&sums)[2]) {
        if (n_columns == columns) add<columns / 128>(packet, x, first_column, columns, lane, sums);
        else add<1>(packet, x, first_column, n_columns, lane, sums);
    }

    template <int AT_ONCE>
    static DEVICE void add(const u8* packet, const Digits& x, int first_column, int n_columns,
                           int lane, float (&sums)[2]) {
        Walk walk(packet, x, first_column, n_columns, lane);
        const DigitReader digits(x, first_column, lane);
        int s = 0;
#pragma unroll AT_ONCE
        for (; s + 2 <= walk.n_steps; s += 2) {
            const uint4 words = digits.load(s * 64);
            const float4 sum = walk.load_sums(s);
            walk.step(s, digits.even(words), sum.x + sum.y);
            walk.step(s + 1, digits.odd(words), sum.z + sum.w);
        }
        if (s < walk.n_steps) {
            const float4 sum = walk.load_sums(s);
            walk.step(s, digits.even(digits.load(s * 64)), sum.x + sum.y);
        }
        const float factor = walk.at.factor() * Codes::factor;
        sums[0] += walk.totals[0] * factor;
        sums[1] += walk.totals[1] * factor;
        if (Codes::has_minima) sums[0] += walk.at.row ? 0 : walk.low;
        if (Codes::has_minima) sums[1] += walk.at.row ? walk.low : 0;
    }
};

// float16 scales of row g and row g + 8.
struct HalfScales {
    static constexpr int scale_bytes = 2;
    static DEVICE void scales(float (&d)[2], const u8* from) {
        const u32 pair = load4(from);
        d[0] = low_half(pair), d[1] = high_half(pair);
    }
};

// --- types ---------------------------------------------------------------------------------------

struct CodesQ8_0 : HalfScales {
    static constexpr int columns = 256, quant_bytes = 1024;
    static constexpr bool has_minima = false;
    static constexpr float factor = 1;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int, int lane,
                                uint2 b) {
        const uint4 first = load16(quants + s * 1024 + lane * 16);
        const uint4 second = load16(quants + s * 1024 + 512 + lane * 16);
        multiply_blocks(c, {first.x, first.y, first.z, first.w, second.x, second.y, second.z,
                            second.w}, b);
    }
};

// Codes times 16.
DEVICE void split_nibbles(uint4 w, u32 (&a)[8]) {
    const u32 mask = 0xF0F0F0F0;
    a[0] = w.x << 4 & mask, a[1] = w.y << 4 & mask, a[2] = w.x & mask, a[3] = w.y & mask;
    a[4] = w.z << 4 & mask, a[5] = w.w << 4 & mask, a[6] = w.z & mask, a[7] = w.w & mask;
}

struct CodesQ4_0 : HalfScales {
    static constexpr int columns = 512, quant_bytes = 512;
    static constexpr bool has_minima = false;
    static constexpr float factor = 1 / 16.0f;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int, int lane,
                                uint2 b) {
        u32 a[8];
        split_nibbles(load16(quants + s * 512 + lane * 16), a);
        multiply_blocks(c, a, b);
    }
};

struct CodesQ4_1 : HalfScales {
    static constexpr int columns = 512, quant_bytes = 512;
    static constexpr bool has_minima = true;
    static constexpr float factor = 1 / 16.0f;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int, int lane,
                                uint2 b) {
        u32 a[8];
        split_nibbles(load16(quants + s * 512 + lane * 16), a);
        multiply_unsigned_blocks(c, a, b);
    }
};

struct CodesQ5_0 : HalfScales {
    static constexpr int columns = 512, quant_bytes = 640;
    static constexpr bool has_minima = false;
    static constexpr float factor = 1 / 8.0f;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int n_steps, int lane,
                                uint2 b) {
        u32 a[8];
        split_fives(load16(quants + s * 512 + lane * 16),
                    load4(quants + n_steps * 512 + s * 128 + lane * 4), a);
        multiply_blocks(c, a, b);
    }
};

struct CodesQ5_1 : HalfScales {
    static constexpr int columns = 512, quant_bytes = 640;
    static constexpr bool has_minima = true;
    static constexpr float factor = 1 / 8.0f;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int n_steps, int lane,
                                uint2 b) {
        u32 a[8];
        split_fives(load16(quants + s * 512 + lane * 16),
                    load4(quants + n_steps * 512 + s * 128 + lane * 4), a);
        multiply_unsigned_blocks(c, a, b);
    }
};

typedef SmallBlocks<CodesQ8_0> PacketsQ8_0;
typedef SmallBlocks<CodesQ4_0> PacketsQ4_0;
typedef SmallBlocks<CodesQ4_1> PacketsQ4_1;
typedef SmallBlocks<CodesQ5_0> PacketsQ5_0;
typedef SmallBlocks<CodesQ5_1> PacketsQ5_1;
