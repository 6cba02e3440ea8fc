// What attention works on, brought to it: items, keys and values, this token's q, k and v.
//
//     item       (KV head, up to 8 of its query heads, a split of the positions), of a thread block
//     Positions  cache ─▶ ring ─▶ a warp: TILE old keys, then values
//     Pairs      q, k, v of the token ─▶ norm, angles ─▶ Desk (q as high + low float16), cache
//
// What does not depend on the token's q, k and v is asked for while thread blocks still meet.
// Memory: k, v (K, n_rows, D) float16, the positions of a head one after the other.
// NumPy twin: ops.cpu.rope, ops.cpu.rms_norm; what follows is decode_attention.cuh.

constexpr int HEADS_PER_KV = N_HEAD / N_HEAD_KV;
constexpr int MOST_TOGETHER = least_of(HEAD_DIM > 128 ? 4 : 8, N_WARPS - 2);
constexpr int CHUNKS_PER_KV = divide_up(HEADS_PER_KV, MOST_TOGETHER);
constexpr int TOGETHER = divide_up(HEADS_PER_KV, CHUNKS_PER_KV);
constexpr int N_ITEMS = N_HEAD_KV * CHUNKS_PER_KV;
constexpr int KEY_TILES = HEAD_DIM > 128 ? 1 : 2;  // of 8 positions: what registers can hold
constexpr int TILE = 8 * KEY_TILES;                // positions of a warp at a time
constexpr int LEAST_SPLIT = TILE * N_WARPS;        // positions: what the warps do at once
constexpr int KEY_PARTS = divide_up(HEAD_DIM, 32), VALUE_PARTS = divide_up(HEAD_DIM, 64);
constexpr int PAIRS = divide_up(HEAD_DIM, 64);  // that a lane turns
constexpr int N_QKV = (N_HEAD + 2 * N_HEAD_KV) * HEAD_DIM;
constexpr float LOG2_E = 1.4426950408889634f, LOWEST = -1e30f;

// What the item of a thread block is; the last split has the newest position.
struct Item {
    int kv_head, first_head, n_heads, split, splits, begin, end, newest;  // newest: position
    bool exists;
    DEVICE bool has_newest() const { return end == newest + 1; }
};

DEVICE int most_splits() { return gridDim.x < 2 * N_ITEMS ? 1 : gridDim.x / N_ITEMS; }

DEVICE Item item_of(int number, int n_positions, u32 window) {
    const int start = window && n_positions > (int)window ? n_positions - window : 0;
    const int seen = n_positions - start;
    int length = divide_up(divide_up(seen, most_splits()), TILE) * TILE;
    length = length < LEAST_SPLIT ? LEAST_SPLIT : length;
    Item item;
    item.split = number / N_ITEMS, item.splits = divide_up(seen, length);
    item.exists = item.split < item.splits;
    const int chunk = number % N_ITEMS % CHUNKS_PER_KV;
    item.kv_head = number % N_ITEMS / CHUNKS_PER_KV;
    item.first_head = item.kv_head * HEADS_PER_KV + chunk * TOGETHER;
    item.n_heads = least_of(TOGETHER, HEADS_PER_KV - chunk * TOGETHER);
    item.begin = start + item.split * length;
    item.end = least_of(item.begin + length, n_positions);
    item.newest = n_positions - 1;
    return item;
}

// What a split tells of a head: D sums, its largest score, the sum of its shares, two zeros.
constexpr int SPLIT = HEAD_DIM + 4;
DEVICE int split_at(int split, int head = 0) { return (split * N_HEAD + head) * SPLIT; }

// Where an item keeps its things in shared memory: where the planes are before and after it.
struct Desk {
    static constexpr int QUERY = VALUE_PARTS * 64 + 32;  // float16 from one query to the next
    static constexpr int SUMS = HEAD_DIM + 2;            // float32 from one head to the next
    u16 *queries, *key, *value;  // (2, TOGETHER, QUERY) high and low, (D), (D)
    float *units;                // (TOGETHER) what 1 is in a query
    float *sums;                 // (N_WARPS, TOGETHER, SUMS)
    float2 *ends;                // (N_WARPS, TOGETHER) largest score, and sum
    DEVICE Desk()
        : queries((u16*)(shared_memory() + Layout::planes)), key(queries + 2 * TOGETHER * QUERY),
          value(key + HEAD_DIM), units((float*)(value + HEAD_DIM)), sums(units + 8),
          ends((float2*)(sums + N_WARPS * TOGETHER * SUMS)) {}
    // Even heads first: so the 16 lanes that store to them at a time hit all banks once.
    DEVICE float* sums_of(int warp, int g) const {
        const int row = g % 2 * ((TOGETHER + 1) / 2) + g / 2;
        return sums + (warp * TOGETHER + row) * SUMS;
    }
};

