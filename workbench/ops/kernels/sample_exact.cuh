// What must equal the CPU bit for bit while a token is chosen: random numbers and float32 sums.
//
// Source: Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998); std::mt19937 and
// std::uniform_real_distribution<double> of libstdc++.
// NumPy twins: workbench/sampling/dist.py (Dist.uniform); np.cumsum of float32.

// --- the generator -------------------------------------------------------------------------------

DEVICE u32 twisted(u32 high, u32 low, u32 far) {
    const u32 both = (high & 0x80000000) | (low & 0x7FFFFFFF);
    return far ^ both >> 1 ^ (both & 1 ? 0x9908B0DF : 0);
}

// The next 624 words, 128 at a time: a word needs the new one 227 places before it.
template <class Team>
DEVICE void twist(Team& room, u32* words) {
    for (u32 i = threadIdx.x; i < 624 + threadIdx.x; i += 128) {
        const bool mine = threadIdx.x < 128 && i < 624;
        const u32 far = i < 227 ? i + 397 : i - 227;
        const u32 word = mine ? twisted(words[i], words[i == 623 ? 0 : i + 1], words[far]) : 0;
        room.sync();
        if (mine) words[i] = word;
        room.sync();
    }
}

DEVICE u32 tempered(u32 y) {
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680;
    y ^= y << 15 & 0xEFC60000;
    return y ^ y >> 18;
}

// The next two words, where the generator need not begin anew for them.
struct Pair {
    u32 place, low, high;
};

DEVICE Pair next_pair(const u32* generator) {
    const u32 place = generator[624];
    return place < 624 ? Pair{place, generator[place], generator[place + 1]} : Pair{place, 0, 0};
}

// A float64 in [0, 1) of the next two words, the first one the low half; `next` is what next_pair
// gave before.
template <class Team>
DEVICE double uniform(Team& room, u32* generator, Pair next) {
    if (next.place >= 624) {
        twist(room, generator);
        next = {0, generator[0], generator[1]};
    }
    if (threadIdx.x == 0) generator[624] = next.place + 2;
    const double low = tempered(next.low), high = tempered(next.high);
    const double number = (low + high * 0x1p32) * 0x1p-64;
    return number < 1.0 ? number : 1.0 - 0x1p-53;
}

// --- float32 sums, one number after another ------------------------------------------------------

// Adds numbers in shared memory to a sum, by one thread: each is replaced by the sum up to it. They
// are read and written eight at a time, so there must be room up to the next multiple of 8.
DEVICE float add_up(float* numbers, u32 n, float sum) {
    for (u32 i = 0; i < n; i += 8) {
        float4* eight = reinterpret_cast<float4*>(numbers + i);
        float4 a = eight[0], b = eight[1];
        a.x = sum = add(sum, a.x), a.y = sum = add(sum, a.y);
        a.z = sum = add(sum, a.z), a.w = sum = add(sum, a.w);
        b.x = sum = add(sum, b.x), b.y = sum = add(sum, b.y);
        b.z = sum = add(sum, b.z), b.w = sum = add(sum, b.w);
        eight[0] = a, eight[1] = b;
    }
    return sum;
}

// Many numbers in global memory. Between two powers of two a float32 is m * 2^k, m an integer, and
// adding a number adds it divided by 2^k and rounded to an integer, a tie to where m becomes even.
// So a run of numbers adds one of two integers, by whether m is even. All threads find these two for
// a run each, with k guessed from a float64 sum; runs of a warp make a run together. One warp then
// goes from run to run as far as k is that of the sum, elsewhere from number to number.
//
//     sum ─▶ 32 runs of a warp at once ─▶ … ─▶ run ─▶ run ─▶ number, number, … ─▶ run ─▶ …
//
// Run r holds numbers r * gridDim.x …; number j of it lies at j * LANES + r: threads read in a row.
DEVICE u32 place_in_runs(u32 number) { return number % gridDim.x * LANES + number / gridDim.x; }

DEVICE void add_to_run(Run& run, float steps) {
    const u32 whole = (u32)steps;
    const float rest = subtract(steps, (float)whole);
    const u32 up = rest > 0.5f, tie = rest == 0.5f;
    run.if_even += whole + up + (tie & (run.if_even + whole));
    run.if_odd += whole + up + (tie & (1 + run.if_odd + whole));
}

