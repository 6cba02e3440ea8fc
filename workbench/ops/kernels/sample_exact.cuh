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

// The next 624 words, in three parts: each needs the one before.
DEVICE void twist(u32* words) {
    const u32 i = threadIdx.x, ends[4] = {0, 227, 454, 624};
    for (int part = 0; part < 3; part++) {
        const bool mine = ends[part] <= i && i < ends[part + 1];
        const u32 far = i < 227 ? i + 397 : i - 227;
        const u32 word = mine ? twisted(words[i], words[i == 623 ? 0 : i + 1], words[far]) : 0;
        __syncthreads();
        if (mine) words[i] = word;
        __syncthreads();
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
DEVICE double uniform(u32* generator, Pair next) {
    if (next.place >= 624) {
        twist(generator);
        next = {0, generator[0], generator[1]};
    }
    if (threadIdx.x == 0) generator[624] = next.place + 2;
    const double low = tempered(next.low), high = tempered(next.high);
    const double number = (low + high * 0x1p32) * 0x1p-64;
    return number < 1.0 ? number : 1.0 - 0x1p-53;
}

// --- float32 sums of many numbers, one after another ---------------------------------------------

// Between two powers of two a float32 is m * 2^k, m an integer, and adding a number adds it divided
// by 2^k and rounded to an integer, a tie to where m becomes even. So a run of numbers adds one of
// two integers, by whether m is even. All threads find these two for a run each, with k guessed
// from a float64 sum; one thread then goes from run to run, and from number to number where k is
// another.
struct Run {
    u32 exponent, if_even, if_odd;
};

DEVICE void add_to_run(Run& run, float steps) {
    const u32 whole = (u32)steps;
    const float rest = subtract(steps, (float)whole);
    const u32 up = rest > 0.5f, tie = rest == 0.5f;
    run.if_even += whole + up + (tie & (run.if_even + whole));
    run.if_odd += whole + up + (tie & (1 + run.if_odd + whole));
}

DEVICE Run run_of(const float* numbers, u32 n, double before) {
    Run run = {as_bits(from_double(before)) >> 23, 0, 0};
    if (run.exponent < 24 || run.exponent > 250) return {0, 0, 0};
    const float steps_per_one = as_float((277 - run.exponent) << 23);
    for (u32 i = 0; i < n; i++) {
        const float steps = multiply(numbers[i], steps_per_one);
        if (steps > 0x1p24f || run.if_even > 1u << 24) return {0, 0, 0};
        add_to_run(run, steps);
    }
    return run;
}

DEVICE float add_runs(const Run* runs, const float* numbers, u32 n, u32 length) {
    float sum = 0;
    for (u32 run = 0, first = 0; first < n; run++, first += length) {
        const u32 bits = as_bits(sum), whole = (bits & 0x7FFFFF) | 0x800000;
        const Run& now = runs[run];
        const u32 reached = whole + (whole & 1 ? now.if_odd : now.if_even);
        if (now.exponent && now.exponent == bits >> 23 && reached < 1u << 24) {
            sum = as_float((bits & 0xFF800000) | (reached & 0x7FFFFF));
        } else {
            const u32 end = first + length < n ? first + length : n;
#pragma unroll 8
            for (u32 i = first; i < end; i++) sum = add(sum, numbers[i]);
        }
    }
    return sum;
}

DEVICE float sum_in_order(Room& room, const float* numbers, u32 n) {
    const u32 length = (n + LANES - 1) / LANES, first = threadIdx.x * length;
    const u32 mine = first >= n ? 0 : n - first < length ? n - first : length;
    double part = 0, total;
    for (u32 i = 0; i < mine; i++) part += numbers[first + i];
    const double before = scan(room, part, total) - part;
    Run* runs = reinterpret_cast<Run*>(room.words);
    runs[threadIdx.x] = run_of(numbers + first, mine, before);
    __syncthreads();
    if (threadIdx.x == 0) room.number = add_runs(runs, numbers, n, length);
    __syncthreads();
    return room.number;
}
