// Packets of types with 256 weights a block: Q2_K to Q6_K, and IQ4_XS through packets_levels.cuh.
//
//     Q4_K, Q5_K   w = d sc q - dmin m      8 blocks of 32, sc and m 6 bits       BigBlocks
//     Q2_K         w = d sc q - dmin m      16 groups of 16, sc and m 4 bits      BigGroups
//     Q3_K, Q6_K   w = d sc q               16 groups of 16                       BigGroups
//
// The integer scales multiply the integer sums: nothing is rounded before d. The sums of a chunk of
// 256 columns, of one digit and side, are below 2^29: 248 * 128 * 128 * 63, 128 * 128 * 128 * 128.
// What a packet is: packets.py; why it is fast: packets.cuh; also, a header is read once for 256
// columns, and the four lanes of a quad share the minima.

// Sums of row g and g + 8 over a chunk: of the first and the second digit, each times its scales.
struct ChunkSums {
    int first[2] = {0, 0}, second[2] = {0, 0};
    DEVICE void add(int row, int scale, int c0, int c1) {
        first[row] += scale * c0;
        second[row] += scale * c1;
    }
    DEVICE float join(int row) const { return (float)first[row] * 256 + (float)second[row]; }
};

// The lane's share of the row's minima is taken off; codes and scales were too large by 1 / factor.
DEVICE void add_totals(const float (&totals)[2], float low, float factor, const Place& at,
                       float (&sums)[2]) {
    sums[0] += totals[0] * (factor * at.factor()) - (at.row ? 0 : low);
    sums[1] += totals[1] * (factor * at.factor()) - (at.row ? low : 0);
}

// --- 8 blocks of 32 ------------------------------------------------------------------------------

// Of four fragments of scales, 2 b + r, those of a lane's side, both rows: byte s is step s.
DEVICE void pick_side(const u32 (&a)[4], int side, u32 (&rows)[2]) {
    rows[0] = side ? a[2] : a[0];
    rows[1] = side ? a[3] : a[1];
}

DEVICE float byte_of(u32 word, int i) { return (float)pick_bytes(word, 0, 0x4440 + i); }

// The sum of m times the activations' sums: four blocks of side t / 2, row t % 2.
DEVICE float sum_minima(uint4 header, const float* sums16, const Place& at) {
    u32 all[4], rows[2];
    split_unsigned_triple(header.y, header.z, header.w, all);
    pick_side(all, at.side, rows);
    const u32 m = at.row ? rows[1] : rows[0];
    const float4* sums = (const float4*)(sums16 + at.side * 8);
    const float4 s01 = sums[0], s23 = sums[1];
    const float low =
        byte_of(m, 0) * (s01.x + s01.y) + byte_of(m, 1) * (s01.z + s01.w) +
        byte_of(m, 2) * (s23.x + s23.y) + byte_of(m, 3) * (s23.z + s23.w);
    return low * (at.row ? high_half(header.x) : low_half(header.x));
}

template <class Codes>
struct BigBlocks {
    typedef Digits Planes;
    static constexpr int columns = Codes::columns;
    static constexpr bool has_minima = Codes::has_minima;
    static DEVICE int bytes(int n_columns) { return n_columns / 256 * Codes::chunk_bytes; }

    static DEVICE void multiply(const u8* packet, const Digits& x, int first_column, int n_columns,
                                int lane, float (&sums)[2]) {
        const Place at(lane);
        const DigitReader digits(x, first_column, lane);
        const u8* header = packet + n_columns / 64 * Codes::quant_bytes + at.g * 16;
        float totals[2] = {0, 0}, low = 0;
        for (int column = 0; column < n_columns; column += 256, header += Codes::header_bytes) {
            const uint4 d = load16(header);
            u32 all[4], sc[2];
            Codes::split_scales(d, all);
            pick_side(all, at.side, sc);
            ChunkSums chunk;
#pragma unroll
            for (int s = 0; s < 4; s += 2) {
                const uint4 words = digits.load(column + s * 64);
                const int at_step = column / 64 + s, n_steps = n_columns / 64;
                step(chunk, packet, at_step, n_steps, lane, digits.even(words), sc, s, at.side);
                step(chunk, packet, at_step + 1, n_steps, lane, digits.odd(words), sc, s + 1,
                     at.side);
            }
            totals[0] += low_half(d.x) * chunk.join(0);
            totals[1] += high_half(d.x) * chunk.join(1);
            if (Codes::has_minima)
                low += sum_minima(load16(header + 128), x.sums16 + (first_column + column) / 16,
                                  at);
        }
        add_totals(totals, low, Codes::factor(at.side), at, sums);
    }

