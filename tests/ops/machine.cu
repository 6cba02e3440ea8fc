// Small kernels that use every word of ptx_warp.cuh and ptx_async.cuh where the answer is plain.
//
// The same text runs on a GPU and through the fiber shim; machine_cases.py has the NumPy answers.

// --- one warp ----------------------------------------------------------------------------------

template <class Element>
DEVICE u32 word(const Element* matrix, int row, int columns, int column) {
    return *reinterpret_cast<const u32*>(matrix + row * columns + column);
}

// c (16, 8) += a (16, K) b (8, K)^T, E elements a register.
template <int K, int E, class Element, class Sum, class Product>
DEVICE void multiply_matrices(const Element* a, const Element* b, Sum* c, Product product) {
    const int g = lane_id() / 4, t = lane_id() % 4;
    Sum sums[4];
    for (int i = 0; i < 4; i++) sums[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    const int near = E * t, far = (K / 2 + E * t) % K;
    const u32 rows[4] = {word(a, g, K, near), word(a, g + 8, K, near), word(a, g, K, far),
                         word(a, g + 8, K, far)};
    product(sums, rows, word(b, g, K, near), word(b, g, K, far));
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

extern "C" __global__ void multiply_bytes(const u8* a, const u8* b, int* c) {
    multiply_matrices<32, 4>(a, b, c, [](int(&c)[4], const u32* a, u32 b0, u32 b1) {
        mma_s8(c, a[0], a[1], a[2], a[3], b0, b1);
    });
}

extern "C" __global__ void multiply_few_bytes(const u8* a, const u8* b, int* c) {
    multiply_matrices<16, 4>(a, b, c, [](int(&c)[4], const u32* a, u32 b0, u32) {
        mma_s8_k16(c, a[0], a[1], b0);
    });
}

extern "C" __global__ void multiply_halves(const u16* a, const u16* b, float* c) {
    multiply_matrices<16, 2>(a, b, c, [](float(&c)[4], const u32* a, u32 b0, u32 b1) {
        mma_f16(c, a[0], a[1], a[2], a[3], b0, b1);
    });
}

extern "C" __global__ void multiply_brains(const u16* a, const u16* b, float* c) {
    multiply_matrices<16, 2>(a, b, c, [](float(&c)[4], const u32* a, u32 b0, u32 b1) {
        mma_bf16(c, a[0], a[1], a[2], a[3], b0, b1);
    });
}

// rows (32, 8) uint16 -> out (2, 4, 32): the registers of all lanes, plain and transposed.
extern "C" __global__ void spread_matrices(const u16* rows, u32* out) {
    const int lane = lane_id();
    u8* to = shared_memory() + 16 * lane;
    copy_async16(to, rows + 8 * lane);
    copy_commit();
    copy_wait<0>();
    sync_warp();
    u32 plain[4], transposed[4];
    load_matrices(plain, to);
    load_matrices_transposed(transposed, to);
    for (int i = 0; i < 4; i++) {
        out[32 * i + lane] = plain[i];
        out[128 + 32 * i + lane] = transposed[i];
    }
}

// x (32,) -> out (3, 32): the lane 3 on, that of the other half, the sum; signs (32,).
extern "C" __global__ void talk(const float* x, float* out, u32* signs) {
    const int lane = lane_id();
    float sum = x[lane];
    for (int mask = 16; mask; mask /= 2) sum = add(sum, shuffle_xor(sum, mask));
    out[lane] = shuffle(x[lane], (lane + 3) % 32);
    out[32 + lane] = shuffle_xor(x[lane], 16);
    out[64 + lane] = sum;
    signs[lane] = ballot(x[lane] < 0);
}

// x (n,) -> out (7, n), words (2, n): every function of a number.
extern "C" __global__ void compute(const float* x, float* out, u32* words, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[i] = exp2_fast(x[i]);
    out[n + i] = log2_fast(x[i]);
    out[2 * n + i] = reciprocal_fast(x[i]);
    out[3 * n + i] = inverse_root_fast(x[i]);
    out[4 * n + i] = multiply_add(x[i], x[i], -1.0f);
    out[5 * n + i] = from_brain(to_brains(x[i], 0.0f));
    out[6 * n + i] = to_int(x[i]);
    words[i] = as_bits(x[i]);
    words[n + i] = dot_bytes(as_bits(x[i]), 0x017F80FF, -5);
}

// --- a ring of slots between a warp that copies and warps that add -----------------------------

// data (n_packets, words) -> out (consumers, n_packets): the sum of a packet's words, by each warp.
extern "C" __global__ void add_packets(const u32* data, u32* out, int n_packets, int words,
                                       int n_slots) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, consumers = blockDim.x / 32 - 1;
    u64* full = reinterpret_cast<u64*>(shared_memory());
    u64* empty = full + n_slots;
    u8* slots = shared_memory() + 1024;
    if (threadIdx.x == 0)
        for (int i = 0; i < n_slots; i++) {
            barrier_init(full + i, BULK_ARRIVALS);
            barrier_init(empty + i, consumers);
        }
    __syncthreads();
    for (int i = 0; i < n_packets; i++) {
        const int slot = i % n_slots;
        const u32 round = i / n_slots & 1;
        u32* packet = reinterpret_cast<u32*>(slots + slot * words * 4);
        if (warp == consumers) {
            barrier_wait(empty + slot, round ^ 1);
            copy_bulk(packet, data + i * words, words * 4, full + slot, lane);
        } else {
            barrier_wait(full + slot, round);
            u32 sum = 0;
            for (int k = lane; k < words; k += 32) sum += packet[k];
            sync_warp();  // all lanes have read
            if (lane == 0) barrier_arrive(empty + slot);
            for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
            if (lane == 0) out[warp * n_packets + i] = sum;
        }
    }
}

// --- many thread blocks ------------------------------------------------------------------------

// Waits until all thread blocks have come here `round` + 1 times.
DEVICE void wait_for_all(u32* arrived, u32 round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        add_release(arrived, 1);
        while (load_acquire(arrived) < (round + 1) * gridDim.x) {
        }
    }
    __syncthreads();
}

// x (thread blocks, threads): in each round a number becomes that of the next thread block, plus 1.
// two: the same shape twice, written and read in turns.
extern "C" __global__ void pass_on(float* two, u32* arrived, int n_rounds) {
    const int n = gridDim.x * blockDim.x, here = blockIdx.x * blockDim.x + threadIdx.x;
    const int next = (here + blockDim.x) % n;
    for (int round = 0; round < n_rounds; round++) {
        float* from = two + round % 2 * n;
        store_fresh(two + (round + 1) % 2 * n + here, load_fresh(from + next) + 1.0f);
        wait_for_all(arrived, round);
    }
}

// Two groups of half the threads each turn a row of out (2, threads / 2) round by one, n times.
extern "C" __global__ void turn_groups(u32* out, int n_rounds) {
    const int half = blockDim.x / 2, group = threadIdx.x / half, i = threadIdx.x % half;
    u32* row = reinterpret_cast<u32*>(shared_memory()) + group * half;
    row[i] = out[group * half + i];
    for (int round = 0; round < n_rounds + group; round++) {
        sync_group(1 + group, half);
        const u32 next = row[(i + 1) % half];
        sync_group(1 + group, half);
        row[i] = next;
    }
    out[group * half + i] = row[i];
}

// number: += 1 after the kernel before has written it.
extern "C" __global__ void count_up(float* number) {
    launch_next();
    wait_for_previous();
    if (threadIdx.x == 0) store_fresh(number, load_fresh(number) + 1.0f);
}
