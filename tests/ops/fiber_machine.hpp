// What threads do together, on fibers: the twin of ptx_warp.cuh and ptx_async.cuh.
//
// Copies are late on purpose: cp.async when it is waited for, a bulk copy after the round in which
// it was asked for or, shuffled, some rounds later, so that who reads too early reads garbage.
// __CUDA_ARCH__ (900 unless given)
// decides how copy_bulk arrives, as in the kernels' text.
// Follows fiber_shim.hpp. Source: PTX ISA, as the text that it is the twin of.

#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif

// --- the warp ----------------------------------------------------------------------------------

// Every lane gives words; once all have, `work` makes of them what every lane takes.
template <int N, class Work>
static void together(const char* what, const u32 (&given)[N], u32 (&taken)[4], const char* file,
                     int line, Work work) {
    const u32 number = running->now->number, lane = number % 32;
    Warp& warp = running->now->block->warps[number / 32];
    const u32 side = warp.gate.generation & 1;
    if (warp.gate.arrived && strcmp(warp.doing, what))
        stop(std::string("a lane is at ") + what + ", another at " + warp.doing, file, line);
    warp.doing = what;
    memcpy(warp.given[side][lane], given, sizeof given);
    gather(warp.gate, 32, what, file, line, [&] { work(warp.given[side], warp.taken[side]); });
    memcpy(taken, warp.taken[side][lane], sizeof taken);
}

typedef u32 Given[32][WORDS];
typedef u32 Taken[32][4];

DEVICE u32 lane_id() { return running->now->number % 32; }

template <class Number>
static Number exchange(const char* what, Number value, u32 from, const char* file, int line) {
    static_assert(sizeof value == 4, "a shuffle moves 4 bytes");
    u32 words[2] = {0, from & 31}, taken[4];
    memcpy(words, &value, 4);
    together(what, words, taken, file, line, [](Given& given, Taken& out) {
        for (int lane = 0; lane < 32; lane++) out[lane][0] = given[given[lane][1]][0];
    });
    memcpy(&value, taken, 4);
    return value;
}

template <class Number>
static Number shuffle(Number value, int lane, HERE) {
    return exchange("shuffle", value, lane, file, line);
}

template <class Number>
static Number shuffle_xor(Number value, int mask, HERE) {
    return exchange("shuffle_xor", value, lane_id() ^ mask, file, line);
}

DEVICE u32 ballot(bool yes, HERE) {
    u32 taken[4];
    together("ballot", {yes}, taken, file, line, [](Given& given, Taken& out) {
        u32 all = 0;
        for (int lane = 0; lane < 32; lane++) all |= given[lane][0] << lane;
        for (int lane = 0; lane < 32; lane++) out[lane][0] = all;
    });
    return taken[0];
}

DEVICE void sync_warp(HERE) {
    u32 taken[4];
    together("sync_warp", {0}, taken, file, line, [](Given&, Taken&) {});
}

// --- products ----------------------------------------------------------------------------------

// Element i of the registers of a lane, as a number.
struct Bytes {
    static constexpr int in_word = 4;
    typedef int Sum;
    static int number(u32 word, int i) { return (int8_t)(word >> 8 * i); }
};

struct HalfPairs {
    static constexpr int in_word = 2;
    typedef float Sum;
    static double number(u32 word, int i) { return from_half(word >> 16 * i); }
};

struct BrainPairs {
    static constexpr int in_word = 2;
    typedef float Sum;
    static double number(u32 word, int i) { return from_brain(word >> 16 * i); }
};

