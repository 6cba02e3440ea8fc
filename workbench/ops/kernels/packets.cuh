// Products of packets (16 rows of weights) with activations on the tensor cores: what types share.
//
//     Packets##TYPE::columns             of a whole packet
//     Packets##TYPE::bytes(n)            of a packet with n columns
//     Packets##TYPE::Planes              what it is multiplied with: Digits, Halves or Brains
//     Packets##TYPE::has_minima          whether that needs its sums16
//     Packets##TYPE::multiply(packet, x, first_column, n_columns, lane, sums)
//
// `multiply` is called by a whole warp; packet (n_columns wide, at column first_column of the row)
// and x are in shared memory. It adds to sums[0] (sums[1]) this lane's part of row g (g + 8) in
// units of x.scale; the row's sum is that of the lanes t = 0..3. Lane = 4 g + t.
//
// Weights become bytes, A, 16 rows x 32 columns a product; B: the four planes of digits.
// Codes have scales, so the sums of each block of 32 (or 16) columns are needed apart. Of the eight
// columns of B, 0..3 are the digits of side 0 of a step of 64 columns, 4..7 those of side 1:
//
//                  t = 0     t = 1     t = 2     t = 3
//     sums of      d0 d1     d2 d3     d0 d1     d2 d3       factor 1 for t even, 2^-16 for t odd
//                  side 0    side 0    side 1    side 1
//
// Blocks of 32 take two products, one a side; a lane uses that of its own side. With groups of 16,
// one product has two groups, of side 0 and of side 1 with the same h, and B has zeros where column
// and group are of different sides.
// Why it is fast: no weight becomes a float; 1024 weights of Q4_0 take two products and 28 other
// instructions of a warp; codes and digits are loaded 16 bytes a lane, without bank conflicts.
// Layout of packets: workbench/ops/packets.py. NumPy twin of a product: dequantize, then @.
// Measured on an NVIDIA H200: weights a clock and SM of 16 warps, packets already in shared memory,
// and how often that is the 4.3 TB/s at which the memory delivers them (8 warps: 78 to 98 % of it):
//     F16 42 5.1x     Q8_0 89 5.7x    Q4_0 98 3.4x    Q4_1 70 2.7x    Q5_0 74 3.1x    Q5_1 61 2.8x
//     BF16 42 5.1x    Q6_K 70 3.5x    Q4_K 77 2.7x    Q5_K 59 2.5x    Q3_K 68 1.8x    Q2_K 63 1.3x
//     IQ4_NL 49 1.7x  IQ4_XS 44 1.4x  MXFP4 41 1.3x
// (Q8_0, Q4_0, Q4_K and IQ4_NL in their present form; the other blocks of 32 before they had one
// product a side: Q4_0 was 85 with zeros in B instead.)
// The schedulers issue half of the time; waits for shared memory and fixed latencies are the rest.
// Tried: masks for the zeros of B (K-quants 3 to 8 % slower), two chunks of K-quants at once (up to
// 9 % slower), eight steps at once instead of four (Q4_0 5 % faster, Q8_0 10 % slower).

// --- where a lane stands -------------------------------------------------------------------------

struct Place {
    int g, t, side, row;  // side: whose sums it gets; row: whose minima it adds, 0: g, 1: g + 8
    DEVICE Place(int lane) : g(lane >> 2), t(lane & 3), side(t >> 1), row(t & 1) {}
    // The weight of what the lane has: digits d2 d3 count 2^-16.
    DEVICE float factor() const { return row ? 0x1p-16f : 1; }
};

DEVICE u32 load4(const u8* from) { return *(const u32*)from; }
DEVICE uint2 load8(const u8* from) { return *(const uint2*)from; }
DEVICE uint4 load16(const u8* from) { return *(const uint4*)from; }

DEVICE float low_half(u32 pair) { return from_half((u16)pair); }
DEVICE float high_half(u32 pair) { return from_half((u16)(pair >> 16)); }

// --- B -------------------------------------------------------------------------------------------

// The digits of a step for groups of 16, half h: low for those of side 0, high for side 1.
// A product with 0 or 1 instead of a mask: other units than those busy with the codes' bits.
struct Columns {
    u32 low[2], high[2];
    DEVICE Columns(uint2 b, u32 side)
        : low{b.x * (1 - side), b.y * (1 - side)}, high{b.x * side, b.y * side} {}
};

// Reads the digits of a lane from column `first` on, 128 columns at a time: two steps, halves 0, 1.
struct DigitReader {
    const u8* from;
    DEVICE DigitReader(const Digits& x, int first, int lane)
        : from(x.planes + (lane >> 2 & 3) * x.stride + (lane >> 4) * 64 + (lane & 3) * 16 + first) {
    }
    DEVICE uint4 load(int column) const { return load16(from + column); }
    static DEVICE uint2 even(uint4 words) { return make_uint2(words.x, words.y); }
    static DEVICE uint2 odd(uint4 words) { return make_uint2(words.z, words.w); }
};

