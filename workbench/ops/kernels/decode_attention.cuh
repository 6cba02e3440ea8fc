// Attention of one token on the tensor cores: heads that share keys, positions dealt to warps.
//
//     warps      TILE positions at a time:  S = q K   p = 2^(S - largest)   sums = keep sums + V p
//     merged     warps by their largest scores, then splits, by the first of them
//
// In S = A B the heads are rows of A, high parts above low ones, and B's columns are keys as they
// lie in the cache: which numbers of a head a step multiplies is free as long as q and k agree, so
// 16 bytes of a lane serve two steps. In V p the numbers of a head are rows of A, and p (high and
// low) is B, exactly as it lies in the registers of S. Scores are in units of log 2.
// Follows decode_heads.cuh. NumPy twin: ops.cpu_attention.attention.

DEVICE float score_of(float product) {
    product *= (float)ATTENTION_SCALE;
#ifdef ATTENTION_SOFTCAP
    product = ATTENTION_SOFTCAP * tanhf(product / ATTENTION_SOFTCAP);
#endif
    return product * LOG2_E;
}

// A warp's running sums over positions. Lane (g, t) has the ends of head g, `sum` over its own
// positions; the values are on the desk, where lane (g, t) adds to numbers 64 part + 8 g .. of
// heads 2 t and 2 t + 1.
struct Sums {
    float largest = LOWEST, sum = 0;

    // Scores of head g at positions 8 n + 2 t and + 1.
    static DEVICE void multiply_keys(const Positions& at, const Desk& desk, int lane,
                                     float (&scores)[KEY_TILES][2]) {
        const int g = lane / 4 < TOGETHER ? lane / 4 : 0;  // rows of no head: their sums go nowhere
        const u16* high = desk.queries + g * Desk::QUERY + lane % 4 * 8;
        const u16* low = high + TOGETHER * Desk::QUERY;
        float c[KEY_TILES][2][4] = {};
#pragma unroll
        for (int part = 0; part < KEY_PARTS; part++) {
            const uint4 h = *(const uint4*)(high + 32 * part), l = *(const uint4*)(low + 32 * part);
#pragma unroll
            for (int n = 0; n < KEY_TILES; n++) {
                const uint4 k = at.read(Positions::of_key(n, lane), 32 * part + lane % 4 * 8);
                mma_f16(c[n][0], h.x, l.x, h.y, l.y, k.x, k.y);
                mma_f16(c[n][1], h.z, l.z, h.w, l.w, k.z, k.w);
            }
        }
        const float unit = desk.units[g];
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float high_part = c[n][0][i] + c[n][1][i];
                const float low_part = c[n][0][i + 2] + c[n][1][i + 2];
                scores[n][i] = score_of((high_part + low_part) * unit);
            }
    }

    // Makes room for scores up to the largest of these; positions that do not count have LOWEST.
    // Returns: what to multiply with what was there before.
    DEVICE float raise(const float (&scores)[KEY_TILES][2]) {
        float most = largest;
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) most = fmaxf(most, fmaxf(scores[n][0], scores[n][1]));
        most = fmaxf(most, shuffle_xor(most, 1));
        most = fmaxf(most, shuffle_xor(most, 2));
        const float keep = exp2_fast(largest - most);
        largest = most, sum *= keep;
        return keep;
    }

    // c[i] = V p, of shares p as they lie: of head 2 t numbers 64 part + 8 g + 2 i and + 1 are
    // c[i][0] and c[i][2], of head 2 t + 1 the other two.
    static DEVICE void multiply_values(const Positions& at, int part, int lane,
                                       const u32 (&high)[2], const u32 (&low)[2],
                                       float (&c)[4][4]) {
        u32 v[2 * KEY_TILES][4];
#pragma unroll
        for (int n = 0; n < 2 * KEY_TILES; n++) {
            const uint4 from = at.read(Positions::of_value(n, lane), 64 * part + lane / 4 * 8);
            v[n][0] = from.x, v[n][1] = from.y, v[n][2] = from.z, v[n][3] = from.w;
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 a[4] = {};
#pragma unroll
            for (int n = 0; n < KEY_TILES; n++) {
                a[2 * n] = pick_bytes(v[2 * n][i], v[2 * n + 1][i], 0x5410);
                a[2 * n + 1] = pick_bytes(v[2 * n][i], v[2 * n + 1][i], 0x7632);
            }
            mma_f16(c[i], a[0], a[1], a[2], a[3], high[0], high[1]);
            mma_f16(c[i], a[0], a[1], a[2], a[3], low[0], low[1]);
        }
    }

    DEVICE void add(const Positions& at, const float (&scores)[KEY_TILES][2], const Desk& desk,
                    bool is_first, const Consumer& me) {
        const float keep = raise(scores);
        u32 high[2] = {}, low[2] = {};
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) {
            const float a = exp2_fast(scores[n][0] - largest);
            const float b = exp2_fast(scores[n][1] - largest);
            sum += a + b;
            high[n] = to_halves(a, b);
            low[n] = to_halves(a - from_half((u16)high[n]), b - from_half((u16)(high[n] >> 16)));
        }
        const int g = me.lane / 4, t = me.lane % 4;
        const float keeps[2] = {shuffle(keep, 8 * t), shuffle(keep, 8 * t + 4)};