    static DEVICE void step(ChunkSums& chunk, const u8* quants, int step, int n_steps, int lane,
                            uint2 b, const u32 (&sc)[2], int s, int side) {
        int c[2][4] = {};
        Codes::products(c, quants, step, n_steps, lane, b);
#pragma unroll
        for (int row = 0; row < 2; row++) {
            const int scale = Codes::scale(sc[row], s);
            if (side) chunk.add(row, scale, c[1][2 * row], c[1][2 * row + 1]);
            else chunk.add(row, scale, c[0][2 * row], c[0][2 * row + 1]);
        }
    }
};

// The header of Q4_K and Q5_K.
struct SixBitScales {
    static constexpr int columns = 512, header_bytes = 256;
    static constexpr bool has_minima = true;
    static DEVICE void split_scales(uint4 header, u32 (&a)[4]) {
        split_unsigned_triple(header.y, header.z, header.w, a);
    }
    static DEVICE int scale(u32 four, int s) { return (int)pick_bytes(four, 0, 0x4440 + s); }
};

// The codes of side 1 stay where they are, 16 times too large.
struct CodesQ4_K : SixBitScales {
    static constexpr int quant_bytes = 512, chunk_bytes = 2304;
    static DEVICE float factor(int side) { return side ? 1 / 16.0f : 1; }
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int, int lane,
                                uint2 b) {
        const uint4 w = load16(quants + s * 512 + lane * 16);
        const u32 low = 0x0F0F0F0F, high = 0xF0F0F0F0;
        multiply_unsigned_blocks(c, {w.x & low, w.y & low, w.z & low, w.w & low, w.x & high,
                                     w.y & high, w.z & high, w.w & high}, b);
    }
};

// Codes times 8.
struct CodesQ5_K : SixBitScales {
    static constexpr int quant_bytes = 640, chunk_bytes = 2816;
    static DEVICE float factor(int) { return 1 / 8.0f; }
    static DEVICE void products(int (&c)[2][4], const u8* quants, int s, int n_steps, int lane,
                                uint2 b) {
        u32 a[8];
        split_fives(load16(quants + s * 512 + lane * 16),
                    load4(quants + n_steps * 512 + s * 128 + lane * 4), a);
        multiply_unsigned_blocks(c, a, b);
    }
};

// --- 16 groups of 16 -----------------------------------------------------------------------------

// A type has `Scales` (read for a lane's side; of(row, s, h)), `minima`, and `fragments` of a step.
template <class Codes>
struct BigGroups {
    typedef Digits Planes;
    static constexpr int columns = Codes::columns;
    static constexpr bool has_minima = Codes::has_minima;
    static DEVICE int bytes(int n_columns) {
        return n_columns / 256 * (Codes::quant_bytes + Codes::header_bytes);
    }

    static DEVICE void multiply(const u8* packet, const Digits& x, int first_column, int n_columns,
                                int lane, float (&sums)[2]) {
        const Place at(lane);
        const DigitReader digits(x, first_column, lane);
        const u8 *quants = packet, *header = packet + n_columns / 256 * Codes::quant_bytes;
        float totals[2] = {0, 0}, low = 0;
        for (int column = 0; column < n_columns; column += 256) {
            const Codes codes(quants, header, at, lane);
            ChunkSums chunk;
#pragma unroll
            for (int s = 0; s < 4; s += 2) {
                const uint4 words = digits.load(column + s * 64);
                step(chunk, codes, Columns(digits.even(words), lane >> 4), s);
                step(chunk, codes, Columns(digits.odd(words), lane >> 4), s + 1);
            }
            totals[0] += low_half(codes.d) * chunk.join(0);
            totals[1] += high_half(codes.d) * chunk.join(1);
            if (Codes::has_minima)
                low += Codes::minima(header, x.sums16 + (first_column + column) / 16, at);
            quants += Codes::quant_bytes, header += Codes::header_bytes;
        }
        add_totals(totals, low, Codes::factor(at.side), at, sums);
    }

    static DEVICE void step(ChunkSums& chunk, const Codes& codes, const Columns& b, int s) {
        u32 a[8];
        int c[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
        codes.fragments(s, a);
        multiply_groups(c, a, b);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            chunk.add(0, codes.scale(0, s, h), c[h][0], c[h][1]);
            chunk.add(1, codes.scale(1, s, h), c[h][2], c[h][3]);
        }
    }
};

DEVICE int signed_byte(u32 word, int i) { return (int)(signed char)(word >> 8 * i); }

// The words of a lane, 16 bytes at a time, 512 bytes apart.
template <int N>
struct LaneWords {
    u32 words[4 * N];
    DEVICE LaneWords(const u8* from) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const uint4 w = load16(from + i * 512);
            words[4 * i] = w.x, words[4 * i + 1] = w.y;
            words[4 * i + 2] = w.z, words[4 * i + 3] = w.w;
        }
    }
};

