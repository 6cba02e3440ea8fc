// Attention of one token: queries of a few heads that share keys, positions dealt to thread blocks.
//
//     item = (KV head, up to 4 of its query heads, a split of the positions)
//     a warp takes 32/LANES positions at a time, a lane eight numbers of a key and of a value;
//     warps, then splits are merged by their largest scores; of several splits the last one merges
//
// The item with the newest position also norms, rotates and caches key and value; queries are
// normed and rotated by each item that reads them. Scores are in units of log 2.
// Memory: k, v (K, n_rows, D) float16, the positions of a head one after the other.
// NumPy twin: ops.cpu_attention.attention, ops.cpu.rope.

constexpr int HEADS_PER_KV = N_HEAD / N_HEAD_KV;
constexpr int TOGETHER = HEADS_PER_KV < 4 ? HEADS_PER_KV : 4;
constexpr int CHUNKS_PER_KV = (HEADS_PER_KV + TOGETHER - 1) / TOGETHER;
constexpr int N_ITEMS = N_HEAD_KV * CHUNKS_PER_KV;
constexpr int LANES = HEAD_DIM > 128 ? 32 : HEAD_DIM > 64 ? 16 : HEAD_DIM > 32 ? 8 : 4;
constexpr int SIDE_BY_SIDE = 32 / LANES;
constexpr int LEAST_SPLIT = 128;  // positions; fewer cost a thread block as much time
constexpr float LOG2_E = 1.4426950408889634f, LOWEST = -1e30f;

struct Layer {
    Matrix attn[3], output, gate_up, down;
    const float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm;
    const float *q_norm, *k_norm, *biases, *output_bias;  // biases: of q, k, v, one after another
    const float2* rotation;                               // (n_ctx, N_ROT / 2), cos and sin
    u16 *k, *v;
    u32 window, unused;  // positions that are seen, 0: all
};

// Buffers of a token. splits: (H, MOST_SPLITS, D) sums and (H, MOST_SPLITS) largest score and sum.
struct Work {
    float *x, *other_x, *branch, *qkv, *mixed, *hidden, *logits, *split_sums;
    float2* split_ends;
    u32 *barrier, *arrivals, *state;
    float *scores;     // (L, H, n_rows), for statistics, or null
    float2 *ends;      // (L, H) largest score and sum of each head
    float *taps;       // (L, E)
    float *norms;      // (L, 2, K) of keys, then of values
    u64 *marks;        // clocks, for profiles, or null
    u32 n_rows, most_splits;
};

// What the item of a thread block is.
struct Item {
    int kv_head, first_head, split, splits, begin, end;
    bool has_newest;
};

DEVICE Item item_of(int number, int n_positions, u32 window, u32 most_splits) {
    const int start = window && n_positions > (int)window ? n_positions - window : 0;
    const int seen = n_positions - start;
    int splits = gridDim.x / N_ITEMS;
    splits = splits < 1 ? 1 : splits > (int)most_splits ? most_splits : splits;
    int length = ((seen + splits - 1) / splits + 31) / 32 * 32;
    length = length < LEAST_SPLIT ? LEAST_SPLIT : length;
    splits = (seen + length - 1) / length;
    Item item;
    item.split = number / N_ITEMS, item.splits = splits;
    const int rest = number % N_ITEMS;
    item.kv_head = rest / CHUNKS_PER_KV;
    item.first_head = item.kv_head * HEADS_PER_KV + rest % CHUNKS_PER_KV * TOGETHER;
    item.begin = start + item.split * length;
    item.end = item.begin + length < n_positions ? item.begin + length : n_positions;
    item.has_newest = item.split == splits - 1;
    return item;
}

