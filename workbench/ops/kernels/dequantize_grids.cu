// Types over grids, IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S, to float32 or float16,
// bit-equal to ggml.
//
//     IQ2  w = +-grid[index][j] d (1/2 + ls) / 4      an index names 8 magnitudes
//     IQ3  w = +-grid[index][j] d (1/2 + ls) / 2      an index names 4; IQ3_S: d (1 + 2 ls)
//     IQ1  w = (grid[index][j] +- 1/8) d (1 + 2 ls)   an index names 8 of -1, 0 and 1
//
// Part p (0..31) has the weights 8p..8p+7: one index of IQ2 and IQ1, two of IQ3; l = p % 4 is its
// place in the 32 weights of sub-block p / 4.
// `table`: the points of workbench/quants/grids.py, of IQ2 and IQ3 a byte a magnitude, of IQ1 two
// bits a number, plus 1.
// Grid, shapes: blocks.cuh. Why it is fast: also, tables of 1 to 8 KiB stay in the L1 cache.
// NumPy twin: workbench/quants/i_quants.py, which draws the structs.
// Measured on an NVIDIA H200, 4096 x 14336 to float16, GB/s of bytes read and written:
//     IQ1_S 3642   IQ1_M 3498   IQ2_XXS 3183   IQ2_XS 3705   IQ2_S 3101   IQ3_XXS 3675   IQ3_S 3211

// Seven signs; the eighth makes the number of negative ones even.
DEVICE u32 eighth_sign(u32 seven) { return seven | (count_bits(seven) & 1) << 7; }

// Four magnitudes, none of them 0, negated (~x + 1) where the bits 3..0 of `signs` are set.
DEVICE void to_signed_floats(u32 magnitudes, u32 signs, float* w) {
    const u32 negative = spread_bits(signs);
    signed_to_floats((magnitudes ^ negative * 255) + negative, w);
}

// IQ2: 8 numbers of one table entry; IQ3: 4 each of two.
DEVICE void look_up_8(const void* table, u32 index, u32 signs, float* w) {
    const uint2 both = static_cast<const uint2*>(table)[index];
    to_signed_floats(both.x, signs, w);
    to_signed_floats(both.y, signs >> 4, w + 4);
}

DEVICE void look_up_4_and_4(const void* table, u32 first, u32 second, u32 signs, float* w) {
    to_signed_floats(static_cast<const u32*>(table)[first], signs, w);
    to_signed_floats(static_cast<const u32*>(table)[second], signs >> 4, w + 4);
}

// d (1/2 + ls) factor
DEVICE float half_step(float d, u32 ls, float factor) {
    return multiply(multiply(d, add(0.5f, (float)ls)), factor);
}

// --- IQ2 -------------------------------------------------------------------------------------

struct IQ2_XXS {
    static constexpr int weights = 256, bytes = 66;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        const u32 l = p & 3;
        const u8* group = block + 2 + (p >> 2) * 8;  // 4 indices, then  ls 4 bits, signs 4 * 7
        u32 signs_and_ls[1];
        load_words<2>(group + 4, signs_and_ls);
        look_up_8(table, group[l], eighth_sign(signs_and_ls[0] >> 7 * l & 127), w);
        scale(w, half_step(load_half(block), signs_and_ls[0] >> 28, 0.25f));
    }
};

struct IQ2_XS {
    static constexpr int weights = 256, bytes = 74;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        const u32 q = load_u16(block + 2 + 2 * p);  // signs 7 bits, index 9
        const u32 ls = block[66 + (p >> 2)] >> (p & 2) * 2 & 15;
        look_up_8(table, q & 511, eighth_sign(q >> 9), w);
        scale(w, half_step(load_half(block), ls, 0.25f));
    }
};