// C += A B; `halves` of K columns, each with two registers of A and one of B. A lane gives C (4),
// A (2 a half), B (1 a half).
template <class Format, int HALVES>
__attribute__((optimize("O3"))) static void multiply_in_warp(Given& given, Taken& out) {
    constexpr int E = Format::in_word, K = 4 * E * HALVES;
    decltype(Format::number(0, 0)) a[16][K], b[K][8], sums[16][8] = {};
    for (int lane = 0; lane < 32; lane++)
        for (int k = 0; k < HALVES * E; k++) {
            const int half = k / E, g = lane / 4, column = half * 4 * E + lane % 4 * E + k % E;
            a[g][column] = Format::number(given[lane][4 + 2 * half], k % E);
            a[g + 8][column] = Format::number(given[lane][5 + 2 * half], k % E);
            b[column][g] = Format::number(given[lane][4 + 2 * HALVES + half], k % E);
        }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < K; k++)
            for (int i = 0; i < 8; i++) sums[row][i] += a[row][k] * b[k][i];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            typename Format::Sum c;
            memcpy(&c, &given[lane][i], 4);
            c += sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
            memcpy(&out[lane][i], &c, 4);
        }
}

template <class Format, int HALVES, class Sum, int N>
static void product(const char* what, Sum (&c)[4], const u32 (&operands)[N], const char* file,
                    int line) {
    u32 words[4 + N], taken[4];
    memcpy(words, c, 16);
    memcpy(words + 4, operands, sizeof operands);
    together(what, words, taken, file, line, multiply_in_warp<Format, HALVES>);
    memcpy(c, taken, 16);
}

