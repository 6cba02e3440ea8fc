// How fast a ring of shared-memory slots takes weights in, and what waiting for all costs then.
//
// As in decoding: the last warp of a thread block copies packets, the others add their words, each
// packet by one warp, a slot always by the same. Every `packets_per_phase` packets the readers wait
// for those of all thread blocks, while the copies go on. `lanes`: so many lanes copy, each packets
// of its own.
//
// Measured on an H200, 8 readers, 144 KB of slots, TB/s of 1, 2, 4, 8 lanes that copy:
//     2304 bytes a packet  3.21 3.32 4.28 4.48    4608  4.54 4.54 4.53 4.55    9216  4.55 in all
// So a lane brings a packet in 0.095 us, and from 4 KB on the memory is the limit.
// Given by the loader: GIVEN_BACK, as in kernels/decode_stream.cuh.

DEVICE u32 add_words(const u8* packet, int bytes, int lane) {
    u32 sum = 0;
    for (int at = 16 * lane; at < bytes; at += 512) {
        const uint4 words = *reinterpret_cast<const uint4*>(packet + at);
        sum += (words.x ^ words.y) + (words.z ^ words.w);
    }
    return sum;
}

// A place in the ring and how often it was passed.
struct Turn {
    int slot, parity;
    DEVICE void advance(int steps, int n_slots) {
        slot += steps;
        if (slot >= n_slots) slot -= n_slots, parity ^= 1;
    }
};

extern "C" __global__ void __launch_bounds__(1024, 1)
    read_packets(const u8* data, u32* out, u32* arrived, int n_packets, int packet_bytes,
                 int n_slots, int packets_per_phase, int lanes) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, readers = blockDim.x / 32 - 1;
    u64* full = reinterpret_cast<u64*>(shared_memory());
    u64* empty = full + n_slots;
    u8* slots = shared_memory() + 2048;
    if (threadIdx.x == 0)
        for (int i = 0; i < n_slots; i++) {
            barrier_init(full + i, BULK_ARRIVALS);
            barrier_init(empty + i, GIVEN_BACK);
        }
    __syncthreads();
    if (warp == readers) {
        if (lane >= lanes) return;
        const u8* from = data + (u64)blockIdx.x * n_packets * packet_bytes;
        Turn turn{lane, 1};
        for (int i = lane; i < n_packets; i += lanes, turn.advance(lanes, n_slots)) {
            barrier_wait(empty + turn.slot, turn.parity);
            copy_bulk(slots + turn.slot * packet_bytes, from + (u64)i * packet_bytes, packet_bytes,
                      full + turn.slot, 0);
        }
        return;
    }
    u32 sum = 0, phase = 0;
    Turn turn{warp, 0};
    const int in_phase = packets_per_phase ? packets_per_phase : n_packets;
    for (int i = warp, end = in_phase; end < n_packets + in_phase; end += in_phase) {
        for (; i < min(end, n_packets); i += readers, turn.advance(readers, n_slots)) {
            barrier_wait(full + turn.slot, turn.parity);
            sum += add_words(slots + turn.slot * packet_bytes, packet_bytes, lane);
            sync_warp();
            if (lane < GIVEN_BACK) barrier_arrive(empty + turn.slot);
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
