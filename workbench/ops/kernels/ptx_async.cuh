// What runs beside a thread, and how threads wait for it: copies, barriers, other thread blocks.
//
// A barrier is 8 bytes of shared memory. It counts arrivals and the bytes of copies on their way;
// when both are complete its phase ends, and the next one begins with the same count:
//
//     phase    0        1        2        3
//     parity   0        1        0        1       barrier_wait(barrier, 0) returns after phase 0
//
// A ring of slots has two for each slot, "full" (the producer's copies arrive) and "empty" (its
// readers arrive). Since sm_90 a copy is one instruction of one thread; before, 16 bytes a thread.
//
// Copies do not arrive in order, and a parity says nothing about the phase before the last: who
// waits for a phase must know that the one before it is over. So where readers take turns, a slot
// has always the same reader (the number of slots is a multiple of theirs). And a warp calls
// sync_warp() before one of its lanes gives a slot back or asks for what comes into it next.
// Source: PTX ISA, mbarrier, cp.async, cp.async.bulk, griddepcontrol, "Memory Consistency Model".
// Follows ptx_warp.cuh. Its twin for a plain CPU is tests/ops/fiber_machine.hpp.

// The dynamic shared memory of the thread block.
DEVICE u8* shared_memory() {
    extern __shared__ __align__(128) u8 dynamic_shared_memory[];
    return dynamic_shared_memory;
}

// --- barriers in shared memory -------------------------------------------------------------------

// By one thread; the others may use the barrier after the next __syncthreads().
DEVICE void barrier_init(u64* barrier, u32 count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;"
                 :: "r"(shared_address(barrier)), "r"(count) : "memory");
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

DEVICE void barrier_arrive(u64* barrier) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }"
                 :: "r"(shared_address(barrier)) : "memory");
}

// Arrives, and makes the phase last until `bytes` bytes of bulk copies are there too. Before sm_90
// there are no bulk copies: a plain arrival.
DEVICE void barrier_expect(u64* barrier, u32 bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("{ .reg .b64 state; "
                 "mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }"
                 :: "r"(shared_address(barrier)), "r"(bytes) : "memory");
#else
    barrier_arrive(barrier);
#endif
}

// Whether the phase of this parity is over; may wait a little for it.
DEVICE bool barrier_over(u64* barrier, u32 parity) {
    u32 over;
#if __CUDA_ARCH__ >= 900
    asm volatile("{ .reg .pred over; mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2; "
                 "selp.u32 %0, 1, 0, over; }"
                 : "=r"(over) : "r"(shared_address(barrier)), "r"(parity) : "memory");
#else
    asm volatile("{ .reg .pred over; mbarrier.test_wait.parity.shared.b64 over, [%1], %2; "
                 "selp.u32 %0, 1, 0, over; }"
                 : "=r"(over) : "r"(shared_address(barrier)), "r"(parity) : "memory");
#endif
    return over;
}

// Waits for the end of the phase of this parity (0 for the first, 1, 0, ...).
DEVICE void barrier_wait(u64* barrier, u32 parity) {
    while (!barrier_over(barrier, parity)) {
    }
}

// --- copies from global to shared memory ---------------------------------------------------------

// 16 bytes between addresses that are multiples of 16, past L1; zeros where it is not `there`.
DEVICE void copy_async16(void* shared, const void* global, bool there = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(global), "r"(there ? 16 : 0) : "memory");
}

// Ends a group of this thread's copies.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `GROUPS` groups of this thread are on their way.
template <int GROUPS>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(GROUPS) : "memory");
}

// How often one copy_bulk arrives: the count that its barrier was initialised with.
#if __CUDA_ARCH__ >= 900
constexpr u32 BULK_ARRIVALS = 1;
#else
constexpr u32 BULK_ARRIVALS = 32;
#endif

// What is read once a token leaves the L2 cache first, so that the rest stays there: the policy of
// createpolicy.fractional.L2::evict_first.b64 with fraction 1, as a number.
constexpr u64 EVICT_FIRST = 0x12F0000000000000;

// Copies `bytes` bytes, by a whole warp; the copy's end is part of the barrier's phase. Addresses
// and size must be multiples of 16; of no bytes it only arrives.
DEVICE void copy_bulk(void* shared, const void* global, u32 bytes, u64* barrier, int lane) {
#if __CUDA_ARCH__ >= 900
    if (lane == 0) {
        barrier_expect(barrier, bytes);
        if (!bytes) return;
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%1], %2, [%3], %4;"
                     :: "r"(shared_address(shared)), "l"(global), "r"(bytes),
                        "r"(shared_address(barrier)), "l"(EVICT_FIRST) : "memory");
    }
#else
    for (u32 at = 16 * lane; at < bytes; at += 512)
        copy_async16((u8*)shared + at, (const u8*)global + at);
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];"
                 :: "r"(shared_address(barrier)) : "memory");
#endif
}

// Brings bytes to the L2 cache, asked by one thread; address and size are multiples of 16.
DEVICE void prefetch_l2(const void* global, u32 bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" :: "l"(global), "r"(bytes));
#else
    for (u32 at = 0; at < bytes; at += 128)
        asm volatile("prefetch.global.L2 [%0];" :: "l"((const u8*)global + at));
#endif
}

// What threads wrote before is seen by bulk copies after.
DEVICE void fence_async() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async;" ::: "memory");
#endif
}

// --- threads and thread blocks -------------------------------------------------------------------

// Waits for `threads` threads (whole warps) at barrier `id`, 1 to 15; __syncthreads() is number 0.
DEVICE void sync_group(int id, int threads) {
    asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory");
}

// What this thread wrote, and has seen, is seen by all the GPU before what it writes next.
DEVICE void fence_gpu() { __threadfence(); }

// A word that another thread block released: what that one wrote before is seen after.
DEVICE u32 load_acquire(const u32* from) {
    u32 word;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(from) : "memory");
    return word;
}

// Words that threads of other thread blocks read or write at any time: each comes whole, in no
// order with others. A wait for one goes on in vain() until it is there.
DEVICE u32 load_relaxed(const u32* from) {
    u32 word;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(from) : "memory");
    return word;
}

DEVICE float load_relaxed(const float* from) { return as_float(load_relaxed((const u32*)from)); }

DEVICE float4 load_relaxed4(const float* from) {
    float4 all;
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(all.x), "=f"(all.y), "=f"(all.z), "=f"(all.w) : "l"(from) : "memory");
    return all;
}

DEVICE void store_relaxed(float* to, float number) {
    asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" :: "l"(to), "f"(number) : "memory");
}

DEVICE void store_relaxed4(float* to, float4 all) {
    asm volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "f"(all.x), "f"(all.y), "f"(all.z), "f"(all.w) : "memory");
}

DEVICE void add_relaxed(u32* to, u32 value) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" :: "l"(to), "r"(value) : "memory");
}

DEVICE void in_vain() {}

// The same number, from which all that the compiler made of it before has to be made again.
DEVICE int anew(int number) {
    asm volatile("" : "+r"(number));
    return number;
}

// Adds to a word after all that this thread wrote and has seen. Returns: the word before.
DEVICE u32 add_release(u32* to, u32 value) {
    u32 before;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;"
                 : "=r"(before) : "l"(to), "r"(value) : "memory");
    return before;
}

// Waits for the kernel before in the stream and what it wrote, where this kernel started early.
DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel of the stream start early.
DEVICE void launch_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
