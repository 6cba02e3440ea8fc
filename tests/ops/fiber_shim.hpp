// Runs a launch on a plain CPU: every thread is a fiber, a function with a stack of its own.
//
// All thread blocks are alive at once. A fiber runs until it waits (for its warp, its thread block,
// a copy, another thread block); then the next one runs:
//
//     round 0:  thread 0 ──▶ waits   thread 1 ──▶ waits   ...   copies on their way arrive
//     round 1:  thread 0 ──▶ ...     those that still wait are passed over
//
// `order` 0 takes threads and copies in turn, another number shuffles them, as a GPU may. A wait
// that nobody can end is found (no fiber gets on for IDLE_ROUNDS rounds) and told, with its place.
// Follows cpu_shim.hpp. Left out: everything about time, and what a missing fence would break,
// but for relaxed stores (fiber_machine.hpp).

#include <csetjmp>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

struct Index {
    unsigned x, y, z;
};

// A static variable of a kernel (not of a template) that each thread block has for itself.
#define __shared__ static __attribute__((section("static_shared")))
extern "C" __attribute__((weak, visibility("hidden"))) u8 __start_static_shared[];
extern "C" __attribute__((weak, visibility("hidden"))) u8 __stop_static_shared[];

constexpr int IDLE_ROUNDS = 10000, GUARD = 256, WORDS = 10;
constexpr size_t STACK = 128 << 10;
constexpr u8 GARBAGE = 0xCD;  // what shared memory holds before it is written

// Where threads gather: the last one of `count` opens the next generation.
struct Gate {
    u32 arrived, generation;
};

struct Warp {
    Gate gate;
    const char* doing;
    u32 given[2][32][WORDS], taken[2][32][4];  // of this generation and the one before
};

struct Block {
    Index index;
    std::vector<u8> shared, statics;
    Gate gates[16];
    std::vector<Warp> warps;
    std::map<const float*, std::pair<u32, float>> stored;  // of its late stores: how many, the last
};

// A number that other thread blocks do not see yet.
struct Store {
    float* to;
    float number;
    Block* block;
};

// Bytes on their way; what is to be done once they are there.
struct Copy {
    void* to;
    const void* from;
    u32 bytes;
    u64* barrier;
};

struct Fiber {
    jmp_buf at;
    ucontext_t start;
    Block* block;
    Index index;
    unsigned number;  // of the thread in its thread block
    u8* stack;  // once it has started
    bool done;
    const char* waits;  // for what, at this line of this file
    const char* file;
    int line;
    const u32* word;  // the wait lasts while (*word & mask) == value; none: only the fiber knows
    u32 mask, value;
    std::deque<std::vector<Copy>> groups;  // of copy_async16, the last one open
};

struct Launch {
    void (*call)(void**);
    void** arguments;
    Index grid, threads;
    size_t shared_bytes;
    std::vector<Block> blocks;
    std::vector<Fiber> fibers;
    std::vector<Copy> copies;
    std::vector<Store> stores;
    std::vector<std::unique_ptr<u8[]>> stacks;
    std::vector<u8*> free_stacks;  // of fibers that are done
    jmp_buf scheduler;
    Fiber* now;
    u64 steps;  // by which the launch got on
    u32 chance;  // a number of this round; 0 where all goes in turn
    bool is_lazy;  // whether stores come as late as they may
    int idle;      // rounds since the last step
    std::string error;
};

static Launch* running;

#define threadIdx (running->now->index)
#define blockIdx (running->now->block->index)
#define blockDim (running->threads)
#define gridDim (running->grid)
#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// The dynamic shared memory of a thread block, at a multiple of 128.
static u8* memory_of(Block& block) {
    u8* memory = block.shared.data();
    return memory + (128 - reinterpret_cast<u64>(memory) % 128) % 128;
}

// --- what a fiber does -------------------------------------------------------------------------

static __attribute__((noinline)) void leave() {
    if (!_setjmp(running->now->at)) _longjmp(running->scheduler, 1);
}