// --- keys and values of the cache ----------------------------------------------------------------

// They come through the ring, after the q, k and v of their layer, and are there when the queries
// are; a tile is a packet. Of an item N_WARPS tiles at a time, first the keys of all, then the
// values, so that both come to the same warp:
//
//     K0 K1 … K10 │ V0 V1 … V10 │ K11 K12 … │ V11 V12 …     without rows behind the last tile
//
// Measured on an NVIDIA H200, Llama 3 8B Q4_0 behind 4096 tokens, tokens/s: read from memory once
// the queries are there 609, through the ring 639; with gaps that let the lanes read from other
// banks, which takes 2, 4 or 16 copies a tile, 633, 620, 498: the producer takes 30 ns for each.

// What the producer sends of an item of a layer.
DEVICE void send_item(Producer& producer, const Item& item, const Layer& layer, u32 n_rows) {
    const int end = least_of(item.end, item.newest);  // the newest is not yet there
    for (int tile = 0; item.begin + tile * TILE < item.end; tile += N_WARPS)
        for (int done = 0; done < 2 * N_WARPS; done += ASKED) {
            const int count = least_of(2 * N_WARPS - done, ASKED), packet = done + producer.own();
            const int first = item.begin + (tile + packet % N_WARPS) * TILE;
            const int n = end < first ? 0 : least_of(end - first, TILE);
            const u64 row = (u64)item.kv_head * n_rows + first;
            const u16* from = (packet < N_WARPS ? layer.k : layer.v) + row * HEAD_DIM;
            producer.ask(count, most_of(TILE * HEAD_DIM * 2), from, n * HEAD_DIM * 2);
        }
}

// What it sends of all items of a thread block.
DEVICE void send_positions(Producer& producer, const Layer& layer, u32 n_rows, int n_positions) {
    for (int i = blockIdx.x;; i += gridDim.x) {
        const Item item = item_of(i, n_positions, layer.window);
        if (!item.exists) return;
        send_item(producer, item, layer, n_rows);
    }
}

// Keys or values of a tile, those before the newest one in a slot, the newest one on the desk.
struct Positions {
    const u16 *rows, *on_desk;
    int first, end, newest;
    DEVICE Positions(const u8* packet, const u16* on_desk, int first, const Item& item)
        : rows((const u16*)packet), on_desk(on_desk), first(first), end(item.end),
          newest(item.newest) {}

    // Which of the tile lane (g, t) = (lane / 4, lane % 4) reads: of keys, of values.
    static DEVICE int of_key(int n, int lane) { return 8 * n + lane / 4; }
    static DEVICE int of_value(int n, int lane) { return n / 2 * 8 + lane % 4 * 2 + n % 2; }

    // 8 numbers of a position, zeros where there are none.
    DEVICE uint4 read(int row, int column) const {
        if (first + row >= end || column >= HEAD_DIM) return uint4{0, 0, 0, 0};
        const u16* from = first + row == newest ? on_desk : rows + row * HEAD_DIM;
        return *(const uint4*)(from + column);
    }
};

// --- what can be read before this token's q, k and v are there -----------------------------------

// Which pairs of a head's numbers turn together; lane and i choose one.
struct Pair {
    int number, first, second;
    bool exists, turns;
    DEVICE Pair(int i, int lane) : number(lane + 32 * i) {
        exists = number < HEAD_DIM / 2, turns = number < N_ROT / 2;
        const bool apart = ROPE_NEOX && turns;
        first = apart ? number : 2 * number, second = apart ? number + N_ROT / 2 : 2 * number + 1;
    }
};

// What a warp does with a head's vector: a query (g < TOGETHER), the key (g == TOGETHER) or value.
struct Placing {
    float2 angles[PAIRS], weights[PAIRS];  // cos and sin; of the norm, or 1
    bool has_norm;

    DEVICE void load(int g, const Layer& layer, int newest, int lane) {
        const float* weight = g < TOGETHER ? layer.q_norm : g == TOGETHER ? layer.k_norm : nullptr;
        const float2* turn = layer.rotation + (u64)newest * (N_ROT / 2);
        has_norm = weight;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            const Pair pair(i, lane);
            angles[i] = make_float2(1, 0), weights[i] = make_float2(1, 1);
            if (layer.rotation && g <= TOGETHER && pair.turns) angles[i] = turn[pair.number];
            if (weight && pair.exists)
                weights[i] = make_float2(weight[pair.first], weight[pair.second]);
        }
    }
};