// Reads a head's vector, norms it where there is a weight, and turns its pairs; by a whole warp.
DEVICE void place_head(const float* from, const float* weight, const float2* turn, float* out,
                       int lane) {
    constexpr int PART = (HEAD_DIM + 31) / 32;
    float v[PART], sum = 0;
#pragma unroll
    for (int i = 0; i < PART; i++) {
        const int d = lane + 32 * i;
        v[i] = d < HEAD_DIM ? load_fresh(from + d) : 0;
        sum += v[i] * v[i];
    }
    float length = 1;
    if (weight) {
        for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
        length = inverse_length(sum, HEAD_DIM);
    }
#pragma unroll
    for (int i = 0; i < PART; i++) {
        const int d = lane + 32 * i;
        if (d < HEAD_DIM) out[d] = weight ? v[i] * length * weight[d] : v[i];
    }
    sync_warp();
    if (turn)
        for (int pair = lane; pair < N_ROT / 2; pair += 32) {
            const int first = ROPE_NEOX ? pair : 2 * pair;
            const int second = ROPE_NEOX ? pair + N_ROT / 2 : 2 * pair + 1;
            const float2 by = turn[pair];
            const float a = out[first], b = out[second];
            out[first] = a * by.x - b * by.y;
            out[second] = a * by.y + b * by.x;
        }
    sync_warp();
}

// Stores a head's vector as float16 in the cache and, for statistics, its length.
DEVICE void cache_head(const float* from, u16* to, float* norm, int lane) {
    float sum = 0;
    for (int d = lane; d < HEAD_DIM; d += 32) {
        to[d] = (u16)to_halves(from[d], 0);
        const float kept = from_half((u16)to_halves(from[d], 0));
        sum += kept * kept;
    }
#if STATS
    for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
    if (lane == 0) *norm = sqrtf(sum);
#endif
}

// Eight float16 from memory that this kernel may have written.
DEVICE void load_eight(const u16* from, float (&out)[8]) {
    const float4 words = load_fresh4((const float*)from);
    const u32 pairs[4] = {as_bits(words.x), as_bits(words.y), as_bits(words.z), as_bits(words.w)};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[2 * i] = low_half(pairs[i]);
        out[2 * i + 1] = high_half(pairs[i]);
    }
}

DEVICE float score_of(float product) {
#ifdef ATTENTION_SOFTCAP
    product = ATTENTION_SOFTCAP * tanhf(product / ATTENTION_SOFTCAP);
#endif
    return product * LOG2_E;
}

// The running sums of some heads over positions.
struct Sums {
    float largest[TOGETHER], sum[TOGETHER], values[TOGETHER][8];
    DEVICE Sums() {
#pragma unroll
        for (int g = 0; g < TOGETHER; g++) {
            largest[g] = LOWEST, sum[g] = 0;
            for (int i = 0; i < 8; i++) values[g][i] = 0;
        }
    }
    DEVICE void add(int g, float score, bool counts, const float (&v)[8]) {
        const float most = fmaxf(largest[g], score);
        const float keep = exp2_fast(largest[g] - most), p = counts ? exp2_fast(score - most) : 0;
        largest[g] = most, sum[g] = sum[g] * keep + p;
#pragma unroll
        for (int i = 0; i < 8; i++) values[g][i] = values[g][i] * keep + p * v[i];
    }
    // With those of the lanes beside.
    DEVICE void merge() {
#pragma unroll
        for (int mask = LANES; mask < 32; mask *= 2)
            for (int g = 0; g < TOGETHER; g++) {
                const float other = shuffle_xor(largest[g], mask), most = fmaxf(largest[g], other);
                const float keep = exp2_fast(largest[g] - most);
                sum[g] *= keep, largest[g] = most;
                sum[g] += shuffle_xor(sum[g], mask);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    values[g][i] *= keep;
                    values[g][i] += shuffle_xor(values[g][i], mask);
                }
            }
    }
};

// Where an item keeps its things in shared memory.
struct Desk {
    float* queries;  // (TOGETHER, D), then key and value
    float* values;   // (N_WARPS, TOGETHER, D)
    float2* ends;    // (N_WARPS, TOGETHER)
    DEVICE Desk()
        : queries((float*)(shared_memory() + Layout::planes)),
          values(queries + (TOGETHER + 2) * HEAD_DIM),
          ends((float2*)(values + N_WARPS * TOGETHER * HEAD_DIM)) {}
};

