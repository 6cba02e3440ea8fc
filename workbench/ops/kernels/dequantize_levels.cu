// Types over a table of 16 levels, IQ4_NL IQ4_XS MXFP4 NVFP4, to float32 or float16, bit-equal to
// ggml.
//
//     IQ4_NL, MXFP4, NVFP4  w = level[q] d     IQ4_XS  w = level[q] (d (ls - 32))
//
// `table` holds the 16 int8 levels.
// Grid, shapes: blocks.cuh. Why it is fast: also, the levels stay in four registers, where one prmt
// instruction looks four codes up in eight of them: no memory is read for a code.
// NumPy twins: workbench/quants/iq4.py and mx.py, which draw the structs.
// Measured on an NVIDIA H200, 4096 x 14336 to float16, GB/s of bytes read and written:
//     IQ4_NL 3422   IQ4_XS 3803   MXFP4 3275   NVFP4 3803

// Eight bytes of `qs`, of which the low (shift 0) or high (4) nibbles are the codes -> w.
template <int ALIGNED>
DEVICE void look_up(const u8* qs, u32 shift, const void* table, float* w) {
    const uint4 levels = *static_cast<const uint4*>(table);
    u32 codes[2];
    load_words<ALIGNED>(qs, codes);
    for (int i = 0; i < 2; i++) {
        u32 four = codes[i] >> shift & 0x0F0F0F0F;
        four = (four | four >> 4) & 0x00FF00FF;
        four |= four >> 8;  // the four codes in its low 16 bits
        const u32 lower = pick_bytes(levels.x, levels.y, four & 0x7777);
        const u32 upper = pick_bytes(levels.z, levels.w, four & 0x7777);
        const u32 which = 0x3210 | (four & 0x8888) >> 1;  // byte j of lower, or j + 4: of upper
        signed_to_floats(pick_bytes(lower, upper, which), w + 4 * i);
    }
}

struct IQ4_NL {
    static constexpr int weights = 32, bytes = 18;
    static DEVICE void decode(const u8* block, u32 part, const void* table, float* w) {
        look_up<2>(block + 2 + 8 * (part & 1), (part >> 1) * 4, table, w);
        scale(w, load_half(block));
    }
};

struct IQ4_XS {
    static constexpr int weights = 256, bytes = 136;
    static DEVICE void decode(const u8* block, u32 p, const void* table, float* w) {
        look_up<8>(block + 8 + (p >> 2) * 16 + (p & 1) * 8, (p & 2) * 2, table, w);
        u32 header[2];  // d, scales_h; scales_l
        load_words<8>(block, header);
        const u32 j = p >> 2, low = header[1] >> 4 * j & 15, high = header[0] >> (16 + 2 * j) & 3;
        scale(w, multiply(from_half((u16)header[0]), (float)(int)(low | high << 4) - 32.0f));
    }
};

// Half of 2**(e - 127): an exponent field of its own, or a bit of a subnormal number.
DEVICE float half_e8m0(u32 e) { return as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23); }

struct MXFP4 {
    static constexpr int weights = 32, bytes = 17;
    static DEVICE void decode(const u8* block, u32 part, const void* table, float* w) {
        look_up<1>(block + 1 + 8 * (part & 1), (part >> 1) * 4, table, w);
        scale(w, half_e8m0(block[0]));
    }
};

// Half of a UE4M3 number: its seven bits in float32's places, times 2**(127 - 7 - 1).
DEVICE float half_ue4m3(u32 byte) {
    const u32 number = byte == 0x7F ? 0 : byte & 0x7F;  // 0x7F reads as 0, 0xFF does not
    return multiply(as_float(number << 20), 0x1p119f);
}

struct NVFP4 {
    static constexpr int weights = 64, bytes = 36;
    static DEVICE void decode(const u8* block, u32 part, const void* table, float* w) {
        look_up<4>(block + 4 + (part >> 1) * 8, (part & 1) * 4, table, w);
        scale(w, half_ue4m3(block[part >> 1]));
    }
};

DEQUANTIZE(IQ4_NL, dequantize_blocks)
DEQUANTIZE(IQ4_XS, dequantize_blocks)
DEQUANTIZE(MXFP4, dequantize_blocks)
DEQUANTIZE(NVFP4, dequantize_blocks)