// --- this token's q, k and v ---------------------------------------------------------------------

// A lane's pairs of a head's vector.
struct Pairs {
    float2 x[PAIRS];

    DEVICE void load(const float* from, const Placing& how, int lane) {
        for (bool all = false; !all; in_vain()) {
            all = true;
#pragma unroll
            for (int i = 0; i < PAIRS; i++) {
                const Pair pair(i, lane);
                x[i] = make_float2(0, 0);
                if (pair.exists) x[i] = make_float2(load_relaxed(from + pair.first),
                                                    load_relaxed(from + pair.second));
            }
#pragma unroll
            for (int i = 0; i < PAIRS; i++) all &= is_written(x[i].x) & is_written(x[i].y);
        }
        float sum = 0;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) sum += x[i].x * x[i].x + x[i].y * x[i].y;
        float length = 1;
        if (how.has_norm) {
            for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
            length = inverse_length(sum, HEAD_DIM);
        }
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            const float2 by = how.angles[i];
            const float a = x[i].x * length * how.weights[i].x;
            const float b = x[i].y * length * how.weights[i].y;
            x[i] = make_float2(a * by.x - b * by.y, a * by.y + b * by.x);
        }
    }
    // As the high and low float16 of a query, in a unit with the largest below 2^14.
    DEVICE void write_query(const Desk& desk, int g, int lane) const {
        float largest = 0;
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
            largest = fmaxf(largest, fmaxf(fabsf(x[i].x), fabsf(x[i].y)));
        for (int mask = 16; mask; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
        const int e = exponent_of(largest);
        const float factor = power_of_two(14 - e);
        u16 *high = desk.queries + g * Desk::QUERY, *low = high + TOGETHER * Desk::QUERY;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            const Pair pair(i, lane);
            if (!pair.exists) continue;
            const float a = x[i].x * factor, b = x[i].y * factor;
            const u32 both = to_halves(a, b);
            const u32 rest = to_halves(a - from_half((u16)both), b - from_half((u16)(both >> 16)));
            high[pair.first] = (u16)both, high[pair.second] = (u16)(both >> 16);
            low[pair.first] = (u16)rest, low[pair.second] = (u16)(rest >> 16);
        }
        if (lane < KEY_PARTS * 32 - HEAD_DIM) high[HEAD_DIM + lane] = low[HEAD_DIM + lane] = 0;
        if (lane == 0) desk.units[g] = power_of_two(e - 14);
    }
    // As float16 on the desk and in the cache and, for statistics, their length.
    DEVICE void write_cached(u16* on_desk, u16* cached, float* norm, int lane) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            const Pair pair(i, lane);
            if (!pair.exists) continue;
            const u32 both = to_halves(x[i].x, x[i].y);
            on_desk[pair.first] = cached[pair.first] = (u16)both;
            on_desk[pair.second] = cached[pair.second] = (u16)(both >> 16);
            const float a = from_half((u16)both), b = from_half((u16)(both >> 16));
            sum += a * a + b * b;
        }
#if STATS
        for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
        if (lane == 0) *norm = sqrtf(sum);
#endif
    }
};

// Warp g of an item brings query g to the desk; two more bring the newest key and value.
DEVICE void place_head(int number, const Item& item, const Layer& layer, const Work& work,
                       const Desk& desk, const Placing& how, const Consumer& me) {
    const int g = me.warp, kv_head = item.kv_head;
    const bool is_query = g < TOGETHER, is_key = g == TOGETHER;
    if (is_query ? g >= item.n_heads : g > TOGETHER + 1 || !item.has_newest()) return;
    const int of_keys = N_HEAD + kv_head;
    const int head = is_query ? item.first_head + g : is_key ? of_keys : of_keys + N_HEAD_KV;
    Pairs pairs;
    pairs.load(work.qkv + number % 2 * N_QKV + head * HEAD_DIM, how, me.lane);
    if (is_query) return pairs.write_query(desk, g, me.lane);
    const u64 newest = ((u64)kv_head * work.n_rows + item.newest) * HEAD_DIM;
    float* norm = work.norms + (2 * number + !is_key) * N_HEAD_KV + kv_head;
    pairs.write_cached(is_key ? desk.key : desk.value, (is_key ? layer.k : layer.v) + newest, norm,
                       me.lane);
}
