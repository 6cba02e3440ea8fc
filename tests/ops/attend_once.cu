// The attention of one layer of decode_attention.cuh by itself, for tests: q, k and v are given.
// Grid and threads as those of decode_token.

extern "C" __global__ void attend_once(const Layer* layer, const Work* work, int n_positions) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (u32 i = threadIdx.x; i < N_SLOTS; i += CONSUMERS + 32) {
        barrier_init(full_barrier(i), BULK_ARRIVALS);
        barrier_init(empty_barrier(i), GIVEN_BACK);
    }
    __syncthreads();
    if (warp == N_WARPS) {
        Producer producer{(u32)lane};
        return send_positions(producer, *layer, work->n_rows, n_positions);
    }
    Consumer me{warp, lane, (u32)warp, {(u32)warp, 0}, 0};
    attend(0, *layer, *work, me, n_positions, [&] { sync_group(ALL_CONSUMERS, CONSUMERS); });
}

// The bytes of shared memory that attention uses.
extern "C" __global__ void measure_desk(u32* bytes) {
    if (threadIdx.x == 0) *bytes = (u8*)(Desk().ends + N_WARPS * TOGETHER) - (shared_memory() + Layout::planes);
}