// Thread's own run of n numbers, where the sum before it is about `before`.
DEVICE Run run_of(const float* numbers, u32 n, double before) {
    Run run = {as_bits(from_double(before)) >> 23, 0, 0};
    if (run.exponent < 24 || run.exponent > 250) return {0, 0, 0};
    const float steps_per_one = as_float((277 - run.exponent) << 23);
#pragma unroll 8
    for (u32 i = 0; i < n; i++) {
        const float steps = multiply(numbers[i * LANES], steps_per_one);
        const bool far = steps > 0x1p24f || run.if_even > 1u << 24;
        if (far) run.exponent = 0;
        if (!far) add_to_run(run, steps);
    }
    return run;
}

// The runs of a warp as one: lane 31 has it.
DEVICE Run join_runs(Run run, int lane) {
    for (int step = 1; step < 32; step *= 2) {
        const int from = lane - step & 31;
        const Run before = {shuffle(run.exponent, from), shuffle(run.if_even, from),
                            shuffle(run.if_odd, from)};
        if (lane < step) continue;
        if (before.exponent != run.exponent || before.if_even > 1u << 24) run.exponent = 0;
        const u32 after_even = before.if_even & 1 ? run.if_odd : run.if_even;
        const u32 after_odd = before.if_odd & 1 ? run.if_even : run.if_odd;
        run.if_even = before.if_even + after_even, run.if_odd = before.if_odd + after_odd;
        if (run.if_even > 1u << 24) run.if_even = run.if_odd = 1u << 25;
    }
    return run;
}

// Adds a run to the sum, unless another power of two comes in between.
DEVICE bool add_run(float& sum, const Run& run) {
    const u32 bits = as_bits(sum), whole = (bits & 0x7FFFFF) | 0x800000;
    const u32 reached = whole + (whole & 1 ? run.if_odd : run.if_even);
    if (!run.exponent || run.exponent != bits >> 23 || reached >= 1u << 24) return false;
    sum = as_float((bits & 0xFF800000) | (reached & 0x7FFFFF));
    return true;
}

// One warp: adds the numbers of all runs. `some`: room for a run in shared memory.
DEVICE float add_runs(const Run* runs, const Run* of_warps, const float* numbers, u32 n, float* some) {
    const u32 length = gridDim.x, lane = threadIdx.x;
    float sum = 0;
    for (u32 run = 0; run * length < n; run++) {
        if (run % 32 == 0 && (run + 32) * length <= n && add_run(sum, of_warps[run / 32])) {
            run += 31;
        } else if (!add_run(sum, runs[run])) {
            for (u32 i = lane; i < (length + 7) / 8 * 8; i += 32)
                some[i] = i < length && run * length + i < n ? numbers[i * LANES + run] : 0;
            sync_warp();
            if (lane == 0) sum = add_up(some, length, sum);
            sum = shuffle(sum, 0);
            sync_warp();
        }
    }
    return sum;
}

// The float32 sum of n numbers that lie in runs; room.words and room.shares are overwritten.
template <class Team>
DEVICE float sum_in_order(Team& room, const float* numbers, u32 n) {
    if (Team::lanes < LANES) return 0;  // a few warps are never asked for this
    const u32 length = gridDim.x, first = threadIdx.x * length;
    const u32 mine = first >= n ? 0 : n - first < length ? n - first : length;
    const float* own = numbers + threadIdx.x;
    double part = 0, total;
#pragma unroll 8
    for (u32 i = 0; i < mine; i++) part += own[i * LANES];
    const double before = scan(room, part, total) - part;
    Run* runs = reinterpret_cast<Run*>(room.words);
    const Run run = run_of(own, mine, before);
    const Run joined = join_runs(run, threadIdx.x % 32);
    runs[threadIdx.x] = run;
    if (threadIdx.x % 32 == 31) room.of_runs[threadIdx.x / 32] = joined;
    room.sync();
    if (threadIdx.x < 32) room.number = add_runs(runs, room.of_runs, numbers, n, room.shares);
    room.sync();
    return room.number;
}
