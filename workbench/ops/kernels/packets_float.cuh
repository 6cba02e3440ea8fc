// Packets of F16 and BF16: 16 rows x 16 columns of weights a product, sums in float32.
//
// B has two float16 planes of the activations (columns n and n + 2 k the same), or three bfloat16
// ones; lane t = 0 has the sums of planes 0 and 1, for BF16 lane t = 1 that of plane 2.
// Packets: 64 columns are four units of 512 bytes, 16 bytes a lane: packets.py.
// Why it is fast: one and a half loads of 16 bytes and one product for 256 weights; two sums in
// turn, so that a product need not wait for the one before.

// The plane that column n of B is.
DEVICE int plane_of(const Halves&, int n) { return n & 1; }
DEVICE int plane_of(const Brains&, int n) { return (n & 3) == 3 ? 2 : n & 3; }

DEVICE void product(const Halves&, float (&c)[4], uint4 a, u32 b0, u32 b1) {
    mma_f16(c, a.x, a.y, a.z, a.w, b0, b1);
}
DEVICE void product(const Brains&, float (&c)[4], uint4 a, u32 b0, u32 b1) {
    mma_bf16(c, a.x, a.y, a.z, a.w, b0, b1);
}

// What the planes of lane t's two columns add up to.
DEVICE float join_planes(const Halves&, int t, float first, float second) {
    return t == 0 ? first + second * (1 / 2048.0f) : 0;
}
DEVICE float join_planes(const Brains&, int t, float first, float second) {
    return t == 0 ? first + second : t == 1 ? first : 0;
}

template <class Planes_>
struct Floats {
    typedef Planes_ Planes;
    static constexpr int columns = 256;
    static constexpr bool has_minima = false;
    static DEVICE int bytes(int n_columns) { return n_columns * 32; }

    static DEVICE void multiply(const u8* packet, const Planes& x, int first_column, int n_columns,
                                int lane, float (&sums)[2]) {
        const u8* weights = packet + lane * 16;
        const u8* from =
            x.planes + plane_of(x, lane >> 2) * x.stride + (lane & 3) * 16 + first_column * 2;
        float even[4] = {0, 0, 0, 0}, odd[4] = {0, 0, 0, 0};
#pragma unroll 4
        for (int column = 0; column < n_columns; column += 32) {
            const uint4 b = load16(from + column * 2);
            product(x, even, load16(weights + column * 32), b.x, b.y);
            product(x, odd, load16(weights + column * 32 + 512), b.z, b.w);
        }
        sums[0] += join_planes(x, lane & 3, even[0] + odd[0], even[1] + odd[1]);
        sums[1] += join_planes(x, lane & 3, even[2] + odd[2], even[3] + odd[3]);
    }
};

typedef Floats<Halves> PacketsF16;
typedef Floats<Brains> PacketsBF16;
