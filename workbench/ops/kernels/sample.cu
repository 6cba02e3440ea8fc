// Logits -> the next token: top_k, top_p, min_p, temperature, draw; two kernels, nodes of a graph.
//
//     logits (V,) ─▶ sample_scan ─▶ sample_pick ─▶ record (host memory), state (input of the next)
//
//     p = softmax of the k largest;  keep the first whose p reach top_p;  keep x >= max + ln(min_p)
//     p = softmax of x / temperature;  the token where the running sum of p reaches a random number
//
// Grid: ceil(V / 1024) thread blocks of 1024 threads, a logit a thread; the geometry depends on V
// alone, settings and counters are read from memory, so one captured graph serves all of them.
// sample_scan: largest logit, sum of exponentials and a histogram of the logits' leading bits,
// finer for small numbers. sample_pick: the bin's edge down to which at least k candidates lie;
// these few go to a list, and the thread block that comes last sorts, cuts and draws from it.
// Why it is fast: the logits are read twice, by all multiprocessors; one thread block alone handles
// only about k candidates. Without top_k the list holds up to 2048; only where more of them are
// left is the vocabulary gone through again, 1024 to 2048 in order at a time.
// As on the CPU, bit for bit: order of candidates, float32 sums one after another, generator.
// Measured on an H200, V = 128256, in a graph: 19.7 us with the default settings (sample_scan 3.5),
// 16.3 with top_k = 1, 39 with top_k = 1000, 87 with all off; without top_k, but top_p: 212 where
// few are left, up to 11 ms where the distribution is so flat that nearly all are.
// NumPy twin: workbench/sampling (SamplerChain.sample). Sources: llama.cpp src/llama-sampler.cpp;
// Matsumoto and Nishimura, Mersenne Twister (1998).

// Of 2048 bins, the largest logits in the first: 5 bits behind the exponent of 2^-16 ... 2^15.
DEVICE u32 bin_of(float logit) {
    const u32 key = falling(logit);
    const bool negative = key & 0x80000000;
    const int place = (int)((negative ? key & 0x7FFFFFFF : 0x7FFFFFFF - key) >> 18) - 111 * 32;
    const int inside = place < 0 ? 0 : place > 1023 ? 1023 : place;
    return negative ? 1024 + inside : 1023 - inside;
}

extern "C" __global__ void __launch_bounds__(LANES, 1)
sample_scan(const float* logits, const u32* state, Work* work, u32 n_vocab) {
    __shared__ Room room;
    wait_for_previous();
    if (state[STOP]) return;
    const u32 id = blockIdx.x * LANES + threadIdx.x;
    const float x = id < n_vocab ? logits[id] : minus_infinity();
    for (u32 i = threadIdx.x; i < BINS; i += LANES) room.words[i] = 0;
    const float largest = logit_of(least(room, falling(x)));
    if (id < n_vocab) atomicAdd(&room.words[bin_of(x)], 1u);
    const double part = x == minus_infinity() ? 0.0 : exp((double)x - (double)largest);
    const double exponentials = sum(room, part);
    for (u32 i = threadIdx.x; i < BINS; i += LANES)
        if (room.words[i]) atomicAdd(&work->bins[i], room.words[i]);
    if (threadIdx.x == 0) {
        work->tiles[blockIdx.x].largest = largest;
        work->tiles[blockIdx.x].exponentials = exponentials;
    }
}

// Candidates before a bin's edge go to the list.
DEVICE void gather(Room& room, const float* logits, const Settings& settings, Work& work, u32 id,
                   u32 n_vocab) {
    const u32 want = settings.top_k ? settings.top_k : CAPACITY;
    const Bins taken = take_bins(room, work.bins, want, CAPACITY);
    const bool mine = id < n_vocab && bin_of(logits[id]) < taken.bins;
    const u32 votes = ballot(mine), lane = threadIdx.x % 32;
    u32 place = 0;
    if (lane == 0 && votes) place = atomicAdd(&work.n_listed, count_bits(votes));
    place = shuffle(place, 0) + count_bits(votes & (1u << lane) - 1);
    if (mine) work.list[place] = key_of(logits[id], id);
}

