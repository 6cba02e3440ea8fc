// Where each head of a token looked, from the scores that the decode kernel left.
//
//     share   = 2^(score - largest) / sum, 0 before the window of a layer
//     entropy = -Σ share ln(share)                                      of each head
//     first, last = Σ share over the first and the last few positions   of each row
//
// A row of shares is that of a head, or else the mean over a layer's heads: R = H rows or one.
// Out, one after another: norms (L, 2, K), entropy (L, H), first (L, R), last (L, R) as float32,
// shares (L, R, S) as float16 or float32; nothing but this goes to the host.
//
// Grid: THREADS threads a thread block, one a head of each layer; for means, then one for every
// THREADS positions of each layer. Shared memory: 3 THREADS / 32 float32.
// Why it is fast: neighbours read and write neighbours, and the scores are still in the L2 cache.
// With the copy it costs a token of an 8B model behind 512 positions 0.2 ms on an NVIDIA H200, of
// every head; shares made by NumPy on the host cost 12 ms.
// NumPy twin: ops/token_shares.py.

constexpr int WARPS = THREADS / 32, SUMS = 3;
constexpr float LN_2 = 0.69314718f;

struct Sizes {
    int n_layer, n_head, n_head_kv;
    int n_rows, n_seen;    // positions of a row of scores; those there are, the token's own last
    int n_first, n_last;   // positions that are summed; at most 32
    int per_head;
};

// What the decode kernel left.
struct Token {
    const float* scores;   // (L, H, n_rows) in units of log 2
    const float2* ends;    // (L, H) largest score, and the sum of all powers relative to it
    const float* norms;    // (L, 2, K)
    const int* windows;    // (L,) positions that are seen, 0: all
    Sizes sizes;

    DEVICE int first_seen(int layer) const {
        return windows[layer] ? max(0, sizes.n_seen - windows[layer]) : 0;
    }
};

// One head's row; power_of(position) is log2 of its share without the sum.
struct Head {
    const float* scores;
    float largest, sum;

    DEVICE Head(const Token& token, int number)
        : scores(token.scores + (u64)number * token.sizes.n_rows),
          largest(token.ends[number].x), sum(token.ends[number].y) {}
    DEVICE float power_of(int position) const { return scores[position] - largest; }
};

// Where all of it goes.
template <class Number>
struct Out {
    float *norms, *entropy, *first, *last;
    Number* shares;

    DEVICE Out(float* to, const Sizes& sizes) {
        const int n_heads = sizes.n_layer * sizes.n_head;
        const int n_sums = sizes.per_head ? n_heads : sizes.n_layer;
        norms = to, entropy = norms + 2 * sizes.n_layer * sizes.n_head_kv;
        first = entropy + n_heads, last = first + n_sums;
        shares = reinterpret_cast<Number*>(last + n_sums);
    }
};

DEVICE void put(float* to, float number) { *to = number; }

DEVICE void put(u16* to, float number) { *to = (u16)to_halves(number, 0); }

DEVICE float sum_of_warp(float number) {
    for (int mask = 16; mask; mask /= 2) number += shuffle_xor(number, mask);
    return number;
}

// A thread block's sums of SUMS numbers of each thread: the i-th to places[i], if there is one.
DEVICE void add_up(const float (&own)[SUMS], float* const (&places)[SUMS]) {
    float* parts = reinterpret_cast<float*>(shared_memory());
#pragma unroll
    for (int i = 0; i < SUMS; i++) {
        const float sum = sum_of_warp(own[i]);
        if (threadIdx.x % 32 == 0) parts[i * WARPS + threadIdx.x / 32] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < SUMS; i++) {
        if (threadIdx.x != i || !places[i]) continue;
        float sum = 0;
        for (int warp = 0; warp < WARPS; warp++) sum += parts[i * WARPS + warp];
        *places[i] = sum;
    }
}

