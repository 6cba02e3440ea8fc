// A vector of the token from global memory to planes of activations in shared memory, by consumers.
//
//     x ─▶ (x + norm(branch) w) ─▶ norm ─▶ planes         the same in every thread block
//
// Every thread block does this for itself: that costs less than asking another one. What thread
// blocks wrote in this kernel is read past L1.
// NumPy twins: ops.cpu.rms_norm, ops.planes.

DEVICE constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
DEVICE constexpr int least_of(int a, int b) { return a < b ? a : b; }

// Sum and maximum over all consumers, the same in each; `turn` alternates between two memories.
// Numbers that are none stay none, so that what comes of them is refused in the end.
DEVICE void reduce(float& sum, float& largest, const Consumer& me, int& turn) {
    for (int mask = 16; mask; mask /= 2) {
        sum += shuffle_xor(sum, mask);
        largest = greater(largest, shuffle_xor(largest, mask));
    }
    float2* scratch = (float2*)(shared_memory() + Layout::scratch) + (turn ^= 1) * N_WARPS;
    if (me.lane == 0) scratch[me.warp] = make_float2(sum, largest);
    sync_group(ALL_CONSUMERS, CONSUMERS);
    sum = 0, largest = 0;
#pragma unroll
    for (int warp = 0; warp < N_WARPS; warp++) {
        sum += scratch[warp].x;
        largest = greater(largest, scratch[warp].y);
    }
}

DEVICE float inverse_length(float sum_of_squares, int n) {
    return inverse_root_fast(sum_of_squares * (1.0f / n) + NORM_EPS);
}

DEVICE float4 times(float4 a, float s) { return make_float4(a.x * s, a.y * s, a.z * s, a.w * s); }
DEVICE float4 times(float4 a, float4 b) {
    return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}
DEVICE float4 plus(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
DEVICE float squares(float4 a) { return a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w; }
DEVICE float largest_of(float4 a) {
    return greater(greater(fabsf(a.x), fabsf(a.y)), greater(fabsf(a.z), fabsf(a.w)));
}

// Writes the planes of N numbers, of which `most` is the largest magnitude; four(column, round):
// four of them, zeros behind the last.
template <class Planes, int N, class Four>
DEVICE Planes planes_of(float most, const Consumer& me, Four four) {
    constexpr int PADDED = (N + 127) / 128 * 128;
    const Planes made(shared_memory() + Layout::planes, N, exponent_of(most * 1.0000002f));
#pragma unroll
    for (int i = 0; i < (PADDED / 4 + CONSUMERS - 1) / CONSUMERS; i++) {
        const int column = 4 * (i * CONSUMERS + me.warp * 32 + me.lane);
        const float4 v = four(column, i);
        const float numbers[4] = {v.x, v.y, v.z, v.w};
        // Whole warps, of 128 columns.
        if (column - 4 * me.lane < PADDED) made.put(column, numbers, HAS_MINIMA);
    }
    sync_group(ALL_CONSUMERS, CONSUMERS);
    return made;
}

// N numbers, four a thread and round.
template <int N>
struct Vector {
    static constexpr int ROUNDS = (N / 4 + CONSUMERS - 1) / CONSUMERS;
    float4 part[ROUNDS];
    static DEVICE int at(int round, const Consumer& me) {
        return 4 * (round * CONSUMERS + me.warp * 32 + me.lane);
    }
    DEVICE void load(const float* from, const Consumer& me) {
#pragma unroll
        for (int i = 0; i < ROUNDS; i++)
            part[i] = at(i, me) < N ? load_fresh4(from + at(i, me)) : make_float4(0, 0, 0, 0);
    }
    // The same of numbers that are exchanged and may still be on their way.
    DEVICE void await(const float* from, const Consumer& me) {
        const int rounds = at(ROUNDS - 1, me) < N ? ROUNDS : ROUNDS - 1;
        ::await(part, rounds, make_float4(0, 0, 0, 0), [&](int i) { return from + at(i, me); });
    }
    // The same of what no thread block writes.
    DEVICE void load_constant(const float* from, const Consumer& me) {
#pragma unroll
        for (int i = 0; i < ROUNDS; i++)
            part[i] = at(i, me) < N ? *(const float4*)(from + at(i, me)) : make_float4(0, 0, 0, 0);
    }
    // Scales to a root mean square of 1, then by the weight; returns the largest magnitude.
    DEVICE float norm(const Vector& weights, const Consumer& me, int& turn) {
        float sum = 0, largest = 0;
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            sum += squares(part[i]);
            part[i] = times(part[i], weights.part[i]);
            largest = greater(largest, largest_of(part[i]));
        }
        reduce(sum, largest, me, turn);
        const float length = inverse_length(sum, N);
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) part[i] = times(part[i], length);
        return largest * length;
    }
    DEVICE float largest(const Consumer& me, int& turn) {
        float sum = 0, most = 0;
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) most = greater(most, largest_of(part[i]));
        reduce(sum, most, me, turn);
        return most;
    }
    template <class Planes>
    DEVICE Planes planes(float most, const Consumer& me) const {
        return planes_of<Planes, N>(most, me, [&](int, int i) {
            return i < ROUNDS ? part[i < ROUNDS ? i : 0] : make_float4(0, 0, 0, 0);
        });
    }
};

// The same of more numbers than registers hold: read once for the largest, once for the planes.
template <int N>
struct LongVector {
    static constexpr int AT_ONCE = 8, STEP = AT_ONCE * 4 * CONSUMERS;
    const float* from;
    float own;  // the largest magnitude of this thread's numbers

    DEVICE void await(const float* numbers, const Consumer& me) {
        from = numbers, own = 0;
        const int thread = me.warp * 32 + me.lane;
#pragma unroll 1
        for (int first = 4 * thread; first < N; first += STEP) {
            const int n = least_of(AT_ONCE, divide_up(N - first, 4 * CONSUMERS));
            float4 part[AT_ONCE];
            ::await(part, n, make_float4(0, 0, 0, 0),
                    [&](int i) { return from + first + 4 * i * CONSUMERS; });
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) own = greater(own, largest_of(part[i]));
        }
    }
    DEVICE float largest(const Consumer& me, int& turn) const {
        float sum = 0, most = own;
        reduce(sum, most, me, turn);
        return most;
    }
    template <class Planes>
    DEVICE Planes planes(float most, const Consumer& me) const {
        return planes_of<Planes, N>(most, me, [&](int column, int) {
            return column < N ? load_relaxed4(from + column) : make_float4(0, 0, 0, 0);
        });
    }
};

// N numbers that are exchanged, held if they fit beside what a product needs.
constexpr int MOST_HELD = 16;  // rounds
template <int N, bool FIT = Vector<N>::ROUNDS <= MOST_HELD>
struct Exchanged { typedef Vector<N> Held; };
template <int N>
struct Exchanged<N, false> { typedef LongVector<N> Held; };