// A warp's positions of an item.
DEVICE void attend_positions(const Item& item, const Layer& layer, const Work& work,
                             const Desk& desk, const Consumer& me, float* scores, Sums& sums) {
    const int column = me.lane % LANES * 8, beside = me.lane / LANES;
    const bool inside = column < HEAD_DIM;
    float q[TOGETHER][8];
#pragma unroll
    for (int g = 0; g < TOGETHER; g++)
        for (int i = 0; i < 8; i++)
            q[g][i] = inside ? desk.queries[g * HEAD_DIM + column + i] * ATTENTION_SCALE : 0;
    const u64 at = (u64)item.kv_head * work.n_rows * HEAD_DIM + (inside ? column : 0);
    constexpr int STEP = N_WARPS * SIDE_BY_SIDE, AT_ONCE = 2;
    const int begin = item.begin + me.warp * SIDE_BY_SIDE;
    for (int first = begin; first < item.end; first += AT_ONCE * STEP) {
        float k[AT_ONCE][8], v[AT_ONCE][8];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int position = first + u * STEP + beside;
            const int row = position < item.end ? position : item.end - 1;
            load_eight(layer.k + at + (u64)row * HEAD_DIM, k[u]);
            load_eight(layer.v + at + (u64)row * HEAD_DIM, v[u]);
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int position = first + u * STEP + beside;
            const bool counts = position < item.end;
#pragma unroll
            for (int g = 0; g < TOGETHER; g++) {
                float product = 0;
#pragma unroll
                for (int i = 0; i < 8; i++) product += q[g][i] * k[u][i];
                for (int mask = LANES / 2; mask; mask /= 2) product += shuffle_xor(product, mask);
                const float score = score_of(product);
#if STATS
                const int head = item.first_head + g;
                if (counts && column == 0 && head < (item.kv_head + 1) * HEADS_PER_KV)
                    scores[(u64)head * work.n_rows + position] = score;
#endif
                sums.add(g, counts ? score : LOWEST, counts, v[u]);
            }
        }
    }
    sums.merge();
}

// Brings the warps' sums together: value and end of number i (head g = i / D) of the item.
DEVICE float2 merged_end(const Desk& desk, int g) {
    float most = LOWEST, sum = 0;
    for (int warp = 0; warp < N_WARPS; warp++)
        most = fmaxf(most, desk.ends[warp * TOGETHER + g].x);
    for (int warp = 0; warp < N_WARPS; warp++) {
        const float2 end = desk.ends[warp * TOGETHER + g];
        sum += end.y * exp2_fast(end.x - most);
    }
    return make_float2(most, sum);
}

DEVICE float merged_value(const Desk& desk, int i, float most) {
    const int g = i / HEAD_DIM;
    float value = 0;
    for (int warp = 0; warp < N_WARPS; warp++)
        value += desk.values[warp * TOGETHER * HEAD_DIM + i] *
                 exp2_fast(desk.ends[warp * TOGETHER + g].x - most);
    return value;
}

// The last of an item's splits brings all of them together.
DEVICE void merge_splits(const Item& item, const Work& work, float2* ends, int thread) {
    for (int i = thread; i < TOGETHER * HEAD_DIM; i += CONSUMERS) {
        const int head = item.first_head + i / HEAD_DIM;
        if (head >= (item.kv_head + 1) * HEADS_PER_KV) continue;
        const float* heads_ends = (const float*)(work.split_ends + head * work.most_splits);
        float most = LOWEST, sum = 0, value = 0;
        for (int s = 0; s < item.splits; s++) most = fmaxf(most, load_fresh(heads_ends + 2 * s));
        for (int s = 0; s < item.splits; s++) {
            const float keep = exp2_fast(load_fresh(heads_ends + 2 * s) - most);
            sum += load_fresh(heads_ends + 2 * s + 1) * keep;
            const u64 at = ((u64)head * work.most_splits + s) * HEAD_DIM + i % HEAD_DIM;
            value += load_fresh(work.split_sums + at) * keep;
        }
        work.mixed[head * HEAD_DIM + i % HEAD_DIM] = value / sum;
        if (ends && i % HEAD_DIM == 0) ends[head] = make_float2(most, sum);
    }
}