#pragma unroll
        for (int part = 0; part < VALUE_PARTS; part++) {
            float c[4][4] = {};
            multiply_values(at, part, me.lane, high, low, c);
            const int column = 64 * part + 8 * g;
#pragma unroll
            for (int side = 0; side < 2; side++) {
                if (column >= HEAD_DIM || 2 * t + side >= TOGETHER) continue;
                float2* to = (float2*)(desk.sums_of(me.next, 2 * t + side) + column);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float2 old = is_first ? make_float2(0, 0) : to[i];
                    to[i] = make_float2(old.x * keeps[side] + c[i][side],
                                        old.y * keeps[side] + c[i][side + 2]);
                }
            }
        }
    }

    DEVICE void write_ends(const Desk& desk, const Consumer& me) {
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const int g = me.lane / 4;
        if (me.lane % 4 == 0 && g < TOGETHER)
            desk.ends[me.next * TOGETHER + g] = make_float2(largest, sum);
    }
};

// A warp's tiles of an item. `scores`: of statistics, of this layer.
DEVICE void attend_positions(const Item& item, const Work& work, const Desk& desk, Consumer& me,
                             float* scores) {
    Sums sums;
    const int begin = item.begin + me.next * TILE;  // the warp whose packet is next has tile 0
    for (int first = begin; first - me.next * TILE < item.end; first += TILE * N_WARPS) {
        const bool is_there = first < item.end;
        float s[KEY_TILES][2];
        take_packet(me, [&](const u8* packet) {
            if (is_there) Sums::multiply_keys({packet, desk.key, first, item}, desk, me.lane, s);
        });
#pragma unroll
        for (int n = 0; n < 2 * KEY_TILES; n++) {
            const int position = first + Positions::of_value(n, me.lane);
#if STATS
            const int g = me.lane / 4;
            if (position < item.end && g < item.n_heads)
                scores[(u64)(item.first_head + g) * work.n_rows + position] = s[n / 2][n % 2];
#endif
            if (position >= item.end) s[n / 2][n % 2] = LOWEST;
        }
        take_packet(me, [&](const u8* packet) {
            if (is_there) sums.add({packet, desk.value, first, item}, s, desk, first == begin, me);
        });
    }
    sums.write_ends(desk, me);
}

// --- merging -------------------------------------------------------------------------------------

// Numbers column and column + 1 of head g, and its largest score and sum, over the warps.
DEVICE float4 merge_warps(const Desk& desk, int n_warps, int g, int column) {
    float2 ends[N_WARPS], value = make_float2(0, 0);
    float most = LOWEST, sum = 0;
#pragma unroll
    for (int warp = 0; warp < N_WARPS; warp++) {
        ends[warp] = desk.ends[warp * TOGETHER + g];
        most = fmaxf(most, ends[warp].x);
    }
#pragma unroll
    for (int warp = 0; warp < N_WARPS; warp++) {
        if (warp >= n_warps) break;
        const float keep = exp2_fast(ends[warp].x - most);
        const float2 part = *(const float2*)(desk.sums_of(warp, g) + column);
        value.x += part.x * keep, value.y += part.y * keep, sum += ends[warp].y * keep;
    }
    return make_float4(value.x, value.y, most, sum);
}