DEVICE void mma_s8(int (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, HERE) {
    product<Bytes, 2>("mma_s8", c, {a0, a1, a2, a3, b0, b1}, file, line);
}

// An unsigned byte is the signed one with its top bit flipped, and 128 = 64 + 64 more.
DEVICE void mma_u8(int (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, HERE) {
    const u32 flip = 0x80808080, half = 0x40404040;
    mma_s8(c, a0 ^ flip, a1 ^ flip, a2 ^ flip, a3 ^ flip, b0, b1, file, line);
    for (int i = 0; i < 2; i++) mma_s8(c, half, half, half, half, b0, b1, file, line);
}

DEVICE void mma_s8_k16(int (&c)[4], u32 a0, u32 a1, u32 b0, HERE) {
    product<Bytes, 1>("mma_s8_k16", c, {a0, a1, b0}, file, line);
}

DEVICE void mma_f16(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, HERE) {
    product<HalfPairs, 2>("mma_f16", c, {a0, a1, a2, a3, b0, b1}, file, line);
}

DEVICE void mma_bf16(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, HERE) {
    product<BrainPairs, 2>("mma_bf16", c, {a0, a1, a2, a3, b0, b1}, file, line);
}

// --- matrices from shared memory ---------------------------------------------------------------

static void check_aligned(const void* address, const char* what, const char* file, int line) {
    if (reinterpret_cast<u64>(address) % 16)
        stop(std::string(what) + ": an address is no multiple of 16", file, line);
}

static void matrices(bool transposed, u32 (&r)[4], const void* row, const char* file, int line) {
    check_aligned(row, "load_matrices", file, line);
    const u64 address = reinterpret_cast<u64>(row);
    const u32 words[3] = {(u32)address, (u32)(address >> 32), transposed};
    together("load_matrices", words, r, file, line, [](Given& given, Taken& out) {
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 8; i++) {  // half i % 2 of register i / 2
                const bool transposed = given[0][2];
                const int row = transposed ? lane % 4 * 2 + i % 2 : lane / 4;
                const int column = transposed ? lane / 4 : lane % 4 * 2 + i % 2;
                const u32* at = given[i / 2 * 8 + row];
                const u16* numbers = reinterpret_cast<const u16*>(at[0] | (u64)at[1] << 32);
                if (i % 2 == 0) out[lane][i / 2] = 0;
                out[lane][i / 2] |= (u32)numbers[column] << 16 * (i % 2);
            }
    });
}

DEVICE void load_matrices(u32 (&r)[4], const void* shared, HERE) {
    matrices(false, r, shared, file, line);
}

DEVICE void load_matrices_transposed(u32 (&r)[4], const void* shared, HERE) {
    matrices(true, r, shared, file, line);
}

// --- barriers in shared memory -----------------------------------------------------------------

// The 8 bytes of a barrier.
struct Barrier {
    u16 count, left;
    u32 phase : 1;
    int bytes : 31;
};
static_assert(sizeof(Barrier) == 8, "a barrier has 8 bytes");

static Barrier& barrier_at(u64* barrier) { return *reinterpret_cast<Barrier*>(barrier); }

static void end_phase(Barrier& barrier) {
    running->steps++;
    if (barrier.left || barrier.bytes) return;
    barrier.left = barrier.count;
    barrier.phase ^= 1;
}

DEVICE u8* shared_memory() { return memory_of(*running->now->block); }

DEVICE void barrier_init(u64* barrier, u32 count) {
    barrier_at(barrier) = {(u16)count, (u16)count, 0, 0};
}

DEVICE void barrier_arrive(u64* barrier, HERE) {
    if (!barrier_at(barrier).left) stop("barrier_arrive: more arrivals than its count", file, line);
    barrier_at(barrier).left--;
    end_phase(barrier_at(barrier));
}

DEVICE void barrier_expect(u64* barrier, u32 bytes, HERE) {
#if __CUDA_ARCH__ >= 900
    barrier_at(barrier).bytes += bytes;
#endif
    barrier_arrive(barrier, file, line);
}

DEVICE bool barrier_over(u64* barrier, u32 parity, HERE) {
    if (barrier_at(barrier).phase != (parity & 1)) return true;
    wait("barrier_over", file, line);
    return barrier_at(barrier).phase != (parity & 1);
}

DEVICE void barrier_wait(u64* barrier, u32 parity, HERE) {
    const u32* phase = reinterpret_cast<const u32*>(barrier) + 1;
    while (barrier_at(barrier).phase == (parity & 1))
        wait("barrier_wait", file, line, phase, 1, parity & 1);
}

// --- copies ------------------------------------------------------------------------------------

DEVICE void copy_async16(void* shared, const void* global, bool there = true, HERE) {
    check_aligned(shared, "copy_async16", file, line);
    if (there) check_aligned(global, "copy_async16", file, line);
    running->now->groups.back().push_back({shared, there ? global : nullptr, 16, nullptr});
}

static void arrive(const Copy& copy) {
    if (copy.from) memcpy(copy.to, copy.from, copy.bytes);
    if (!copy.from && copy.to) memset(copy.to, 0, copy.bytes);
    if (!copy.barrier) return;
    if (copy.to) barrier_at(copy.barrier).bytes -= copy.bytes;
    if (!copy.to) barrier_at(copy.barrier).left--;
    end_phase(barrier_at(copy.barrier));
}

static void arrive_stores(const Block* releasing);

// Copies that are part of a phase may each stay away for some rounds.
static void arrive_late() {
    std::vector<Copy> late;
    u32 chance = running->chance;
    for (const Copy& copy : running->copies) {
        chance = chance * 1664525 + 1013904223;
        const bool stays = running->chance && copy.to && copy.barrier && chance >> 30;
        if (stays) late.push_back(copy);
        if (!stays) arrive(copy);
    }
    if (!late.empty()) running->steps++;
    running->copies = late;
    arrive_stores(nullptr);
}

DEVICE void copy_commit() { running->now->groups.emplace_back(); }

template <int GROUPS>
static void copy_wait() {
    auto& groups = running->now->groups;
    for (; groups.size() > GROUPS + 1; groups.pop_front())
        for (const Copy& copy : groups.front()) arrive(copy);
}

constexpr u32 BULK_ARRIVALS = __CUDA_ARCH__ >= 900 ? 1 : 32;

DEVICE void copy_bulk(void* shared, const void* global, u32 bytes, u64* barrier, int lane, HERE) {
    check_aligned(shared, "copy_bulk", file, line);
    check_aligned(global, "copy_bulk", file, line);
    if (bytes % 16) stop("copy_bulk: the size is no multiple of 16", file, line);
    if (BULK_ARRIVALS == 1 && lane == 0) {
        barrier_expect(barrier, bytes, file, line);
        if (bytes) running->copies.push_back({shared, global, bytes, barrier});
    }
    if (BULK_ARRIVALS == 1) return;
    for (u32 at = 16 * lane; at < bytes; at += 512)
        running->copies.push_back({(u8*)shared + at, (const u8*)global + at, 16, nullptr});
    running->copies.push_back({nullptr, nullptr, 0, barrier});
}

DEVICE void prefetch_l2(const void*, u32) {}
DEVICE void fence_async() {}

// --- threads and thread blocks -----------------------------------------------------------------

DEVICE void sync_group(int id, int threads, HERE) {
    if (id < 0 || id > 15 || threads % 32) stop("sync_group: no such barrier", file, line);
    gather(running->now->block->gates[id], threads, "sync_group", file, line, [] {});
}

DEVICE void fence_gpu() {}

// A round without a store that is late: with an odd `order` as long as anybody gets on without it,
// and that of UNWRITTEN, for which nobody waits, for ever; with an even one by chance.
static bool comes(const Store& store, u32 chance) {
    if (!running->is_lazy) return !running->chance || chance >> 30 == 0;
#ifdef UNWRITTEN
    if (as_bits(store.number) == UNWRITTEN && running->chance) return false;
#endif
    return running->idle > 0 || !running->chance;
}

// Relaxed stores are late, too, where threads are shuffled: those of a thread block come in any
// order, but all of them before what it releases, and it sees its own. So who takes an arrival for
// the number, or makes room too late, reads or leaves what is wrong.
static void arrive_stores(const Block* releasing) {
    std::vector<Store> late;
    std::set<std::pair<const Block*, const float*>> waiting;  // an address's stores keep their order
    u32 chance = running->chance;
    for (const Store& store : running->stores) {
        chance = chance * 1664525 + 1013904223;
        const bool stays = releasing ? store.block != releasing : !comes(store, chance);
        if (stays || waiting.count({store.block, store.to})) {
            waiting.insert({store.block, store.to});
            late.push_back(store);
            continue;
        }
        *store.to = store.number;
        auto own = store.block->stored.find(store.to);
        if (--own->second.first == 0) store.block->stored.erase(own);
    }
    if (late.size() < running->stores.size()) running->steps++;
    running->stores = late;
}

DEVICE void store_relaxed(float* to, float number) {
    Block* block = running->now->block;
    if (!running->chance) {
        *to = number;
        return;
    }
    running->stores.push_back({to, number, block});
    auto& own = block->stored[to];
    own = {own.first + 1, number};
}

DEVICE void store_relaxed4(float* to, float4 all) {
    const float numbers[4] = {all.x, all.y, all.z, all.w};
    for (int i = 0; i < 4; i++) store_relaxed(to + i, numbers[i]);
}

DEVICE float load_relaxed(const float* from) {
    const auto& stored = running->now->block->stored;
    const auto own = stored.find(from);
    return own == stored.end() ? *from : own->second.second;
}

DEVICE float4 load_relaxed4(const float* from) {
    return make_float4(load_relaxed(from), load_relaxed(from + 1), load_relaxed(from + 2),
                       load_relaxed(from + 3));
}

DEVICE u32 load_acquire(const u32* from, HERE) {
    wait("load_acquire", file, line);
    return *from;
}

DEVICE u32 load_relaxed(const u32* from, HERE) {
    wait("load_relaxed", file, line);
    return *from;
}
DEVICE void in_vain(HERE) { wait("in_vain", file, line); }
DEVICE int anew(int number) { return number; }

template <class Number>
static Number atomicAdd(Number* to, Number value) {
    running->steps++;
    const Number before = *to;
    *to += value;
    return before;
}

template <class Number>
static Number atomicMax(Number* to, Number value) {
    running->steps++;
    const Number before = *to;
    *to = max(before, value);
    return before;
}

DEVICE u32 add_release(u32* to, u32 value) {
    arrive_stores(running->now->block);
    return atomicAdd(to, value);
}
DEVICE void add_relaxed(u32* to, u32 value) { atomicAdd(to, value); }

DEVICE void wait_for_previous() {}
DEVICE void launch_next() {}
