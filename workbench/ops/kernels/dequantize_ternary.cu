// TQ1_0 and TQ2_0, weights -d, 0 and d, to float32 or float16, bit-equal to ggml.
//
//     TQ2_0  2 bits a code, which lie as those of Q2_K (dequantize_k.cu)
//     TQ1_0  5 codes a byte in base 3: (byte 3**n mod 256) 3 / 256 is digit n
//
// Grid, shapes: blocks.cuh. Why it is fast: also, each multiplication serves two bytes.
// NumPy twin: workbench/quants/ternary.py, which draws the runs of TQ1_0.
// Measured on an NVIDIA H200, 4096 x 14336 to float16, GB/s of bytes read and written:
//     TQ1_0 3359   TQ2_0 3499

// Digit n of each of the four bytes.
DEVICE u32 digits(u32 packed, u32 n) {
    const u32 power = (u32)(0x511B090301ull >> 8 * n) & 255;  // 3**n
    const u32 even = ((packed & 0x00FF00FF) * power & 0x00FF00FF) * 3 >> 8 & 0x00FF00FF;
    const u32 odd = ((packed >> 8 & 0x00FF00FF) * power & 0x00FF00FF) * 3 & 0xFF00FF00;
    return even | odd;
}

// Part p has digit n of 8 bytes; parts 30 and 31 have digits n and n + 1 of the last 4 bytes.
struct TQ1_0 {
    static constexpr int weights = 256, bytes = 54;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        const bool last = p >= 30;
        const u32 byte = p < 20 ? (p & 3) * 8 : last ? 48 : 32 + (p & 1) * 8;
        const u32 n = p < 20 ? p >> 2 : last ? (p & 1) * 2 : (p - 20) >> 1;
        u32 first[1], second[1];
        load_words<2>(block + byte, first);
        load_words<2>(block + (last ? 48 : byte + 4), second);
        to_floats(digits(first[0], n), 1, w);
        to_floats(digits(second[0], last ? n + 1 : n), 1, w + 4);
        scale(w, load_half(block + 52));
    }
};

struct TQ2_0 {
    static constexpr int weights = 256, bytes = 66;
    static DEVICE void decode(const u8* block, u32 p, const void*, float* w) {
        u32 codes[2];
        load_words<2>(block + (p >> 4) * 32 + (p & 3) * 8, codes);
        for (int i = 0; i < 2; i++)
            to_floats(codes[i] >> (p >> 1 & 6) & 0x03030303, 1, w + 4 * i);
        scale(w, load_half(block + 64));
    }
};

DEQUANTIZE(TQ1_0, dequantize_blocks)
DEQUANTIZE(TQ2_0, dequantize_blocks)
