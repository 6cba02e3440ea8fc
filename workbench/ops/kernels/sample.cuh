// What the threads of one thread block do together while they choose a token.
//
// A *key* stands for a candidate, so that ascending keys are candidates as the CPU orders them: the
// largest logit first, among equal logits the smallest id first.
//
//     63                              32 31                               0
//    ┌──────────────────────────────────┬──────────────────────────────────┐
//    │ the logit's bits, falling        │ token id                         │
//    └──────────────────────────────────┴──────────────────────────────────┘
//
// Sums of float64 are added in one fixed order (a tree), so every run gives the same bits.
// NumPy twin: workbench/sampling/candidates.py.

constexpr u32 LANES = 1024;     // threads of a thread block, and logits of a tile
constexpr u32 CAPACITY = 2048;  // candidates that can be put in order, and that a record lists
constexpr u32 ENOUGH = 1024;    // are put in order if there are more
constexpr u32 BINS = 2048, BIN_BITS = 11;

struct Room {  // shared memory
    u64 keys[CAPACITY];
    float shares[CAPACITY];
    u32 words[3 * LANES];  // bins, runs of a sum or the generator's state
    double of_warps[32];
    u32 word, more;
    float number;
    double wide;
};

DEVICE u32 falling(float logit) {
    const u32 bits = as_bits(add(logit, 0.0f));  // -0 becomes 0
    return bits & 0x80000000 ? bits : ~bits & 0x7FFFFFFF;
}

DEVICE float logit_of(u32 falling) {
    return as_float(falling & 0x80000000 ? falling : ~falling & 0x7FFFFFFF);
}

DEVICE float logit_of(u64 key) { return logit_of((u32)(key >> 32)); }

DEVICE u64 key_of(float logit, u32 id) { return (u64)falling(logit) << 32 | id; }

DEVICE bool is_finite(float x) { return (as_bits(x) & 0x7F800000) != 0x7F800000; }

DEVICE float minus_infinity() { return as_float(0xFF800000); }

// exp(x - largest), rounded once as on the CPU.
DEVICE float share_of(float x, float largest) {
    return from_double(exp((double)subtract(x, largest)));
}

// a / b, rounded to nearest, where `inverse` is 1 / b in float64: what that product is off, 2^-52
// of it, is less than how near a quotient of float32 can come to the middle between two, 2^-49.
DEVICE float divide(float a, double inverse) { return from_double((double)a * inverse); }

DEVICE u32 exchange(u32 value, int lane) { return shuffle(value, lane); }

DEVICE double exchange(double value, int lane) {
    u32 halves[2];
    memcpy(halves, &value, 8);
    halves[0] = shuffle(halves[0], lane), halves[1] = shuffle(halves[1], lane);
    memcpy(&value, halves, 8);
    return value;
}

template <class Number>
DEVICE Number scan_warp(Number value, int lane) {
    for (int step = 1; step < 32; step *= 2) {
        const Number below = exchange(value, lane - step & 31);
        if (lane >= step) value += below;
    }
    return value;
}

// The sum of the values of all threads up to this one; `total` becomes that of all.
template <class Number>
DEVICE Number scan(Room& room, Number value, Number& total) {
    Number* of_warps = reinterpret_cast<Number*>(room.of_warps);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    value = scan_warp(value, lane);
    __syncthreads();  // others may still read the last totals
    if (lane == 31) of_warps[warp] = value;
    __syncthreads();
    const Number totals = scan_warp(of_warps[lane], lane);
    total = exchange(totals, 31);
    const Number before = exchange(totals, warp - 1 & 31);
    return warp ? before + value : value;
}

template <class Number>
DEVICE Number sum(Room& room, Number value) {
    Number total;
    scan(room, value, total);
    return total;
}

// The smallest value of all threads.
DEVICE u32 least(Room& room, u32 value) {
    u32* of_warps = reinterpret_cast<u32*>(room.of_warps);
    for (int mask = 16; mask; mask /= 2) {
        const u32 other = shuffle_xor(value, mask);
        value = other < value ? other : value;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = of_warps[threadIdx.x % 32];
    for (int mask = 16; mask; mask /= 2) {
        const u32 other = shuffle_xor(value, mask);
        value = other < value ? other : value;
    }
    return value;
}

struct Bins {
    u32 bins, keys, total;
};

// How many bins, from the first on, are needed for `want` keys and hold no more than `room_for`.
DEVICE Bins take_bins(Room& room, const u32* bins, u32 want, u32 room_for) {
    const u32 first = bins[2 * threadIdx.x], second = bins[2 * threadIdx.x + 1];
    Bins taken;
    const u32 to_second = scan(room, first + second, taken.total);
    const u32 to_first = to_second - second, before = to_first - first;
    const bool takes_first = before < want && to_first <= room_for;
    const bool takes_second = takes_first && to_first < want && to_second <= room_for;
    taken.bins = sum(room, (u32)takes_first + (u32)takes_second);
    taken.keys = sum(room, (takes_first ? first : 0) + (takes_second ? second : 0));
    return taken;
}

// Bitonic sort of n keys, ascending; at least up to the next power of two there is room.
DEVICE void sort(u64* keys, u32 n) {
    u32 size = 2;
    while (size < n) size *= 2;
    for (u32 i = n + threadIdx.x; i < size; i += LANES) keys[i] = ~0ull;
    __syncthreads();
    for (u32 run = 2; run <= size; run *= 2)
        for (u32 step = run / 2; step; step /= 2) {
            for (u32 pair = threadIdx.x; pair < size / 2; pair += LANES) {
                const u32 a = 2 * pair - (pair & (step - 1)), b = a + step;
                const u64 low = keys[a], high = keys[b];
                if ((low > high) == !(a & run)) keys[a] = high, keys[b] = low;
            }
            __syncthreads();
        }
}

// The next keys in order, from `lower` on, sorted in room.keys: as many as lead to `want`, at least
// `least_many`, unless there are fewer; at most CAPACITY. Reads all logits a few times: a radix
// select by 11 bits of the key at a time. Returns how many.
DEVICE u32 next_band(Room& room, const float* logits, u32 n_vocab, u64 lower, u32 want,
                     u32 least_many) {
    u64 prefix = 0, last = 0;
    u32 taken = 0;
    for (int shift = 64 - BIN_BITS;; shift = shift > (int)BIN_BITS ? shift - BIN_BITS : 0) {
        for (u32 i = threadIdx.x; i < BINS; i += LANES) room.words[i] = 0;
        __syncthreads();
        const u64 span = shift == 64 - BIN_BITS ? ~0ull : ((u64)BINS << shift) - 1;
        for (u32 i = threadIdx.x; i < n_vocab; i += LANES) {
            const u64 key = key_of(logits[i], i);
            if (key >= lower && key >= prefix && key - prefix <= span)
                atomicAdd(&room.words[key - prefix >> shift], 1u);
        }
        __syncthreads();
        const Bins now = take_bins(room, room.words, want - taken, CAPACITY - taken);
        taken += now.keys;
        prefix += (u64)now.bins << shift;
        last = prefix - 1;
        if (taken >= least_many || now.keys == now.total) break;
    }
    if (threadIdx.x == 0) room.word = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < n_vocab; i += LANES) {
        const u64 key = key_of(logits[i], i);
        if (key >= lower && key <= last) room.keys[atomicAdd(&room.word, 1u)] = key;
    }
    __syncthreads();
    sort(room.keys, taken);
    return taken;
}
