// Products of packets by themselves, for tests and measurements.
//
// matvec_TYPE: y = W x. Grid: a tile of 16 rows a thread block, 32 threads.
//     shared memory: the planes, rounded up to 128 bytes, then a packet.
// planes_TYPE: the bytes that `put` leaves, copied out. Grid: one thread block of 32 threads.
// spin_TYPE: packets that stay in shared memory, one a warp, multiplied again and again with all
//     columns of x: the arithmetic without the memory. cycles: those of each thread block.

template <class Planes>
DEVICE u32 planes_room(int K) { return (Planes::bytes(K) + 127) / 128 * 128; }

template <class Planes>
DEVICE Planes put_all(const float* x, int K) {
    float largest = 0;
    for (int i = 0; i < K; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    const Planes planes(shared_memory(), K, exponent_of(largest));
    for (int first = 0; first < K; first += 4 * blockDim.x) {
        const int column = first + 4 * threadIdx.x;
        if (first + (int)(threadIdx.x & ~31) * 4 >= K) continue;
        float four[4];
        for (int i = 0; i < 4; i++) four[i] = column + i < K ? x[column + i] : 0;
        planes.put(column, four);
    }
    return planes;
}

DEVICE void copy_all(u8* to, const u8* from, int n_bytes, int thread, int threads) {
    for (int i = thread * 16; i < n_bytes; i += threads * 16) 
        *(uint4*)(to + i) = *(const uint4*)(from + i);
}

template <class Packets>
DEVICE void matvec(const u8* tiles, const float* x, float* y, int K) {
    typedef typename Packets::Planes Planes;
    const Planes planes = put_all<Planes>(x, K);
    const int lane = lane_id(), padded = (K + 63) / 64 * 64;
    const u8* tile = tiles + (u64)blockIdx.x * Packets::bytes(padded);
    u8* packet = shared_memory() + planes_room<Planes>(K);
    float sums[2] = {0, 0};
    for (int column = 0; column < padded; column += Packets::columns) {
        const int n = padded - column < Packets::columns ? padded - column : Packets::columns;
        copy_all(packet, tile, Packets::bytes(n), lane, 32);
        sync_warp();
        Packets::multiply(packet, planes, column, n, lane, sums);
        sync_warp();
        tile += Packets::bytes(n);
    }
    for (int r = 0; r < 2; r++) {
        sums[r] += shuffle_xor(sums[r], 1);
        sums[r] += shuffle_xor(sums[r], 2);
        if (lane % 4 == 0) y[blockIdx.x * 16 + r * 8 + lane / 4] = sums[r] * planes.scale;
    }
}

template <class Planes>
DEVICE void copy_planes(const float* x, u8* out, float* scale, int K) {
    const Planes planes = put_all<Planes>(x, K);
    sync_warp();
    for (u32 i = threadIdx.x; i < Planes::bytes(K); i += 32) out[i] = shared_memory()[i];
    if (threadIdx.x == 0) *scale = planes.scale;
}

#ifdef MEASURE
template <class Packets>
DEVICE void spin(const u8* tiles, const float* x, float* y, int K, int columns, int rounds,
                 long long* cycles) {
    typedef typename Packets::Planes Planes;
    const Planes planes = put_all<Planes>(x, K);
    const int lane = lane_id(), warp = threadIdx.x / 32;
    u8* packet = shared_memory() + planes_room<Planes>(K) + warp * Packets::bytes(Packets::columns);
    copy_all(packet, tiles, Packets::bytes(Packets::columns), lane, 32);
    float sums[2] = {0, 0};
    __syncthreads();
    const long long start = clock64();
    for (int i = 0; i < rounds; i++)
        for (int column = 0; column + columns <= K; column += columns) {
            Packets::multiply(packet, planes, column, columns, lane, sums);
            sync_warp();
        }
    __syncthreads();
    if (threadIdx.x == 0) cycles[blockIdx.x] = clock64() - start;
    y[blockIdx.x * blockDim.x + threadIdx.x] = sums[0] + sums[1];
}
#endif

#define KERNELS(TYPE)                                                                          \
    extern "C" __global__ void __launch_bounds__(32)                                           \
        matvec_##TYPE(const u8* tiles, const float* x, float* y, int K) {                      \
        matvec<Packets##TYPE>(tiles, x, y, K);                                                 \
    }
#define PLANES(NAME)                                                                           \
    extern "C" __global__ void __launch_bounds__(32)                                           \
        planes_##NAME(const float* x, u8* out, float* scale, int K) {                          \
        copy_planes<NAME>(x, out, scale, K);                                                   \
    }
#define SPIN(TYPE)                                                                             \
    extern "C" __global__ void __launch_bounds__(512, 1)                                       \
        spin_##TYPE(const u8* tiles, const float* x, float* y, int K, int columns, int rounds, \
                    long long* cycles) {                                                       \
        spin<Packets##TYPE>(tiles, x, y, K, columns, rounds, cycles);                          \
    }
#define ALL_TYPES(DO)                                                                          \
    DO(F16) DO(BF16) DO(Q8_0) DO(Q4_0) DO(Q4_1) DO(Q5_0) DO(Q5_1) DO(IQ4_NL) DO(MXFP4)         \
    DO(Q2_K) DO(Q3_K) DO(Q4_K) DO(Q5_K) DO(Q6_K) DO(IQ4_XS)

ALL_TYPES(KERNELS)
PLANES(Digits)
PLANES(Halves)
PLANES(Brains)
#ifdef MEASURE
ALL_TYPES(SPIN)
#endif
