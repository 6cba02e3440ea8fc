// How thread blocks tell one another numbers without waiting until writes have come through.
//
//     who writes   store_relaxed to a place that is UNWRITTEN, then `arrive`
//     who reads    `await`, then looks again and again at what is still UNWRITTEN
//
// So a meeting only says when it is worth looking: arrivals are not ordered after what was written,
// and some may still be missing. What comes of it does not depend on who was first.
// Places become UNWRITTEN again long before they are needed. In layer j,
//
//     norm, q k v ║ attention ║ output ║A norm, gate up ║C down ║F next layer
//
// nobody goes on from C before all were at A (a strict meeting, for which nobody has to wait), so
// there all have read q k v, splits and mixed values of layer j, hidden of layer j - 1 and the
// states 2 j - 1 and 2 j. These are forgotten at F, before A of layer j + 1, and written again
// after its C: of q k v, splits and mixed there are two places, of hidden three, of states six.
// Measured on an NVIDIA H200, Llama 3 8B Q4_0, tokens/s: all meetings strict 620, those of q k v,
// hidden and states as here 650, all of them and only what is missing read again 674.
// Source: PTX ISA, "Memory Consistency Model". Follows decode_stream.cuh; the loader gives N_STATES
// and UNWRITTEN, a NaN that no arithmetic gives.

DEVICE bool is_written(float number) { return as_bits(number) != UNWRITTEN; }
DEVICE bool are_written(float4 numbers) {
    return is_written(numbers.x) && is_written(numbers.y) && is_written(numbers.z) &&
           is_written(numbers.w);
}

// Looks at the first n of N places, again and again at what is still UNWRITTEN; the others: `none`.
template <int N, class Place>
DEVICE void await(float4 (&found)[N], int n, float4 none, Place place) {
#pragma unroll
    for (int i = 0; i < N; i++) found[i] = i < n ? load_relaxed4(place(i)) : none;
    for (bool all = false; !all;) {
        all = true;
#pragma unroll
        for (int i = 0; i < N; i++)
            if (!are_written(found[i])) {
                found[i] = load_relaxed4(place(i));
                all = false;
            }
        if (!all) in_vain();
    }
}

// The meetings of all consumers of all thread blocks. Where one is strict, all see after it what
// the others wrote before.
struct Meetings {
    u32 arrivals = 0, strict_arrivals = 0;  // of all thread blocks so far
    bool is_strict = false;

    // Thread blocks that may still be missing: in the end all wait for the slowest.
    static DEVICE u32 missing() { return gridDim.x / 3; }

    DEVICE void arrive(const Work& work, const Consumer& me, bool strict = false) {
        sync_group(ALL_CONSUMERS, CONSUMERS);
        arrivals += gridDim.x, is_strict = strict;
        if (me.warp || me.lane) return;
        if (strict) add_release(work.meetings, 1);
        else add_relaxed(work.meetings, 1);
    }
    DEVICE void await(const Work& work, const Consumer& me) const {
        const u32* const counter = work.meetings;  // before the loop, where a look may empty L1
        if (me.warp == 0 && me.lane == 0) {
            if (is_strict) {
                while (load_acquire(counter) < arrivals) in_vain();
            } else {
                while (load_relaxed(counter) + missing() < arrivals) in_vain();
            }
        }
        sync_group(ALL_CONSUMERS, CONSUMERS);
    }
    // The strict meeting from A to C, by another warp: after an `arrive`, before an `await`.
    DEVICE void arrive_strictly(const Work& work, const Consumer& me) {
        strict_arrivals += gridDim.x;
        if (me.warp == 1 && me.lane == 0) add_release(work.meetings + 1, 1);
    }
    DEVICE void await_strictly(const Work& work, const Consumer& me) const {
        if (me.warp == 1 && me.lane == 0)
            while (load_acquire(work.meetings + 1) < strict_arrivals) in_vain();
    }
};

// This thread block's share of n numbers (a multiple of 4) is UNWRITTEN again.
DEVICE void forget(float* from, int n, const Consumer& me) {
    const int thread = me.warp * 32 + me.lane, stride = 4 * gridDim.x;
    const float gone = as_float(UNWRITTEN);
    for (int i = 4 * blockIdx.x + stride * thread; i < n; i += stride * CONSUMERS)
        store_relaxed4(from + i, make_float4(gone, gone, gone, gone));
}
