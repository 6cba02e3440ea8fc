// The chain of samplers as one thread block runs it: what is left of the candidates, and the draw.
//
//     list ─▶ top_p ─▶ min_p ─▶ temperature ─▶ draw ─▶ record
//
// Nearly always all that is left fits into the room. Where more is left (no top_k and a flat
// distribution) the keys come in bands, each put in order as the room allows.
// 1024 threads have 64 registers each: loops that hold an exponential are not unrolled.
// NumPy twin: workbench/sampling/stages.py and dist.py.

enum { TOKEN, POSITION, STEP, STOP };  // words of the state

struct Settings {
    u32 top_k;  // at most CAPACITY; 0: off; at least V: off, but the candidates are in order
    float top_p, log_min_p;  // off: 1, -inf
    u32 n_stop;
    double per_temperature;  // 1 / temperature; 0: the largest logit
    u32 stop_ids[26];        // tokens that end the text
};

struct Tile {
    float largest;
    u32 n_left;            // logits that min_p keeps, where all candidates are left
    double exponentials;  // sum of exp(x - largest); NaN if a logit is NaN or +inf
    double drawn;         // sum of the shares to draw from, where all candidates are left
};

struct Work {
    u32 generator[636];  // 624 words of the Mersenne Twister and the place of the next
    u32 host_stop;       // the host wants no more; only the last thread block of a step looks
    u32 unused[3];
    u32 n_listed, n_done;
    u32 bins[BINS];
    u64 list[CAPACITY];
    Tile tiles[512];
};  // behind it: shares of all logits, (V,) float32

struct Record {  // what the host reads of a step; of `sequence` last
    u32 sequence, token, n_listed, flags;
    double logprob;  // of the token, over all logits
    double tail;     // sum of exp(x - largest) of candidates that are left, but not listed
    u32 n_left, unused[7];
    u32 ids[CAPACITY];
    float logits[CAPACITY];
};

enum { DREW = 1, SORTED = 2, UNUSABLE = 4 };  // flags

// The largest of all logits.
DEVICE float largest_of(Room& room, const Work& work, u32 n_tiles) {
    const bool there = threadIdx.x < n_tiles;
    const float mine = there ? work.tiles[threadIdx.x].largest : minus_infinity();
    return logit_of(least(room, falling(mine)));
}

// Below this logit min_p keeps nothing.
DEVICE float floor_of(const Settings& settings, float largest) {
    return add(largest, settings.log_min_p);
}

DEVICE bool is_greedy(const Settings& settings, float top) {
    return !(settings.per_temperature > 0 && is_finite(top));
}

// exp(x / temperature - top) of a candidate that is left.
DEVICE float drawn_share(const Settings& settings, float x, float top) {
    return share_of(divide(x, settings.per_temperature), top);
}

// What is left of the candidates: n_left, the first n_listed of them in room.keys; all of them
// (then in_room), or there are more, up to the key `last` and down to the logit `floor`.
struct Left {
    u32 n_listed, n_left, flags;
    bool in_room;
    u64 last, best;
    float floor, largest, top;  // top: largest / temperature
};

// top_p among the n keys of the room: the place of the key that reaches it, or n. `so_far` is the
// sum of the probabilities before the keys, and then up to the last of them.
DEVICE u32 nucleus(Room& room, u32 n, float largest, float total, float wanted, float& so_far) {
    __syncthreads();
    const double per_total = 1.0 / (double)total;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < n; i += LANES)
        room.shares[i] = divide(share_of(logit_of(room.keys[i]), largest), per_total);
    __syncthreads();
    if (threadIdx.x == 0) {
        float reached = so_far;
#pragma unroll 8
        for (u32 i = 0; i < n; i++) room.shares[i] = reached = add(reached, room.shares[i]);
    }
    __syncthreads();
    u32 place = n;
    for (u32 i = threadIdx.x; i < n; i += LANES)
        if (room.shares[i] >= wanted && i < place) place = i;
    so_far = room.shares[n - 1];
    return least(room, place);
}

// A float32 sum and the shares of the n keys, one after another.
DEVICE float sum_listed(Room& room, u32 n, float largest, float total) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < n; i += LANES)
        room.shares[i] = share_of(logit_of(room.keys[i]), largest);
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 8
        for (u32 i = 0; i < n; i++) total = add(total, room.shares[i]);
        room.number = total;
    }
    __syncthreads();
    return room.number;
}

// The float32 sum of the shares of all keys in order; n: of them in the room, before and after.
DEVICE float sum_all(Room& room, const float* logits, u32 n_vocab, float largest, u32& n) {
    float total = sum_listed(room, n, largest, 0);
    if (n == n_vocab) return total;
    for (u32 n_seen = n; n_seen < n_vocab; n_seen += n) {
        n = next_band(room, logits, n_vocab, room.keys[n - 1] + 1, CAPACITY, ENOUGH);
        total = sum_listed(room, n, largest, total);
    }
    n = next_band(room, logits, n_vocab, 0, CAPACITY, ENOUGH);
    return total;
}

