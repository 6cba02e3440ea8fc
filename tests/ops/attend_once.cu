// The attention of one layer of decode_attention.cuh by itself, for tests: q, k and v are given.
// Grid and threads as those of decode_token, less the producer.

extern "C" __global__ void attend_once(const Layer* layer, const Work* work, int n_positions) {
    const Consumer me{(int)threadIdx.x / 32, (int)threadIdx.x % 32, 0, {0, 0}};
    attend(0, *layer, *work, me, n_positions, [&] { sync_group(ALL_CONSUMERS, CONSUMERS); });
}

// The bytes of shared memory that attention uses.
extern "C" __global__ void measure_desk(u32* bytes) {
    if (threadIdx.x == 0) *bytes = (u8*)(Desk().is_last + 1) - (shared_memory() + Layout::planes);
}