[[noreturn]] static void stop(const std::string& error, const char* file, int line) {
    const Fiber& fiber = *running->now;
    const Index &block = fiber.block->index, &thread = fiber.index;
    char place[300];
    snprintf(place, sizeof place, "%s:%d: thread (%u, %u, %u) of thread block (%u, %u, %u): ", file,
             line, thread.x, thread.y, thread.z, block.x, block.y, block.z);
    running->error = place + error;
    _longjmp(running->scheduler, 1);
}

// Lets the others run while (*word & mask) == value, or once if there is no word.
static void wait(const char* what, const char* file, int line, const u32* word = nullptr,
                 u32 mask = 0, u32 value = 0) {
    Fiber& fiber = *running->now;
    fiber.waits = what, fiber.file = file, fiber.line = line;
    fiber.word = word, fiber.mask = mask, fiber.value = value;
    leave();
    fiber.waits = nullptr, fiber.word = nullptr;
}

// Waits until `count` threads are at the gate; the last one calls `finish` before they go on.
template <class Finish>
static void gather(Gate& gate, u32 count, const char* what, const char* file, int line,
                   Finish finish) {
    running->steps++;
    const u32 generation = gate.generation;
    if (++gate.arrived == count) {
        finish();
        gate.arrived = 0, gate.generation++;
        return;
    }
    wait(what, file, line, &gate.generation, 0xFFFFFFFF, generation);
}

static u32 n_threads() { return blockDim.x * blockDim.y * blockDim.z; }

static void __syncthreads(HERE) {
    gather(running->now->block->gates[0], n_threads(), "__syncthreads", file, line, [] {});
}

// --- the scheduler -----------------------------------------------------------------------------

static void begin() {
    running->call(running->arguments);
    running->now->done = true;
    running->steps++;
    _longjmp(running->scheduler, 1);
}

static u8* take_stack() {
    if (running->free_stacks.empty()) {
        running->stacks.emplace_back(new u8[STACK]);
        running->free_stacks.push_back(running->stacks.back().get());
    }
    u8* stack = running->free_stacks.back();
    running->free_stacks.pop_back();
    return stack;
}

// Runs a fiber until it waits or is done.
static void resume(Fiber& fiber) {
    running->now = &fiber;
    if (_setjmp(running->scheduler)) {
        if (running->now->done) running->free_stacks.push_back(running->now->stack);
        return;
    }
    if (fiber.stack) _longjmp(fiber.at, 1);
    fiber.stack = take_stack();
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack;
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, begin, 0);
    setcontext(&fiber.start);
}

static void arrive_late();  // fiber_machine.hpp: copies and stores that are on their way

static void make_fibers(Launch& launch) {
    const Index grid = launch.grid, threads = launch.threads;
    const u32 n_blocks = grid.x * grid.y * grid.z, n_threads = threads.x * threads.y * threads.z;
    launch.blocks.resize(n_blocks);
    launch.fibers.resize((size_t)n_blocks * n_threads);
    for (u32 b = 0; b < n_blocks; b++) {
        Block& block = launch.blocks[b];
        block.index = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        block.shared.assign(launch.shared_bytes + GUARD + 128, GARBAGE);
        block.statics.assign(__stop_static_shared - __start_static_shared, GARBAGE);
        block.warps.resize((n_threads + 31) / 32);
        for (u32 t = 0; t < n_threads; t++) {
            Fiber& fiber = launch.fibers[(size_t)b * n_threads + t];
            fiber.block = &block, fiber.number = t, fiber.groups.resize(1);
            fiber.index = {t % threads.x, t / threads.x % threads.y, t / threads.x / threads.y};
        }
    }
}