// Without top_k: this tile's shares, for the sum in order or for the draw by id.
DEVICE void weigh(Room& room, const float* logits, const Settings& settings, Work& work, u32 id,
                  u32 n_vocab) {
    const float largest = largest_of(room, work, gridDim.x);
    if (settings.top_p < 1) {
        float* shares = reinterpret_cast<float*>(&work + 1);
        if (id < n_vocab) shares[id] = share_of(logits[id], largest);
    } else {
        const float top = divide(largest, settings.per_temperature);
        const bool kept = id < n_vocab && logits[id] >= floor_of(settings, largest);
        const bool drawn = kept && !is_greedy(settings, top);
        const double share = drawn ? drawn_share(settings, logits[id], top) : 0.0;
        Tile& tile = work.tiles[blockIdx.x];
        const double shares = sum(room, share);
        const u32 n_left = sum(room, (u32)kept);
        if (threadIdx.x == 0) tile.drawn = shares, tile.n_left = n_left;
    }
}

// The last thread block: the choice, and all that must be as at the start for the next one.
DEVICE void choose(Room& room, const float* logits, const Settings& settings, Work& work,
                   Record* records, u32 n_records, u32* state, u32 n_vocab, u32 step,
                   const Pair& next) {
    const float largest = largest_of(room, work, gridDim.x);
    const Tile& tile = work.tiles[threadIdx.x % gridDim.x];
    const double scale = exp((double)tile.largest - (double)largest);
    const double all = sum(room, threadIdx.x < gridDim.x ? tile.exponentials * scale : 0.0);
    Record& record = records[step % n_records];
    Left left = {0, 0, UNUSABLE};
    u32 token = 0;
    double tail = 0, logprob = 0;
    if (all >= 1) {  // not so with NaN, +inf or only -inf
        left = cut(room, logits, settings, work, n_vocab, largest);
        token = draw(room, logits, settings, work, n_vocab, left, next, tail);
        logprob = (double)logits[token] - (double)largest - log(all);
    }
    write(room, record, settings, left, token, logprob, tail, step);
    bool stop = left.flags & UNUSABLE;
    for (u32 i = 0; i < settings.n_stop; i++) stop |= token == settings.stop_ids[i];
    for (u32 i = threadIdx.x; i < BINS; i += LANES) work.bins[i] = 0;
    if (threadIdx.x) return;
    work.n_listed = work.n_done = 0;
    state[TOKEN] = token, state[POSITION]++, state[STEP]++;
    // the host never writes the state while it is in use: threads of a kernel must see the same
    if (stop || *static_cast<volatile u32*>(&work.host_stop)) state[STOP] = 1;
}

extern "C" __global__ void __launch_bounds__(LANES, 1)
sample_pick(const float* logits, u32* state, Work* work, const Settings* settings, Record* records,
            u32 n_records, u32 n_vocab) {
    __shared__ Room room;
    wait_for_previous();
    if (state[STOP]) return;
    // asked for early, so that the last thread block need not wait for them
    __shared__ Settings own;
    if (threadIdx.x < sizeof(Settings) / 4)
        reinterpret_cast<u32*>(&own)[threadIdx.x] =
            reinterpret_cast<const u32*>(settings)[threadIdx.x];
    __shared__ Pair next;
    __shared__ u32 step;
    if (threadIdx.x == LANES - 1) step = state[STEP], next = next_pair(work->generator);
    __syncthreads();
    const u32 id = blockIdx.x * LANES + threadIdx.x;
    gather(room, logits, own, *work, id, n_vocab);
    if (!own.top_k) weigh(room, logits, own, *work, id, n_vocab);
    __syncthreads();
    if (threadIdx.x == 0) {
        fence_gpu();
        room.more = atomicAdd(&work->n_done, 1u) + 1 < gridDim.x;
    }
    __syncthreads();
    if (room.more) return;
    fence_gpu();
    choose(room, logits, own, *work, records, n_records, state, n_vocab, step, next);
}
