// Kernels that do what a kernel must not, for the fiber shim to tell; and two that are right.

extern "C" __global__ void wait_for_nobody(u32*) {
    u64* barrier = reinterpret_cast<u64*>(shared_memory());
    if (threadIdx.x == 0) barrier_init(barrier, 1);
    __syncthreads();
    if (threadIdx.x >= 32) barrier_wait(barrier, 0);
}

extern "C" __global__ void leave_the_warp(u32* numbers) {
    if (threadIdx.x == 5) return;
    numbers[threadIdx.x] = shuffle_xor(threadIdx.x, 1);
}

extern "C" __global__ void spin_for_ever(u32* numbers) {
    while (load_acquire(numbers) == 0) {
    }
}

extern "C" __global__ void forget_some_threads(u32*) {
    if (threadIdx.x < 32) __syncthreads();
}

extern "C" __global__ void mix_instructions(u32* numbers) {
    numbers[threadIdx.x] = threadIdx.x < 7 ? shuffle(threadIdx.x, 0) : ballot(true);
}

extern "C" __global__ void copy_to_an_odd_address(u32* numbers) {
    u64* barrier = reinterpret_cast<u64*>(shared_memory());
    if (threadIdx.x == 0) barrier_init(barrier, BULK_ARRIVALS);
    __syncthreads();
    copy_bulk(shared_memory() + 24, numbers, 16, barrier, lane_id());
}

extern "C" __global__ void arrive_too_often(u32*) {
    u64* barrier = reinterpret_cast<u64*>(shared_memory());
    if (threadIdx.x == 0) {
        barrier_init(barrier, 0);
        barrier_arrive(barrier);
    }
}

extern "C" __global__ void write_behind_shared_memory(u32*) { shared_memory()[1024] = 1; }

extern "C" __global__ void write_behind_the_array(u32* numbers) { numbers[64] = 1; }

extern "C" __global__ void read_too_early(u32* numbers) {
    u64* barrier = reinterpret_cast<u64*>(shared_memory());
    u32* copied = reinterpret_cast<u32*>(shared_memory() + 128);
    if (threadIdx.x == 0) barrier_init(barrier, BULK_ARRIVALS);
    __syncthreads();
    copy_bulk(copied, numbers, 256, barrier, lane_id());
    numbers[threadIdx.x] = copied[threadIdx.x];
    barrier_wait(barrier, 0);
}

// numbers (20, 4) -> each its double, by three warps in turns through five slots: a slot changes
// its reader, who may come while the copy before the last has not arrived.
extern "C" __global__ void take_turns(u32* numbers) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_slots = 5, n_packets = 20;
    u64* full = reinterpret_cast<u64*>(shared_memory());
    u64* empty = full + n_slots;
    if (threadIdx.x == 0)
        for (int i = 0; i < n_slots; i++) {
            barrier_init(full + i, BULK_ARRIVALS);
            barrier_init(empty + i, 1);
        }
    __syncthreads();
    for (int i = warp < 3 ? warp : 0; i < n_packets; i += warp < 3 ? 3 : 1) {
        const int slot = i % n_slots;
        const u32 round = i / n_slots & 1;
        u32* packet = reinterpret_cast<u32*>(shared_memory() + 128 + 16 * slot);
        if (warp == 3) {
            barrier_wait(empty + slot, round ^ 1);
            copy_bulk(packet, numbers + 4 * i, 16, full + slot, lane);
        } else {
            barrier_wait(full + slot, round);
            if (lane < 4) numbers[4 * i + lane] = 2 * packet[lane];
            sync_warp();
            if (lane == 0) barrier_arrive(empty + slot);
        }
    }
}

extern "C" __global__ void keep_the_index(u32* numbers) {
    __shared__ u32 index;
    u32* same = reinterpret_cast<u32*>(shared_memory());
    if (threadIdx.x == 0) index = *same = blockIdx.y;
    __syncthreads();
    numbers[32 * blockIdx.y + threadIdx.x] = index + *same;
}