// The first of an item's splits brings all of them together, AT_ONCE at a time.
DEVICE void merge_splits(const Item& item, const float* splits, float* mixed, float2* ends,
                         int thread) {
    constexpr int AT_ONCE = 8;
    for (int i = 4 * thread; i < item.n_heads * HEAD_DIM; i += 4 * CONSUMERS) {
        const int head = item.first_head + i / HEAD_DIM, column = i % HEAD_DIM;
        float most = LOWEST, sum = 0;
        float4 value = make_float4(0, 0, 0, 0);
        for (int first = 0; first < item.splits; first += AT_ONCE) {
            float4 parts[AT_ONCE], end[AT_ONCE];
            const float before = most;
            const auto of_split = [&](int s) { return splits + split_at(first + s, head); };
            const int n = least_of(item.splits - first, AT_ONCE);
            await(end, n, make_float4(LOWEST, 0, 0, 0),
                  [&](int s) { return of_split(s) + HEAD_DIM; });
            await(parts, n, make_float4(0, 0, 0, 0), [&](int s) { return of_split(s) + column; });
#pragma unroll
            for (int s = 0; s < AT_ONCE; s++) most = fmaxf(most, end[s].x);
            value = times(value, exp2_fast(before - most)), sum *= exp2_fast(before - most);
#pragma unroll
            for (int s = 0; s < AT_ONCE; s++) {
                const float keep = exp2_fast(end[s].x - most);
                sum += end[s].y * keep, value = plus(value, times(parts[s], keep));
            }
        }
        store_relaxed4(mixed + head * HEAD_DIM + column, times(value, reciprocal_fast(sum)));
        if (ends && column == 0) ends[head] = make_float2(most, sum);
    }
}

// What the item's warps have found goes to memory.
DEVICE void finish_item(const Item& item, const Desk& desk, float* splits, float* mixed,
                        float2* ends, int thread) {
    const int n_warps = least_of(divide_up(item.end - item.begin, TILE), N_WARPS);
    for (int i = 2 * thread; i < item.n_heads * HEAD_DIM; i += 2 * CONSUMERS) {
        const int g = i / HEAD_DIM, head = item.first_head + g, column = i % HEAD_DIM;
        const float4 found = merge_warps(desk, n_warps, g, column);
        const bool is_whole = item.splits == 1;
        const float unit = is_whole ? reciprocal_fast(found.w) : 1;
        float* row = is_whole ? mixed + head * HEAD_DIM : splits + split_at(item.split, head);
        store_relaxed(row + column, found.x * unit);
        store_relaxed(row + column + 1, found.y * unit);
        if (column) continue;
        if (!is_whole) store_relaxed4(row + HEAD_DIM, make_float4(found.z, found.w, 0, 0));
        else if (ends) ends[head] = make_float2(found.z, found.w);
    }
    if (item.splits > 1 && item.split == 0) merge_splits(item, splits, mixed, ends, thread);
}

// The attention of layer `number`. meet() lets all thread blocks meet once, each having written its
// part of q, k and v.
template <class Meet>
DEVICE void attend(int number, const Layer& layer, const Work& work, Consumer& me, int n_positions,
                   Meet meet) {
    const Desk desk;
    float* scores = STATS ? work.scores + (u64)number * N_HEAD * work.n_rows : nullptr;
    float2* ends = STATS ? work.ends + number * N_HEAD : nullptr;
    float* mixed = work.mixed + number % 2 * N_HEAD * HEAD_DIM;
    float* splits = work.splits + number % 2 * split_at(most_splits());
    for (int i = blockIdx.x, is_first = 1;; i += gridDim.x, is_first = 0) {
        const Item item = item_of(i, n_positions, layer.window);
        Placing placing;
        if (item.exists) placing.load(me.warp, layer, item.newest, me.lane);
        if (is_first) meet();
        else sync_group(ALL_CONSUMERS, CONSUMERS);  // all have done with the item before
        if (!item.exists) return;
        place_head(number, item, layer, work, desk, placing, me);
        sync_group(ALL_CONSUMERS, CONSUMERS);
        attend_positions(item, work, desk, me, scores);
        sync_group(ALL_CONSUMERS, CONSUMERS);
        finish_item(item, desk, splits, mixed, ends, me.warp * 32 + me.lane);
    }
}
