// Packets of types over 16 levels: IQ4_NL, MXFP4 (blocks of 32), IQ4_XS (256).
//
//     IQ4_NL  w = level[q] d     MXFP4  w = level[q] 2^(e-128)     IQ4_XS  w = level[q] d (ls - 32)
//
// `Levels` (packets.cuh) looks a code up twice, in tables with
//
//     low[q] + sign(high[q]) = level[q]      high[q] + sign(low[q]) = level[q + 8]      q = 0..7
//
// where sign is -1 or 0: IQ4_NL has low = level, high = level[q + 8] + 1; MXFP4 low = level + 1
// (but low[0] = 0), high = level[q + 8].
// What a packet is: packets.py; why it is fast: packets.cuh; the products are twice as many, but
// look-ups are four instructions for four weights instead of six.
// Follows packets_legacy.cuh and packets_k.cuh.

// -127 -104 -83 -65 -49 -35 -22 -10 | 1 13 25 38 53 69 89 113, these plus 1.
DEVICE Levels levels_of_iq4(u32 zero) {
    return Levels(0xBFAD9881, 0xF6EADDCF, 0x271A0E02, 0x725A4636, zero);
}

// 0 1 2 3 4 6 8 12, these plus 1 but for the 0 | 0 -1 -2 -3 -4 -6 -8 -12.
DEVICE Levels levels_of_mxfp4(u32 zero) {
    return Levels(0x04030200, 0x0D090705, 0xFDFEFF00, 0xF4F8FAFC, zero);
}

struct CodesIQ4_NL : HalfScales {
    static constexpr int columns = 512, quant_bytes = 512;
    static constexpr bool has_minima = false;
    static constexpr float factor = 1;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int n_steps, int lane,
                                uint2 b) {
        levels_of_iq4(n_steps >> 24).multiply(c, load16(quants + s * 512 + lane * 16), b);
    }
};

struct CodesMXFP4 {
    static constexpr int columns = 512, quant_bytes = 512, scale_bytes = 1;
    static constexpr bool has_minima = false;
    static constexpr float factor = 1;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int n_steps, int lane,
                                uint2 b) {
        levels_of_mxfp4(n_steps >> 24).multiply(c, load16(quants + s * 512 + lane * 16), b);
    }
    // 2^(e - 128); 0 instead of the two that float32 has only as subnormal numbers.
    static DEVICE float power(u32 e) { return as_float((e > 0 ? e - 1 : 0) << 23); }
    static DEVICE void scales(float (&d)[2], const u8* from) {
        const u32 pair = *(const u16*)from;
        d[0] = power(pair & 255), d[1] = power(pair >> 8);
    }
};

struct CodesIQ4_XS {
    static constexpr int columns = 512, quant_bytes = 512, chunk_bytes = 2176, header_bytes = 128;
    static constexpr bool has_minima = false;
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int n_steps, int lane,
                                uint2 b) {
        levels_of_iq4(n_steps >> 24).multiply(c, load16(quants + s * 512 + lane * 16), b);
    }
    static DEVICE void split_scales(uint4 header, u32 (&a)[4]) {
        split_triple(header.y, header.z, header.w, a);
    }
    static DEVICE int scale(u32 four, int s) { return (int)(signed char)(four >> 8 * s); }
    static DEVICE float factor(int) { return 1 / 4.0f; }
};

typedef SmallBlocks<CodesIQ4_NL> PacketsIQ4_NL;
typedef SmallBlocks<CodesMXFP4> PacketsMXFP4;
typedef BigBlocks<CodesIQ4_XS> PacketsIQ4_XS;