// Triples, codes times 4; scales int8.
struct CodesQ6_K {
    static constexpr int columns = 256, quant_bytes = 3072, header_bytes = 288;
    static constexpr bool has_minima = false;
    static DEVICE float factor(int) { return 1 / 4.0f; }
    static DEVICE float minima(const u8*, const float*, const Place&) { return 0; }

    LaneWords<6> lane;
    u32 sc[4], d;
    DEVICE CodesQ6_K(const u8* quants, const u8* header, const Place& at, int lane)
        : lane(quants + lane * 16), d(load4(header + 256 + at.g * 4)) {
        const uint4 words = load16(header + at.g * 32 + at.side * 16);
        sc[0] = words.x, sc[1] = words.y, sc[2] = words.z, sc[3] = words.w;
    }
    DEVICE int scale(int row, int s, int h) const {
        return signed_byte(sc[row * 2 + s / 2], s % 2 * 2 + h);
    }
    DEVICE void fragments(int s, u32 (&a)[8]) const {
        const u32* w = lane.words + 6 * s;
        split_triple(w[0], w[1], w[2], a);
        split_triple(w[3], w[4], w[5], a + 4);
    }
};

// Threes, codes times 32; scales in triples, times 4.
struct CodesQ3_K {
    static constexpr int columns = 512, quant_bytes = 1536, header_bytes = 224;
    static constexpr bool has_minima = false;
    static DEVICE float factor(int) { return 1 / 128.0f; }
    static DEVICE float minima(const u8*, const float*, const Place&) { return 0; }

    LaneWords<3> lane;
    u32 sc[4], d;
    DEVICE CodesQ3_K(const u8* quants, const u8* header, const Place& at, int lane)
        : lane(quants + lane * 16), d(load4(header + 192 + at.g * 4)) {
        const u8* from = header + at.g * 8 + at.side * 4;
        split_triple(load4(from), load4(from + 64), load4(from + 128), sc);
    }
    DEVICE int scale(int row, int s, int h) const { return signed_byte(sc[row * 2 + h], s); }
    DEVICE void fragments(int s, u32 (&a)[8]) const {
        const u32 *w = lane.words + 3 * s, mask = 0xE0E0E0E0, two = 0xC0C0C0C0, one = 0x20202020;
#pragma unroll
        for (int k = 0; k < 3; k++) {
            a[2 * k] = w[k] & mask;
            a[2 * k + 1] = w[k] << 3 & mask;
        }
        a[6] = (w[0] << 6 & two) | (w[1] << 5 & one);
        a[7] = (w[2] << 6 & two) | (w[1] << 4 & one);
    }
};

// Pairs: the codes of side 1 stay where they are, 16 times too large.
struct CodesQ2_K {
    static constexpr int columns = 512, quant_bytes = 1024, header_bytes = 320;
    static constexpr bool has_minima = true;
    static DEVICE float factor(int side) { return side ? 1 / 16.0f : 1; }
    // Eight groups of side t / 2, row t % 2.
    static DEVICE float minima(const u8* header, const float* sums16, const Place& at) {
        const u32 m = load4(header + 128 + at.g * 16 + at.t * 4);
        const u32 dmin = load4(header + 288 + at.g * 4);
        const float4* sums = (const float4*)(sums16 + at.side * 8);
        const float4 s01 = sums[0], s23 = sums[1];
        const float each[8] = {s01.x, s01.y, s01.z, s01.w, s23.x, s23.y, s23.z, s23.w};
        float low = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) low += (float)(m >> 4 * i & 15) * each[i];
        return low * (at.row ? high_half(dmin) : low_half(dmin));
    }

    LaneWords<2> lane;
    u32 sc[2], d;
    DEVICE CodesQ2_K(const u8* quants, const u8* header, const Place& at, int lane)
        : lane(quants + lane * 16), d(load4(header + 256 + at.g * 4)) {
        const uint2 words = load8(header + at.g * 16 + at.side * 8);
        sc[0] = words.x, sc[1] = words.y;
    }
    DEVICE int scale(int row, int s, int h) const { return (int)(sc[row] >> 8 * s + 4 * h & 15); }
    DEVICE void fragments(int s, u32 (&a)[8]) const {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const u32 w = lane.words[2 * s + r], next = w >> 2;
            a[r] = w & 0x03030303, a[2 + r] = w & 0x30303030;
            a[4 + r] = next & 0x03030303, a[6 + r] = next & 0x30303030;
        }
    }
};

typedef BigBlocks<CodesQ4_K> PacketsQ4_K;
typedef BigBlocks<CodesQ5_K> PacketsQ5_K;
typedef BigGroups<CodesQ2_K> PacketsQ2_K;
typedef BigGroups<CodesQ3_K> PacketsQ3_K;
typedef BigGroups<CodesQ6_K> PacketsQ6_K;
