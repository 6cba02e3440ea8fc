// Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K to float32 or float16, bit-equal to ggml.
//
//     Q2_K, Q4_K, Q5_K  w = (d sc) q - dmin m     Q3_K  w = (d (sc - 32)) q
//     Q6_K              w = (d sc) q              Q8_K  w = d q
//
// with sc and m of a sub-block of 16 or 32 weights.
//
// Part p (0..31) has the weights 8p..8p+7. Codes of 2 bits (and Q6_K's upper ones) lie so:
//
//     p   4 3 2 1 0
//         h s s r r     bytes 32 h + 8 r .. + 7, bits 2s and 2s + 1
//
// those of 4 bits as  h s n r r:  bytes 32 (2h + s) + 8 r .. + 7, low (n = 0) or high nibbles.
// Grid, shapes: blocks.cuh. Why it is fast: also, the 8 codes of a part lie in 8 consecutive bytes,
// so one shift and one mask take four of them out.
// NumPy twin: workbench/quants/k_quants.py, which draws the structs.
// Measured on an NVIDIA H200, 4096 x 14336 to float16, GB/s of bytes read and written:
//     Q2_K 3576   Q3_K 3272   Q4_K 3846   Q5_K 3817   Q6_K 3410   Q8_K 3921

// Eight fields of 1, 2 or 4 bits: those from bit `shift` on of eight bytes.
template <int ALIGNED>
DEVICE void fields(const u8* from, u32 shift, u32 mask, u32 (&codes)[2]) {
    load_words<ALIGNED>(from, codes);
    for (u32& word : codes) word = word >> shift & mask;
}

DEVICE void both_to_floats(const u32 (&codes)[2], float bias, float* w) {
    to_floats(codes[0], bias, w);
    to_floats(codes[1], bias, w + 4);
}

// q (d sc) - dmin m, for a header of float16 d and dmin.
DEVICE void scale_and_lower(float* w, float d, float dmin, u32 sc, u32 m) {
    const float low = multiply(dmin, (float)m);
    scale(w, multiply(d, (float)sc));
    for (int j = 0; j < 8; j++) w[j] = subtract(w[j], low);
}

struct Q2_K {
    static constexpr int weights = 256, bytes = 84;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        u32 codes[2];
        fields<4>(block + 16 + (p >> 4) * 32 + (p & 3) * 8, (p >> 1) & 6, 0x03030303, codes);
        both_to_floats(codes, 0, w);
        const u32 scales = block[p >> 1];
        scale_and_lower(w, load_half(block + 80), load_half(block + 82), scales & 15, scales >> 4);
    }
};

struct Q3_K {
    static constexpr int weights = 256, bytes = 110;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        u32 codes[2], third[2];
        fields<2>(block + 32 + (p >> 4) * 32 + (p & 3) * 8, (p >> 1) & 6, 0x03030303, codes);
        fields<2>(block + (p & 3) * 8, p >> 2, 0x01010101, third);
        for (int i = 0; i < 2; i++) codes[i] |= third[i] << 2;
        both_to_floats(codes, 4, w);
        const u8* scales = block + 96;  // k_quants.q3_k_scales draws them
        const u32 j = p >> 1, low = scales[j & 7] >> (j >> 3) * 4 & 15;
        const u32 high = scales[8 + (j & 3)] >> (j >> 2) * 2 & 3;
        scale(w, multiply(load_half(block + 108), (float)(int)(low | high << 4) - 32.0f));
    }
};

// The first 16 bytes of Q4_K and Q5_K, for sub-block j: d, dmin and its two 6-bit scales.
//
//     bytes 4..7    7,6 high bits of sc[4..7]    5..0 sc[0..3]
//     bytes 8..11   7,6 high bits of m[4..7]     5..0 m[0..3]
//     bytes 12..15  7..4 low bits of m[4..7]     3..0 low bits of sc[4..7]
DEVICE void scale_by_header(float* w, const u8* block, u32 j) {
    u32 header[4];
    load_words<16>(block, header);
    const u32 shift = 8 * (j & 3);
    const u32 sc = header[1] >> shift, m = header[2] >> shift, low = header[3] >> shift;
    const bool upper = j >= 4;
    scale_and_lower(w, from_half((u16)header[0]), from_half((u16)(header[0] >> 16)),
                    upper ? (low & 15) | (sc >> 2 & 48) : sc & 63,
                    upper ? (low >> 4 & 15) | (m >> 2 & 48) : m & 63);
}

struct Q4_K {
    static constexpr int weights = 256, bytes = 144;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        u32 codes[2];
        fields<8>(block + 16 + (p >> 3) * 32 + (p & 3) * 8, p & 4, 0x0F0F0F0F, codes);
        both_to_floats(codes, 0, w);
        scale_by_header(w, block, p >> 2);
    }
};

struct Q5_K {
    static constexpr int weights = 256, bytes = 176;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        u32 codes[2], fifth[2];
        fields<8>(block + 48 + (p >> 3) * 32 + (p & 3) * 8, p & 4, 0x0F0F0F0F, codes);
        fields<8>(block + 16 + (p & 3) * 8, p >> 2, 0x01010101, fifth);
        for (int i = 0; i < 2; i++) codes[i] |= fifth[i] << 4;
        both_to_floats(codes, 0, w);
        scale_by_header(w, block, p >> 2);
    }
};

// Its low four bits lie as  h n s r r: bytes 64 h + 32 s + 8 r .. + 7, low or high nibbles.
struct Q6_K {
    static constexpr int weights = 256, bytes = 210;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        u32 codes[2], high[2];
        fields<2>(block + (p >> 4) * 64 + (p & 7) * 8, (p >> 1) & 4, 0x0F0F0F0F, codes);
        fields<2>(block + 128 + (p >> 4) * 32 + (p & 3) * 8, (p >> 1) & 6, 0x03030303, high);
        for (int i = 0; i < 2; i++) codes[i] |= high[i] << 4;
        both_to_floats(codes, 32, w);
        scale(w, multiply(load_half(block + 208), (float)(signed char)block[192 + (p >> 1)]));
    }
};

struct Q8_K {
    static constexpr int weights = 256, bytes = 292;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        u32 codes[2], d[1];
        load_words<4>(block + 4 + 8 * p, codes);
        load_words<4>(block, d);
        signed_to_floats(codes[0], w);
        signed_to_floats(codes[1], w + 4);
        scale(w, as_float(d[0]));
    }
};

DEQUANTIZE(Q2_K, dequantize_blocks)
DEQUANTIZE(Q3_K, dequantize_blocks)
DEQUANTIZE(Q4_K, dequantize_blocks)
DEQUANTIZE(Q5_K, dequantize_blocks)
DEQUANTIZE(Q6_K, dequantize_blocks)
DEQUANTIZE(Q8_K, dequantize_blocks)