// top_p where the first `n` keys do not reach it: the last key that it keeps.
DEVICE u64 last_of_nucleus(Room& room, const float* logits, u32 n_vocab, u32 n, float largest,
                           float total, float wanted, float so_far) {
    for (u32 n_seen = n; n_seen < n_vocab; n_seen += n) {
        n = next_band(room, logits, n_vocab, room.keys[n - 1] + 1, CAPACITY, ENOUGH);
        const u32 place = nucleus(room, n, largest, total, wanted, so_far);
        if (place < n) return room.keys[place];
    }
    return ~0ull;
}

// The candidates that are left where they are more than the n first keys: counts them, and puts the
// first keys back into the room.
DEVICE void count_left(Room& room, const float* logits, u32 n_vocab, Left& left) {
    u32 mine = 0;
    for (u32 i = threadIdx.x; i < n_vocab; i += LANES)
        mine += logits[i] >= left.floor && key_of(logits[i], i) <= left.last;
    left.n_left = sum(room, mine);
    left.n_listed = next_band(room, logits, n_vocab, 0, CAPACITY, ENOUGH);
}

// min_p among the first n_left keys of the room.
DEVICE void cut_at_floor(Room& room, Left& left) {
    u32 enough = 0;
    for (u32 i = threadIdx.x; i < left.n_left; i += LANES)
        enough += logit_of(room.keys[i]) >= left.floor;
    enough = sum(room, enough);
    if (enough < left.n_left) left.n_left = enough, left.in_room = true;
}

// The k best candidates, or as many as there is room for, sorted in room.keys; returns how many.
DEVICE u32 list(Room& room, const float* logits, const Work& work, u32 n_vocab, u32 k) {
    const u32 least_many = k ? k : n_vocab < ENOUGH ? n_vocab : ENOUGH;
    // asked for at once, known to be there or not: one wait instead of two
    const u64 first = work.list[threadIdx.x], second = work.list[threadIdx.x + LANES];
    u32 n = work.n_listed;
    if (threadIdx.x < n) room.keys[threadIdx.x] = first;
    if (threadIdx.x + LANES < n) room.keys[threadIdx.x + LANES] = second;
    sort(room.keys, n);
    if (n < least_many) n = next_band(room, logits, n_vocab, 0, k ? k : CAPACITY, least_many);
    return k ? k : n;  // with k there may be some more
}

// top_k, top_p and min_p.
DEVICE Left cut(Room& room, const float* logits, const Settings& settings, const Work& work,
                u32 n_vocab, float largest) {
    const u32 k = settings.top_k < n_vocab && settings.top_k <= CAPACITY ? settings.top_k : 0;
    u32 n = list(room, logits, work, n_vocab, k);
    const u64 best = room.keys[0];
    float total = 0, so_far = 0;
    if (settings.top_p < 1) {
        const float* shares = reinterpret_cast<const float*>(&work + 1);
        if (k) total = sum_listed(room, n, largest, 0);
        else if (settings.top_k) total = sum_all(room, logits, n_vocab, largest, n);
        else total = sum_in_order(room, shares, n_vocab);
    }
    const float floor = floor_of(settings, largest);
    const float top = divide(largest, settings.per_temperature);
    Left left = {n, n, SORTED, k || n == n_vocab, ~0ull, best, floor, largest, top};
    if (settings.top_p < 1) {
        const u32 place = nucleus(room, n, largest, total, settings.top_p, so_far);
        if (place < n) left.n_left = place + 1, left.in_room = true;
    } else if (!settings.top_k) {
        left.flags = 0;  // in the order of the ids
    }
    cut_at_floor(room, left);
    if (!left.in_room && settings.top_p < 1)
        left.last = last_of_nucleus(room, logits, n_vocab, n, largest, total, settings.top_p,
                                    so_far);
    if (!left.in_room && left.flags) count_left(room, logits, n_vocab, left);
    if (!left.in_room && !left.flags)
        left.n_left = sum(room, threadIdx.x < gridDim.x ? work.tiles[threadIdx.x].n_left : 0u);
    if (left.n_left <= left.n_listed) left.n_listed = left.n_left, left.in_room = true;
    return left;
}

// The sum of the shares of all candidates that are left.
DEVICE double sum_left(Room& room, const float* logits, const Settings& settings, u32 n_vocab,
                       const Left& left) {
    double mine = 0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < n_vocab; i += LANES)
        if (logits[i] >= left.floor && key_of(logits[i], i) <= left.last)
            mine += drawn_share(settings, logits[i], left.top);
    return sum(room, mine);
}

// The shares of the first n keys of the room to room.shares, 0 for the others. Returns their sum.
DEVICE double weigh_keys(Room& room, const Settings& settings, u32 n, float top) {
    double mine = 0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < CAPACITY; i += LANES) {
        const float share = i < n ? drawn_share(settings, logit_of(room.keys[i]), top) : 0;
        mine += room.shares[i] = share;
    }
    return sum(room, mine);
}