// By a thread block: a head's entropy and, where heads are kept, its shares and their sums.
template <class Number>
DEVICE void see_head(const Token& token, int number, const Out<Number>& out) {
    const Sizes& sizes = token.sizes;
    const Head head(token, number);
    const int first_seen = token.first_seen(number / sizes.n_head);
    const float bits_of_sum = log2_fast(head.sum), per_sum = 1 / head.sum;
    Number* shares = out.shares + (u64)number * sizes.n_seen;
    float sums[SUMS] = {};
#pragma unroll 4
    for (int position = threadIdx.x; position < sizes.n_seen; position += THREADS) {
        const bool is_seen = position >= first_seen;
        const float power = is_seen ? head.power_of(position) : 0;
        const float share = is_seen ? exp2_fast(power) * per_sum : 0;
        if (share > 0) sums[0] += share * (bits_of_sum - power) * LN_2;
        if (position < sizes.n_first) sums[1] += share;
        if (position >= sizes.n_seen - sizes.n_last) sums[2] += share;
        if (sizes.per_head) put(shares + position, share);
    }
    float *first = out.first + number, *last = out.last + number;
    const bool keeps = sizes.per_head;
    add_up(sums, {out.entropy + number, keeps ? first : nullptr, keeps ? last : nullptr});
}

// The mean over the heads of a layer of what they gave to a position.
DEVICE float mean_share(const Token& token, int layer, int position) {
    if (position < token.first_seen(layer)) return 0;
    const int n_head = token.sizes.n_head;
    float sum = 0;
#pragma unroll 4
    for (int i = 0; i < n_head; i++) {
        const Head head(token, layer * n_head + i);
        sum += exp2_fast(head.power_of(position)) * (1 / head.sum);
    }
    return sum / n_head;
}

// By a warp: the mean shares of at most 32 positions, summed.
DEVICE void sum_means(const Token& token, int layer, int start, int n, float* to) {
    const int lane = threadIdx.x % 32, position = start + lane;
    const bool is_there = lane < n && position >= 0 && position < token.sizes.n_seen;
    const float sum = sum_of_warp(is_there ? mean_share(token, layer, position) : 0);
    if (lane == 0) *to = sum;
}

// By a thread block: a layer's means of THREADS positions; the first of them adds up two pieces.
template <class Number>
DEVICE void see_means(const Token& token, int number, const Out<Number>& out) {
    const Sizes& sizes = token.sizes;
    const int n_tiles = (sizes.n_seen + THREADS - 1) / THREADS;
    const int layer = number / n_tiles, tile = number % n_tiles;
    const int position = tile * THREADS + threadIdx.x;
    if (position < sizes.n_seen)
        put(out.shares + (u64)layer * sizes.n_seen + position, mean_share(token, layer, position));
    if (tile) return;
    const int warp = threadIdx.x / 32, start = sizes.n_seen - sizes.n_last;
    if (warp == 0) sum_means(token, layer, 0, sizes.n_first, out.first + layer);
    if (warp == 1) sum_means(token, layer, start, sizes.n_last, out.last + layer);
}

template <class Number>
DEVICE void see(const Token& token, float* to) {
    const Sizes& sizes = token.sizes;
    const Out<Number> out(to, sizes);
    const int n_heads = sizes.n_layer * sizes.n_head, n_norms = 2 * sizes.n_layer * sizes.n_head_kv;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n_norms; i += gridDim.x * THREADS)
        out.norms[i] = token.norms[i];
    if (blockIdx.x < n_heads) see_head(token, blockIdx.x, out);
    else see_means(token, blockIdx.x - n_heads, out);
}

#define ENTRY_FOR(NAME, NUMBER)                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS, 6)                                  \
    NAME(const float* scores, const float2* ends, const float* norms, const int* windows,     \
         float* out, Sizes sizes) {                                                           \
        see<NUMBER>(Token{scores, ends, norms, windows, sizes}, out);                         \
    }

ENTRY_FOR(decode_shares_float16, u16)
ENTRY_FOR(decode_shares_float32, float)
