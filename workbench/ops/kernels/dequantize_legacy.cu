// Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1, Q1_0 and Q2_0 to float32 or float16, bit-equal to ggml.
//
//     Q4_0  w = (q - 8) d     Q5_0  w = (q - 16) d    Q8_0, Q8_1  w = q d
//     Q4_1  w = q d + m       Q5_1  w = q d + m       Q1_0  w = (2 q - 1) d    Q2_0  w = (q - 1) d
//
// Part p (0..3) of a block of 32 has the weights 8p..8p+7; of 4-bit codes those are the low (p < 2)
// or high nibbles of 8 bytes of `qs`, and byte p of `qh` holds their fifth bits.
// Grid, shapes: blocks.cuh. Why it is fast: also, codes become numbers four at a time, a byte each,
// by one instruction and one subtraction a number, without any conversion.
// NumPy twin: workbench/quants/legacy.py, which draws the structs.
// Measured on an NVIDIA H200, 4096 x 14336 to float16, GB/s of bytes read and written:
//     Q4_0 3657   Q4_1 3876   Q5_0 3633   Q5_1 3878   Q8_0 3779   Q8_1 3911   Q1_0 3734   Q2_0 3796

// Eight 4-bit codes of part p, one a byte.
template <int ALIGNED>
DEVICE void nibbles_of_32(const u8* qs, u32 part, u32 (&codes)[2]) {
    load_words<ALIGNED>(qs + 8 * (part & 1), codes);
    for (u32& word : codes) word = word >> (part >> 1) * 4 & 0x0F0F0F0F;
}

DEVICE void add_fifth_bits(u32 bits, u32 (&codes)[2]) {
    codes[0] |= spread_bits(bits) << 4;
    codes[1] |= spread_bits(bits >> 4) << 4;
}

DEVICE void both_to_floats(const u32 (&codes)[2], float bias, float* w) {
    to_floats(codes[0], bias, w);
    to_floats(codes[1], bias, w + 4);
}

DEVICE void scale_and_add(float* w, float d, float m) {
    scale(w, d);
    for (int j = 0; j < 8; j++) w[j] = add(w[j], m);
}

struct Q4_0 {
    static constexpr int weights = 32, bytes = 18;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        u32 codes[2];
        nibbles_of_32<2>(block + 2, part, codes);
        both_to_floats(codes, 8, w);
        scale(w, load_half(block));
    }
};

struct Q4_1 {
    static constexpr int weights = 32, bytes = 20;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        u32 codes[2];
        nibbles_of_32<4>(block + 4, part, codes);
        both_to_floats(codes, 0, w);
        scale_and_add(w, load_half(block), load_half(block + 2));
    }
};

struct Q5_0 {
    static constexpr int weights = 32, bytes = 22;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        u32 codes[2];
        nibbles_of_32<2>(block + 6, part, codes);
        add_fifth_bits(block[2 + part], codes);
        both_to_floats(codes, 16, w);
        scale(w, load_half(block));
    }
};

struct Q5_1 {
    static constexpr int weights = 32, bytes = 24;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        u32 codes[2];
        nibbles_of_32<8>(block + 8, part, codes);
        add_fifth_bits(block[4 + part], codes);
        both_to_floats(codes, 0, w);
        scale_and_add(w, load_half(block), load_half(block + 2));
    }
};

// Eight int8 codes and their scale.
template <int ALIGNED>
DEVICE void decode_bytes(const u8* qs, float d, float* w) {
    u32 codes[2];
    load_words<ALIGNED>(qs, codes);
    signed_to_floats(codes[0], w);
    signed_to_floats(codes[1], w + 4);
    scale(w, d);
}

struct Q8_0 {
    static constexpr int weights = 32, bytes = 34;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        decode_bytes<2>(block + 2 + 8 * part, load_half(block), w);
    }
};

struct Q8_1 {
    static constexpr int weights = 32, bytes = 36;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        decode_bytes<4>(block + 4 + 8 * part, load_half(block), w);
    }
};

struct Q1_0 {
    static constexpr int weights = 128, bytes = 18;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        const u32 bits = block[2 + part];
        const u32 codes[2] = {spread_bits(bits) << 1, spread_bits(bits >> 4) << 1};
        both_to_floats(codes, 1, w);
        scale(w, load_half(block));
    }
};

struct Q2_0 {
    static constexpr int weights = 64, bytes = 18;
    static DEVICE void decode(const u8* block, u32 part, const void*, float* w) {
        const u32 pairs = load_u16(block + 2 + 2 * part);
        const u32 codes[2] = {spread_pairs(pairs & 255), spread_pairs(pairs >> 8)};
        both_to_floats(codes, 1, w);
        scale(w, load_half(block));
    }
};

DEQUANTIZE(Q4_0, dequantize_blocks)
DEQUANTIZE(Q4_1, dequantize_blocks)
DEQUANTIZE(Q5_0, dequantize_blocks)
DEQUANTIZE(Q5_1, dequantize_blocks)
DEQUANTIZE(Q8_0, dequantize_blocks)
DEQUANTIZE(Q8_1, dequantize_blocks)
DEQUANTIZE(Q1_0, dequantize_blocks)
DEQUANTIZE(Q2_0, dequantize_blocks)