// --- a step of 64 columns ------------------------------------------------------------------------

// Blocks of 32; a: fragments 4 b + 2 h + r. c[b]: the sums of row g in 0, 1, of row g + 8 in 2, 3.
DEVICE void multiply_blocks(int (&c)[2][4], const u32 (&a)[8], uint2 b) {
    mma_s8(c[0], a[0], a[1], a[2], a[3], b.x, b.y);
    mma_s8(c[1], a[4], a[5], a[6], a[7], b.x, b.y);
}

// The same with unsigned codes.
DEVICE void multiply_unsigned_blocks(int (&c)[2][4], const u32 (&a)[8], uint2 b) {
    mma_u8(c[0], a[0], a[1], a[2], a[3], b.x, b.y);
    mma_u8(c[1], a[4], a[5], a[6], a[7], b.x, b.y);
}

// Groups of 16; a: fragments 4 h + 2 b + r. c[h]: the sums of half h.
DEVICE void multiply_groups(int (&c)[2][4], const u32 (&a)[8], const Columns& b) {
    mma_s8(c[0], a[0], a[1], a[2], a[3], b.low[0], b.high[0]);
    mma_s8(c[1], a[4], a[5], a[6], a[7], b.low[1], b.high[1]);
}

// The two digits' sums as one: up to 2^28.
DEVICE float join_digits(int first, int second) { return (float)(first * 256 + second); }

// The same of row g or g + 8, from the sums of both blocks those of this lane's side.
DEVICE float join_side(const int (&c)[2][4], int row, int side) {
    int joined = c[0][2 * row] * 256 + c[0][2 * row + 1];
    if (side) joined = c[1][2 * row] * 256 + c[1][2 * row + 1];
    return (float)joined;
}

// --- codes of a lane's words to fragments --------------------------------------------------------
// The pictures of the words are in workbench/ops/packet_words.py.

// Signed 6-bit codes, times 4.
DEVICE void split_triple(u32 w0, u32 w1, u32 w2, u32* a) {
    a[0] = w0 & 0xFCFCFCFC, a[1] = w1 & 0xFCFCFCFC, a[2] = w2 & 0xFCFCFCFC;
    a[3] = (w0 << 6 & 0xC0C0C0C0) | (w1 << 4 & 0x30303030) | (w2 << 2 & 0x0C0C0C0C);
}

// Unsigned 6-bit codes.
DEVICE void split_unsigned_triple(u32 w0, u32 w1, u32 w2, u32* a) {
    a[0] = w0 & 0x3F3F3F3F, a[1] = w1 & 0x3F3F3F3F, a[2] = w2 & 0x3F3F3F3F;
    a[3] = (w0 >> 2 & 0x30303030) | (w1 >> 4 & 0x0C0C0C0C) | (w2 >> 6 & 0x03030303);
}

// 5-bit codes of a step, times 8; w: words 0..3.
DEVICE void split_fives(uint4 w, u32 fifth, u32 (&a)[8]) {
    const u32 top = 0xF8F8F8F8, three = 0xE0E0E0E0, two = 0x18181818;
    a[0] = w.x & top, a[1] = w.y & top, a[2] = w.z & top, a[3] = w.w & top, a[4] = fifth & top;
    a[5] = (w.x << 5 & three) | (w.y << 3 & two);
    a[6] = (w.z << 5 & three) | (w.w << 3 & two);
    a[7] = (fifth << 5 & three) | (w.y << 2 & 0x10101010) | (w.w << 1 & 0x08080808);
}

// Sixteen levels for codes of 4 bits. A product with `low` and one with `high` add up to the level:
// prmt reads its table by three bits of a code, and with the fourth set gives the table entry's
// sign instead, 0 or -1, which the other table makes good.
struct Levels {
    u32 low[2], high[2];  // eight bytes each
    // `zero` is 0; the compiler does not know it, and so keeps the tables in registers.
    DEVICE Levels(u32 low0, u32 low1, u32 high0, u32 high1, u32 zero)
        : low{low0 + zero, low1 + zero}, high{high0 + zero, high1 + zero} {}
    DEVICE void look_up(u32 codes, u32& from_low, u32& from_high) const {
        from_low = pick_bytes(low[0], low[1], codes);
        from_high = pick_bytes(high[0], high[1], codes ^ 0x8888);
    }
    // c += the levels of a step's four words of `compact` times the digits.
    DEVICE void multiply(int (&c)[2][4], uint4 w, uint2 b) const {
        const u32 words[4] = {w.x, w.y, w.z, w.w};
        u32 first[8], second[8];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int k = 4 * (i >> 1) + (i & 1);
            look_up(words[i], first[k], second[k]);
            look_up(words[i] >> 16, first[k + 2], second[k + 2]);
        }
        multiply_blocks(c, first, b);
        multiply_blocks(c, second, b);
    }
};
