// How fast a ring of shared-memory slots takes weights in, and what waiting for all costs then.
//
// As in decoding: the last warp of a thread block copies packets, the others add their words, each
// packet by one warp, a slot always by the same. Every `packets_per_phase` packets the readers wait
// for those of all thread blocks, while the copies go on. `alone`: one lane copies, and the
// others leave. Packets of a thread block follow each other, or (`interleaved`) lie between those
// of the others.
//
// Measured on an H200: a warp brings a packet in 0.146 us at best, so 2048 bytes a packet make 1.9,
// 3072 2.7, 4608 4.1 and 9216 4.4 TB/s, with 54 as with 216 KB of slots, 4 as with 24 readers.
// Phases of 54, 108, 162, 270 and 864 KB a thread block: 2.5, 3.8, 4.0, 4.0, 4.1 TB/s (36 slots).

// The copy that leaves the L2 cache first.
DEVICE void copy_once(void* shared, const void* global, u32 bytes, u64* barrier, int lane) {
#if __CUDA_ARCH__ >= 900
    if (lane == 0) {
        u64 policy;
        asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
        barrier_expect(barrier, bytes);
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%1], %2, [%3], %4;"
                     :: "r"(shared_address(shared)), "l"(global), "r"(bytes),
                        "r"(shared_address(barrier)), "l"(policy) : "memory");
    }
#endif
}

DEVICE u32 add_words(const u8* packet, int bytes, int lane) {
    u32 sum = 0;
    for (int at = 16 * lane; at < bytes; at += 512) {
        const uint4 words = *reinterpret_cast<const uint4*>(packet + at);
        sum += (words.x ^ words.y) + (words.z ^ words.w);
    }
    return sum;
}

extern "C" __global__ void __launch_bounds__(1024, 1)
    read_packets(const u8* data, u32* out, u32* arrived, int n_packets, int packet_bytes,
                 int n_slots, int packets_per_phase, int interleaved, int once, int alone) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, readers = blockDim.x / 32 - 1;
    u64* full = reinterpret_cast<u64*>(shared_memory());
    u64* empty = full + n_slots;
    u8* slots = shared_memory() + 2048;
    if (threadIdx.x == 0)
        for (int i = 0; i < n_slots; i++) {
            barrier_init(full + i, BULK_ARRIVALS);
            barrier_init(empty + i, 1);
        }
    __syncthreads();
    if (warp == readers) {
        if (alone && lane) return;
        for (int i = 0; i < n_packets; i++) {
            const int slot = i % n_slots;
            const u64 packet = interleaved ? (u64)i * gridDim.x + blockIdx.x
                                           : (u64)blockIdx.x * n_packets + i;
            barrier_wait(empty + slot, (i / n_slots & 1) ^ 1);
            const u8* from = data + packet * packet_bytes;
            if (once)
                copy_once(slots + slot * packet_bytes, from, packet_bytes, full + slot, lane);
            else
                copy_bulk(slots + slot * packet_bytes, from, packet_bytes, full + slot, lane);
            if (!alone) sync_warp();
        }
        return;
    }
    u32 sum = 0, phase = 0;
    const int in_phase = packets_per_phase ? packets_per_phase : n_packets;
    for (int first = 0; first < n_packets; first += in_phase) {
        for (int i = first + warp; i < min(first + in_phase, n_packets); i += readers) {
            const int slot = i % n_slots;
            barrier_wait(full + slot, i / n_slots & 1);
            sum += add_words(slots + slot * packet_bytes, packet_bytes, lane);
            sync_warp();
            if (lane == 0) barrier_arrive(empty + slot);
        }
        if (!packets_per_phase) continue;
        sync_group(1, readers * 32);
        if (threadIdx.x == 0) {
            add_release(arrived, 1);
            phase += gridDim.x;
            while (load_acquire(arrived) < phase) {
            }
        }
        sync_group(1, readers * 32);
    }
    out[(blockIdx.x * readers + warp) * 32 + lane] = sum;
}
