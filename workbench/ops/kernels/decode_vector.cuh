// A vector of the token from global memory to planes of activations in shared memory, by consumers.
//
//     x ─▶ (x + norm(branch) w) ─▶ norm ─▶ planes         the same in every thread block
//
// Every thread block does this for itself: that costs less than asking another one. What thread
// blocks wrote in this kernel is read past L1.
// NumPy twins: ops.cpu.rms_norm, ops.planes.

// Sum and maximum over all consumers, the same in each; `turn` alternates between two memories.
DEVICE void reduce(float& sum, float& largest, const Consumer& me, int& turn) {
    for (int mask = 16; mask; mask /= 2) {
        sum += shuffle_xor(sum, mask);
        largest = fmaxf(largest, shuffle_xor(largest, mask));
    }
    float2* scratch = (float2*)(shared_memory() + Layout::scratch) + (turn ^= 1) * N_WARPS;
    if (me.lane == 0) scratch[me.warp] = make_float2(sum, largest);
    sync_group(ALL_CONSUMERS, CONSUMERS);
    sum = 0, largest = 0;
#pragma unroll
    for (int warp = 0; warp < N_WARPS; warp++) {
        sum += scratch[warp].x;
        largest = fmaxf(largest, scratch[warp].y);
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
    return fmaxf(fmaxf(fabsf(a.x), fabsf(a.y)), fmaxf(fabsf(a.z), fabsf(a.w)));
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
            largest = fmaxf(largest, largest_of(part[i]));
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
        for (int i = 0; i < ROUNDS; i++) most = fmaxf(most, largest_of(part[i]));
        reduce(sum, most, me, turn);
        return most;
    }
    template <class Planes>
    DEVICE Planes planes(float most, const Consumer& me) const {
        const Planes made(shared_memory() + Layout::planes, N, exponent_of(most * 1.0000002f));
        constexpr int PADDED = (N + 127) / 128 * 128;
#pragma unroll
        for (int i = 0; i < (PADDED / 4 + CONSUMERS - 1) / CONSUMERS; i++) {
            const int column = 4 * (i * CONSUMERS + me.warp * 32 + me.lane);
            const float4 v = i < ROUNDS ? part[i < ROUNDS ? i : 0] : make_float4(0, 0, 0, 0);
            const float four[4] = {v.x, v.y, v.z, v.w};
            // Whole warps, of 128 columns.
            if (column - 4 * me.lane < PADDED) made.put(column, four, HAS_MINIMA);
        }
        sync_group(ALL_CONSUMERS, CONSUMERS);
        return made;
    }
};