struct IQ2_S {
    static constexpr int weights = 256, bytes = 82;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        const u32 l = p & 3, high = block[66 + (p >> 2)] >> 2 * l & 3;
        const u32 ls = block[74 + (p >> 2)] >> (l & 2) * 2 & 15;
        look_up_8(table, block[2 + p] | high << 8, block[34 + p], w);
        scale(w, half_step(load_half(block), ls, 0.25f));
    }
};

// --- IQ3 -------------------------------------------------------------------------------------

struct IQ3_XXS {
    static constexpr int weights = 256, bytes = 98;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        const u32 indices = load_u16(block + 2 + 2 * p);
        u32 signs_and_ls[1];
        load_words<2>(block + 66 + (p >> 2) * 4, signs_and_ls);
        const u32 signs = eighth_sign(signs_and_ls[0] >> 7 * (p & 3) & 127);
        look_up_4_and_4(table, indices & 255, indices >> 8, signs, w);
        scale(w, half_step(load_half(block), signs_and_ls[0] >> 28, 0.5f));
    }
};

struct IQ3_S {
    static constexpr int weights = 256, bytes = 110;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        const u32 indices = load_u16(block + 2 + 2 * p);
        const u32 ninth = block[66 + (p >> 2)] >> 2 * (p & 3);  // bits 0 and 1: of first and second
        const u32 ls = block[106 + (p >> 3)] >> (p & 4) & 15;
        look_up_4_and_4(table, (indices & 255) | (ninth & 1) << 8,
                        indices >> 8 | (ninth & 2) << 7, block[74 + p], w);
        scale(w, multiply(load_half(block), (float)(1 + 2 * ls)));
    }
};

// --- IQ1 -------------------------------------------------------------------------------------

// d (1 + 2 ls) (grid + delta), delta = 1/8 or, where asked, -1/8
DEVICE void decode_ones(const void* table, u32 index, bool lower, float d, u32 ls, float* w) {
    const u32 pairs = static_cast<const u16*>(table)[index];
    to_floats(spread_pairs(pairs & 255), 1, w);
    to_floats(spread_pairs(pairs >> 8), 1, w + 4);
    const float delta = lower ? -0.125f : 0.125f;
    for (int j = 0; j < 8; j++) w[j] = add(w[j], delta);
    scale(w, multiply(d, (float)(1 + 2 * ls)));
}

struct IQ1_S {
    static constexpr int weights = 256, bytes = 50;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        const u32 qh = load_u16(block + 34 + (p >> 2) * 2);  // sign of delta, ls 3 bits, 4 * 3 bits
        const u32 index = block[2 + p] | (qh >> 3 * (p & 3) & 7) << 8;
        decode_ones(table, index, qh >> 15, load_half(block), qh >> 12 & 7, w);
    }
};

struct IQ1_M {
    static constexpr int weights = 256, bytes = 56;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        u32 scales[2];  // four times 16 bits: 4 of d, then ls of four groups of 16 weights
        load_words<8>(block + 48, scales);
        const u32 d = (scales[0] >> 12 & 0x000F) | (scales[0] >> 24 & 0x00F0) |
                      (scales[1] >> 4 & 0x0F00) | (scales[1] >> 16 & 0xF000);
        const u32 group = p >> 1, word = group < 8 ? scales[0] : scales[1];
        const u32 ls = word >> ((group & 4) * 4 + (group & 3) * 3) & 7;
        const u32 qh = block[32 + group] >> 4 * (p & 1);  // sign of delta, 3 bits of the index
        decode_ones(table, block[p] | (qh & 7) << 8, qh & 8, from_half((u16)d), ls, w);
    }
};

DEQUANTIZE(IQ1_S, dequantize_blocks)
DEQUANTIZE(IQ1_M, dequantize_blocks)
DEQUANTIZE(IQ2_XXS, dequantize_blocks)
DEQUANTIZE(IQ2_XS, dequantize_blocks)
DEQUANTIZE(IQ2_S, dequantize_blocks)
DEQUANTIZE(IQ3_XXS, dequantize_blocks)
DEQUANTIZE(IQ3_S, dequantize_blocks)