// The first of a run of places, two a thread, whose so_far sum reaches `target`, or ~0; `so_far` is
// the sum before them, and then up to the last.
DEVICE u32 place_of(Room& room, double first, double second, double target, double& so_far) {
    double total;
    const double to_second = so_far + scan(room, first + second, total);
    const u32 place = 2 * threadIdx.x;
    so_far += total;
    const bool at_first = first > 0 && to_second - second >= target;
    const bool at_second = second > 0 && to_second >= target;
    return least(room, at_first ? place : at_second ? place + 1 : ~0u);
}

// Draw in the order of the keys: from the room, where they are weighed, then from the bands that
// follow.
DEVICE u32 draw_in_order(Room& room, const float* logits, const Settings& settings, u32 n_vocab,
                         const Left& left, double target) {
    u32 n = left.n_listed, n_seen = 0;
    double so_far = 0;
    for (;;) {
        const u32 n_mine = min(n, left.n_left - n_seen);
        const double first = room.shares[2 * threadIdx.x];
        const double second = room.shares[2 * threadIdx.x + 1];
        const u32 found = place_of(room, first, second, target, so_far);
        n_seen += n_mine;
        if (found != ~0u || n_seen >= left.n_left) {
            const u32 token = (u32)room.keys[found != ~0u ? found : n_mine - 1];
            __syncthreads();
            if (n_seen > n_mine) next_band(room, logits, n_vocab, 0, CAPACITY, ENOUGH);
            return token;
        }
        const u64 lower = room.keys[n - 1] + 1;
        __syncthreads();
        n = next_band(room, logits, n_vocab, lower, CAPACITY, ENOUGH);
        weigh_keys(room, settings, min(n, left.n_left - n_seen), left.top);
    }
}

// Draw in the order of the ids: first the tile, then the token.
DEVICE u32 draw_by_id(Room& room, const float* logits, const Settings& settings, const Work& work,
                      u32 n_vocab, const Left& left, double number, double listed, double& tail) {
    const u32 n_tiles = gridDim.x;
    const double drawn = threadIdx.x < n_tiles ? work.tiles[threadIdx.x].drawn : 0.0;
    double total, of_tile;
    const double reached = scan(room, drawn, total), target = total * number;
    tail = total - listed;
    const u32 found = least(room, drawn > 0 && reached >= target ? threadIdx.x : n_tiles - 1);
    if (threadIdx.x == found) room.wide = reached - drawn;
    __syncthreads();
    const u32 id = found * LANES + threadIdx.x;
    const bool kept = id < n_vocab && logits[id] >= left.floor;
    const double share = kept ? drawn_share(settings, logits[id], left.top) : 0.0;
    const double so_far = room.wide + scan(room, share, of_tile);
    const u32 first = least(room, share > 0 && so_far >= target ? id : ~0u);
    return first != ~0u ? first : ~least(room, share > 0 ? ~id : ~0u);
}

// Puts the keys of the room in the order of their ids.
DEVICE void order_by_id(Room& room, u32 n) {
    for (int time = 0; time < 2; time++) {
        for (u32 i = threadIdx.x; i < n; i += LANES)
            room.keys[i] = room.keys[i] << 32 | room.keys[i] >> 32;
        if (!time) sort(room.keys, n);
    }
    __syncthreads();
}

// temperature and the draw: the token; `tail` becomes the sum of the shares that are not listed.
DEVICE u32 draw(Room& room, const float* logits, const Settings& settings, Work& work, u32 n_vocab,
                Left& left, const Pair& next, double& tail) {
    const bool by_id = !left.flags;
    const double number = uniform(work.generator, next);  // of a single one too, as llama.cpp does
    left.flags |= DREW;
    tail = 0;
    if (by_id && left.in_room) order_by_id(room, left.n_left);
    if (by_id && !left.in_room) left.flags |= SORTED;  // those that are listed
    if (is_greedy(settings, left.top)) return (u32)left.best;
    const double listed = weigh_keys(room, settings, left.n_listed, left.top);
    if (by_id && !left.in_room)
        return draw_by_id(room, logits, settings, work, n_vocab, left, number, listed, tail);
    double total = listed;
    if (!left.in_room) total = sum_left(room, logits, settings, n_vocab, left);
    tail = total - listed;
    return draw_in_order(room, logits, settings, n_vocab, left, total * number);
}

// What the host reads; `sequence` after all else.
DEVICE void write(Room& room, Record& record, const Settings& settings, const Left& left, u32 token,
                  double logprob, double tail, u32 step) {
    const bool greedy = is_greedy(settings, left.top);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < left.n_listed; i += LANES) {
        const u64 key = room.keys[i];
        const float x = logit_of(key);
        record.ids[i] = (u32)key;
        record.logits[i] = !greedy              ? divide(x, settings.per_temperature)
                           : key == left.best ? x
                                              : minus_infinity();
    }
    __syncthreads();
    if (threadIdx.x) return;
    record.token = token, record.logprob = logprob, record.tail = tail;
    record.n_listed = left.n_listed, record.n_left = left.n_left, record.flags = left.flags;
    __threadfence_system();
    *static_cast<volatile u32*>(&record.sequence) = step + 1;
}