// What the item's warps have found goes to memory.
DEVICE void finish_item(const Item& item, const Work& work, const Desk& desk, float2* ends,
                        int thread, u32* last) {
    for (int i = thread; i < TOGETHER * HEAD_DIM; i += CONSUMERS) {
        const int head = item.first_head + i / HEAD_DIM, d = i % HEAD_DIM;
        if (head >= (item.kv_head + 1) * HEADS_PER_KV) continue;
        const float2 end = merged_end(desk, i / HEAD_DIM);
        const float value = merged_value(desk, i, end.x);
        if (item.splits == 1) {
            work.mixed[head * HEAD_DIM + d] = value / end.y;
            if (ends && d == 0) ends[head] = end;
        } else {
            const u64 at = (u64)head * work.most_splits + item.split;
            work.split_sums[at * HEAD_DIM + d] = value;
            if (d == 0) work.split_ends[at] = end;
        }
    }
    if (item.splits == 1) return;
    sync_group(ALL_CONSUMERS, CONSUMERS);
    if (thread == 0) {
        u32* arrivals = work.arrivals + item.first_head;
        fence_gpu();
        *last = add_release(arrivals, 1) == (u32)item.splits - 1;
        fence_gpu();
        if (*last) *arrivals = 0;
    }
    sync_group(ALL_CONSUMERS, CONSUMERS);
    if (*last) merge_splits(item, work, ends, thread);
}

DEVICE void attend(int number, const Layer& layer, const Work& work, const Consumer& me,
                   int n_positions) {
    const Desk desk;
    const int thread = me.warp * 32 + me.lane;
    const float2* turn =
        layer.rotation ? layer.rotation + (u64)(n_positions - 1) * (N_ROT / 2) : nullptr;
    float* scores = STATS ? work.scores + (u64)number * N_HEAD * work.n_rows : nullptr;
    float2* ends = STATS ? work.ends + number * N_HEAD : nullptr;
    for (int i = blockIdx.x;; i += gridDim.x) {
        const Item item = item_of(i, n_positions, layer.window, work.most_splits);
        if (i >= N_ITEMS * item.splits) break;
        const u64 newest = ((u64)item.kv_head * work.n_rows + n_positions - 1) * HEAD_DIM;
        float* mine = desk.queries + me.warp * HEAD_DIM;
        const int head = item.first_head + me.warp;
        if (me.warp < TOGETHER && head < (item.kv_head + 1) * HEADS_PER_KV)
            place_head(work.qkv + head * HEAD_DIM, layer.q_norm, turn, mine, me.lane);
        if (me.warp == TOGETHER && item.has_newest) {
            const float* from = work.qkv + (N_HEAD + item.kv_head) * HEAD_DIM;
            place_head(from, layer.k_norm, turn, mine, me.lane);
            cache_head(mine, layer.k + newest, work.norms + (2 * number) * N_HEAD_KV + item.kv_head,
                       me.lane);
        }
        if (me.warp == TOGETHER + 1 && item.has_newest) {
            const float* from = work.qkv + (N_HEAD + N_HEAD_KV + item.kv_head) * HEAD_DIM;
            place_head(from, nullptr, nullptr, mine, me.lane);
            cache_head(mine, layer.v + newest,
                       work.norms + (2 * number + 1) * N_HEAD_KV + item.kv_head, me.lane);
        }
        sync_group(ALL_CONSUMERS, CONSUMERS);
        Sums sums;
        attend_positions(item, layer, work, desk, me, scores, sums);
        const int column = me.lane % LANES * 8;
        if (me.lane < LANES)
            for (int g = 0; g < TOGETHER; g++) {
                float* to = desk.values + (me.warp * TOGETHER + g) * HEAD_DIM + column;
                if (column < HEAD_DIM)
                    for (int k = 0; k < 8; k++) to[k] = sums.values[g][k];
                if (column == 0)
                    desk.ends[me.warp * TOGETHER + g] = make_float2(sums.largest[g], sums.sum[g]);
            }
        sync_group(ALL_CONSUMERS, CONSUMERS);
        finish_item(item, work, desk, ends, thread, (u32*)(desk.ends + N_WARPS * TOGETHER));
        sync_group(ALL_CONSUMERS, CONSUMERS);
    }
}