// Runs all that can run of one thread block, from thread `first` on, round.
static size_t run_block(Launch& launch, size_t b, size_t first) {
    Block& block = launch.blocks[b];
    const size_t n = launch.fibers.size() / launch.blocks.size(), n_static = block.statics.size();
    size_t alive = 0;
    if (n_static) memcpy(__start_static_shared, block.statics.data(), n_static);
    for (size_t i = 0; i < n && launch.error.empty(); i++) {
        Fiber& fiber = launch.fibers[b * n + (i + first) % n];
        if (!fiber.done && !(fiber.word && (*fiber.word & fiber.mask) == fiber.value))
            resume(fiber);
        alive += !fiber.done;
    }
    if (n_static) memcpy(block.statics.data(), __start_static_shared, n_static);
    return alive;
}

static void tell_deadlock(Launch& launch) {
    launch.error = "deadlock: nobody gets on any more";
    const Fiber* before = nullptr;
    for (const Fiber& fiber : launch.fibers) {
        if (fiber.done || !fiber.waits) continue;
        const bool same = before && before->block == fiber.block && before->line == fiber.line &&
                          before->file == fiber.file && before->number / 32 == fiber.number / 32;
        before = &fiber;
        if (same || launch.error.size() > 4000) continue;
        char text[300];
        snprintf(text, sizeof text, "\nthread block (%u, %u, %u), warp %u, lane %u: %s at %s:%d",
                 fiber.block->index.x, fiber.block->index.y, fiber.block->index.z,
                 fiber.number / 32, fiber.number % 32, fiber.waits, fiber.file, fiber.line);
        launch.error += text;
    }
}

static void run_rounds(Launch& launch, u32 order) {
    const size_t n = launch.blocks.size(), n_threads = launch.fibers.size() / n;
    launch.is_lazy = order % 2;
    for (size_t alive = 1; alive && launch.error.empty();) {
        const u64 steps = launch.steps;
        alive = 0;
        if (order) order = order * 1664525 + 1013904223;
        launch.chance = order;
        for (size_t b = 0; b < n && launch.error.empty(); b++)
            alive += run_block(launch, (b + order) % n, (order >> 8) % n_threads / 32 * 32);
        arrive_late();
        launch.idle = launch.steps == steps ? launch.idle + 1 : 0;
        if (alive && launch.idle > IDLE_ROUNDS) tell_deadlock(launch);
    }
    launch.chance = 0;
    arrive_late();
}

static void check_guards(Launch& launch) {
    for (Block& block : launch.blocks) {
        const u8* behind = memory_of(block) + launch.shared_bytes;
        if (!std::all_of(behind, behind + GUARD, [](u8 byte) { return byte == GARBAGE; }))
            launch.error = "shared memory was written behind its end";
    }
}

static std::string last_error;

// Runs a kernel to its end. Returns: what went wrong, or nothing.
extern "C" const char* run_launch(void (*call)(void**), void** arguments, const unsigned* sizes,
                                  size_t shared_bytes, u32 order) {
    Launch launch{};
    launch.call = call, launch.arguments = arguments, launch.shared_bytes = shared_bytes;
    launch.grid = {sizes[0], sizes[1], sizes[2]}, launch.threads = {sizes[3], sizes[4], sizes[5]};
    running = &launch;
    make_fibers(launch);
    run_rounds(launch, order);
    check_guards(launch);
    last_error = launch.error;
    return last_error.c_str();
}

// Calls a kernel with the arguments at these addresses.
template <class... Arguments, size_t... I>
static void call_kernel(void (*kernel)(Arguments...), void** at, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<Arguments>*>(at[I])...);
}

#define ENTRY(KERNEL)                                                                    \
    template <class... Arguments>                                                        \
    static size_t count_##KERNEL(void (*)(Arguments...)) {                               \
        return sizeof...(Arguments);                                                     \
    }                                                                                    \
    template <class... Arguments>                                                        \
    static void enter_##KERNEL(void (*kernel)(Arguments...), void** at) {                \
        call_kernel(kernel, at, std::index_sequence_for<Arguments...>());                \
    }                                                                                    \
    extern "C" size_t arguments_of_##KERNEL() { return count_##KERNEL(KERNEL); }         \
    extern "C" void call_##KERNEL(void** at) { enter_##KERNEL(KERNEL, at); }
