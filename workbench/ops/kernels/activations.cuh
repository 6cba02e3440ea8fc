// A vector of activations in shared memory, as the B operand of the tensor cores, exactly.
//
//     Digits   x = v 2^(e-30),  v = rint(x 2^(30-e)) = d0 2^24 + d1 2^16 + d2 2^8 + d3,  d int8
//     Halves   x = (h0 + h1 / 2048) 2^(e-14)         h float16: 22 bits
//     Brains   x = b0 + b1 + b2                      b bfloat16, cut off: all 24 bits
//
// with 2^e above the largest |x| of the vector; where that is infinite or NaN, e is 129, and all
// products are NaN: of Digits, which have neither, by their scale. Plane n holds all d_n (h_n,
// b_n); columns n, n + 4 (Halves n + 2 k) of B are plane n. A sum over columns in units of `scale`
// is, for Digits, (sum of d0) 2^8 + (sum of d1) and 2^-16 times the same of d2, d3.
// sums16: the sums of 16 columns in the same unit, for weights with a minimum.
//
// Bytes of column c, with step s = c / 64, side b = c / 32 % 2, half h = c / 16 % 2, t = c / 4 % 4:
//
//     Digits   plane n: n stride + (c / 128) 128 + 64 b + 16 t + 8 (s % 2) + 4 h + c % 4
//     Halves, Brains:   n stride + (c / 32) 64 + 16 t + 8 h + 2 (c % 4)
//     sums16   number (c / 256) 16 + 8 b + 2 (s % 4) + h
//
// so that 16 bytes of a lane are what four products of Digits (two of the others) need, and the
// lanes of a load hit all banks once (strides are 64 more than a multiple of 128).
// NumPy twin: workbench/ops/planes.py.

// The e with largest < 2^e, at least -96: numbers far below 2^-96 become zero.
DEVICE int exponent_of(float largest) {
    const int e = (int)(as_bits(largest) >> 23 & 255) - 126;
    return e > -96 ? e : -96;
}

// 2^n, n = -126 .. 127.
DEVICE float power_of_two(int n) { return as_float((u32)(n + 127) << 23); }
constexpr u32 NOT_A_NUMBER = 0x7FC00000;

struct Digits {
    u8* planes;
    float* sums16;
    u32 stride;
    float factor, scale;

    static DEVICE u32 stride_of(int n_columns) { return (n_columns + 127) / 128 * 128 + 64; }
    // Bytes of shared memory, from an address that is a multiple of 128.
    static DEVICE u32 bytes(int n_columns) {
        return 4 * stride_of(n_columns) + (n_columns + 255) / 256 * 64;
    }
    DEVICE Digits(u8* shared, int n_columns, int e)
        : planes(shared), sums16((float*)(shared + 4 * stride_of(n_columns))),
          stride(stride_of(n_columns)), factor(power_of_two(30 - e)),
          scale(e > 128 ? as_float(NOT_A_NUMBER) : power_of_two(e - 14)) {}

    // Writes columns column .. column + 3 (a multiple of 4). A whole warp calls it, four
    // neighbouring lanes with the four parts of 16 columns. All columns up to a whole number of 128
    // must be written, zeros behind the last; the same holds for the others below.
    // has_sums: whether sums16 is needed.
    DEVICE void put(int column, const float (&x)[4], bool has_sums = true) const {
        u32 v[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = ((u32)to_int(x[i] * factor) + 0x00808080) ^ 0x00808080;
        const u32 low01 = pick_bytes(v[0], v[1], 0x5140), high01 = pick_bytes(v[0], v[1], 0x7362);
        const u32 low23 = pick_bytes(v[2], v[3], 0x5140), high23 = pick_bytes(v[2], v[3], 0x7362);
        u8* to = planes + (column & ~127) + (column & 32) * 2 + (column & 12) * 4 +
                 (column >> 6 & 1) * 8 + (column >> 4 & 1) * 4;
        *(u32*)to = pick_bytes(high01, high23, 0x7632);
        *(u32*)(to + stride) = pick_bytes(high01, high23, 0x5410);
        *(u32*)(to + 2 * stride) = pick_bytes(low01, low23, 0x7632);
        *(u32*)(to + 3 * stride) = pick_bytes(low01, low23, 0x5410);
        if (!has_sums) return;
        float sum = (x[0] + x[1]) + (x[2] + x[3]);
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const int slot = (column & 32) / 4 + (column >> 6 & 3) * 2 + (column >> 4 & 1);
        if ((column & 12) == 0) sums16[(column >> 8) * 16 + slot] = sum * (factor * 0x1p-16f);
    }
};

// Where the planes of 2-byte numbers have four columns.
DEVICE u32 offset_of_pairs(int column) {
    return (column & ~31) * 2 + (column & 12) * 4 + (column >> 4 & 1) * 8;
}

DEVICE u32 stride_of_pairs(int n_columns) { return (n_columns + 127) / 128 * 256 + 64; }

struct Halves {
    u8* planes;
    u32 stride;
    float factor, scale;

    static DEVICE u32 stride_of(int n_columns) { return stride_of_pairs(n_columns); }
    static DEVICE u32 bytes(int n_columns) { return 2 * stride_of(n_columns); }
    DEVICE Halves(u8* shared, int n_columns, int e)
        : planes(shared), stride(stride_of(n_columns)), factor(power_of_two(14 - e)),
          scale(power_of_two(e - 14)) {}

    DEVICE void put(int column, const float (&x)[4], bool = false) const {
        u32 high[2], low[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float first = x[2 * i] * factor, second = x[2 * i + 1] * factor;
            high[i] = to_halves(first, second);
            low[i] = to_halves((first - from_half((u16)high[i])) * 2048,
                               (second - from_half((u16)(high[i] >> 16))) * 2048);
        }
        u8* to = planes + offset_of_pairs(column);
        *(uint2*)to = make_uint2(high[0], high[1]);
        *(uint2*)(to + stride) = make_uint2(low[0], low[1]);
    }
};

struct Brains {
    u8* planes;
    u32 stride;
    float scale;

    static DEVICE u32 stride_of(int n_columns) { return stride_of_pairs(n_columns); }
    static DEVICE u32 bytes(int n_columns) { return 3 * stride_of(n_columns); }
    DEVICE Brains(u8* shared, int n_columns, int)
        : planes(shared), stride(stride_of(n_columns)), scale(1) {}

    DEVICE void put(int column, const float (&x)[4], bool = false) const {
        float rest[4] = {x[0], x[1], x[2], x[3]};
        u8* to = planes + offset_of_pairs(column);
#pragma unroll
        for (int n = 0; n < 3; n++) {
            const u32 first = pick_bytes(as_bits(rest[0]), as_bits(rest[1]), 0x7632);
            const u32 second = pick_bytes(as_bits(rest[2]), as_bits(rest[3]), 0x7632);
            *(uint2*)(to + n * stride) = make_uint2(first, second);
#pragma unroll
            for (int i = 0; i < 4; i++) rest[i] -= as_float(as_bits(rest[i]) & 0xFFFF0000);
        }
    }
};
