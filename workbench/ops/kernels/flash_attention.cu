// Causal attention of many queries on the float16 cache; the matrix of scores is never in memory.
//
//     out = softmax(cap(q kᵀ) scale - slope distance) v        over the keys a query may see
//
// Queries of the heads that share a KV head are rows of one matrix, row = token * group + member:
// a tile of K and V, read once, serves all of them.
//
//                 KEYS                     grid     tiles of ROWS rows, the last first, of each KV
//              ┌───────┬───────┬─────               head
//     ROWS     │ tile 0│ tile 1│  …   ▶    shapes   q (T, H, D) float32, contiguous; k (S, K, D),
//     rows of  └───────┴───────┴─────               v (S, K, Dv) float16, any strides; sinks,
//     queries    one after the other,               slopes (H,) float32 or none; out (T, H * Dv)
//                the next on its way                float32, out_half the same as float16;
//                                                   D, Dv multiples of 8, at most HEAD_DIM
//
// A warp holds 16 or 32 rows: scores, shares and sums stay in its registers, from one product to
// the next. Queries and shares are rounded to float16, all sums and totals are float32.
// Why it is fast: tensor cores (m16n8k16); K and V come a tile ahead by asynchronous copies; a row
// in shared memory is an odd number of 16 bytes long, so that no two lanes meet in a bank; tiles
// that no query of the thread block may see are not read, only tiles on an edge are masked.
// The loader gives HEAD_DIM (64, 80, 96, 128 or 256), RULES (1 where there is a cap or slopes) and
// ROW_TILES (1 or 2 times 16 rows a warp).
// NumPy twin: workbench/ops/cpu_attention.py. Source: Dao, arXiv:2307.08691.
// Measured on an NVIDIA H200, TFLOP/s of the products that count, 8 KV heads:
//     2048 queries of   6144 positions   32768
//     64 x 32 heads           226           274
//     128 x 32 heads          296           349     (16 rows a warp: 201, 241)
//     256 x 16 heads          209           231

constexpr int WARPS = 4, KEYS = HEAD_DIM > 128 ? 32 : 64;
constexpr int ROWS = WARPS * ROW_TILES * 16, STRIDE = HEAD_DIM + 8, CHUNKS_OF_ROW = HEAD_DIM / 8;
constexpr int KEY_BLOCKS = KEYS / 8, DIM_BLOCKS = HEAD_DIM / 8, LANES = WARPS * 32;
constexpr int TILE = KEYS * STRIDE;  // float16 numbers of one tile of K or V in shared memory
constexpr float LOG2_E = 1.4426950408889634f, LARGEST_HALF = 65504.0f;

DEVICE float minus_infinity() { return as_float(0xFF800000); }

struct Sizes {
    u32 k_row, k_head, v_row, v_head;  // from one to the next, in numbers
    int n_tokens, n_seen, n_head_kv, group, head_dim, head_dim_v, window, chunked, before;
    float scale, softcap;
};

// The query of a row.
struct Place {
    int token, head;
};

DEVICE int kv_head(const Sizes& sizes) { return blockIdx.x % sizes.n_head_kv; }

DEVICE Place place_of(const Sizes& sizes, int row) {
    return {row / sizes.group, kv_head(sizes) * sizes.group + row % sizes.group};
}

// 8 numbers of a query, at most what a float16 holds; what is no number stays so.
DEVICE void store_query(u16* to, const float4* from) {
    u32 pairs[4];
    for (int i = 0; i < 2; i++) {
        float x[4] = {from[i].x, from[i].y, from[i].z, from[i].w};
        for (float& number : x) {
            number = number > LARGEST_HALF ? LARGEST_HALF : number;
            number = number < -LARGEST_HALF ? -LARGEST_HALF : number;
        }
        pairs[2 * i] = to_halves(x[0], x[1]), pairs[2 * i + 1] = to_halves(x[2], x[3]);
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// Rows first_row ... of the queries of a KV head, zeros where there are none.
DEVICE void load_queries(u16* tile, const float* q, const Sizes& sizes, int first_row) {
    const int n_rows = sizes.n_tokens * sizes.group, n_head = sizes.n_head_kv * sizes.group;
    for (int i = threadIdx.x; i < ROWS * CHUNKS_OF_ROW; i += LANES) {
        const int row = first_row + i / CHUNKS_OF_ROW, chunk = i % CHUNKS_OF_ROW;
        u16* to = tile + i / CHUNKS_OF_ROW * STRIDE + chunk * 8;
        if (row < n_rows && chunk * 8 < sizes.head_dim) {
            const Place at = place_of(sizes, row);
            const u64 number = ((u64)at.token * n_head + at.head) * sizes.head_dim;
            store_query(to, reinterpret_cast<const float4*>(q + number + chunk * 8));
        } else {
            *reinterpret_cast<uint4*>(to) = make_uint4(0, 0, 0, 0);
        }
    }
}

// Begin to copy KEYS rows of K or V, zeros behind `length` numbers; behind the last row there is it
// again, which masks hide. A thread copies 16 bytes of each STEP-th row.
DEVICE void copy_tile(u16* tile, const u16* from, u32 stride, int first_key, int n_seen,
                      int length) {
    constexpr int STEP = LANES / CHUNKS_OF_ROW;
    const int first = threadIdx.x / CHUNKS_OF_ROW, column = threadIdx.x % CHUNKS_OF_ROW * 8;
    if (first >= STEP) return;
#pragma unroll
    for (int row = first; row < KEYS; row += STEP) {
        const u32 key = first_key + row < n_seen ? first_key + row : n_seen - 1;
        copy_async16(tile + row * STRIDE + column, from + (key * stride + column),
                     column < length);
    }
}

// scores = queries of this warp times the keys of a tile.
DEVICE void multiply_keys(float (&scores)[ROW_TILES][KEY_BLOCKS][4], const u16* queries,
                          const u16* keys, int lane) {
    const u16* query = queries + lane % 16 * STRIDE + lane / 16 * 8;
    const u16* key = keys + (lane % 8 + lane / 16 * 8) * STRIDE + lane / 8 % 2 * 8;
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; n++)
            for (int i = 0; i < 4; i++) scores[r][n][i] = 0;
#pragma unroll
    for (int d = 0; d < HEAD_DIM; d += 16) {
        u32 a[ROW_TILES][4], b[4];
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++) load_matrices(a[r], query + r * 16 * STRIDE + d);
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; n += 2) {
            load_matrices(b, key + n * 8 * STRIDE + d);
#pragma unroll
            for (int r = 0; r < ROW_TILES; r++) {
                mma_f16(scores[r][n], a[r][0], a[r][1], a[r][2], a[r][3], b[0], b[1]);
                mma_f16(scores[r][n + 1], a[r][0], a[r][1], a[r][2], a[r][3], b[2], b[3]);
            }
        }
    }
}

// sums += shares, as float16, times the values of a tile.
DEVICE void add_values(float (&sums)[ROW_TILES][DIM_BLOCKS][4],
                       const float (&shares)[ROW_TILES][KEY_BLOCKS][4], const u16* values,
                       int lane) {
    const u16* value = values + lane % 16 * STRIDE + lane / 16 * 8;
#pragma unroll
    for (int n = 0; n < KEY_BLOCKS; n += 2) {
        u32 a[ROW_TILES][4], b[4];
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++)
            for (int i = 0; i < 4; i++)
                a[r][i] = to_halves(shares[r][n + i / 2][i % 2 * 2],
                                    shares[r][n + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int d = 0; d < DIM_BLOCKS; d += 2) {
            load_matrices_transposed(b, value + n * 8 * STRIDE + d * 8);
#pragma unroll
            for (int r = 0; r < ROW_TILES; r++) {
                mma_f16(sums[r][d], a[r][0], a[r][1], a[r][2], a[r][3], b[0], b[1]);
                mma_f16(sums[r][d + 1], a[r][0], a[r][1], a[r][2], a[r][3], b[2], b[3]);
            }
        }
    }
}

// The first key that a query sees whose newest key is `newest`: both count from the first row of k.
DEVICE int oldest_key(const Sizes& sizes, int newest) {
    if (!sizes.window) return 0;
    const int position = newest + sizes.before;
    const int oldest = sizes.chunked ? position / sizes.window * sizes.window
                                     : position - sizes.window + 1;
    return oldest > sizes.before ? oldest - sizes.before : 0;
}

// cap(x) scale - slope distance, in units of log 2.
DEVICE float ruled(float x, const Sizes& sizes, float slope, int distance) {
    if (sizes.softcap > 0) {
        const float e = exp2_fast(x * (2 * LOG2_E / sizes.softcap));
        x = sizes.softcap * (1 - 2 / (1 + e));
    }
    return (x * sizes.scale - slope * (float)distance) * LOG2_E;
}

// A row of this thread: the query, and what has been seen of its keys.
struct Row {
    float greatest = minus_infinity(), total = 0;
};

// The rules on the scores of one row: `half` 0 for the upper, 1 for the lower one of eight.
DEVICE void apply_rules(float (&scores)[KEY_BLOCKS][4], int half, const Sizes& sizes, int newest,
                        float slope, int first_key, bool on_edge) {
    const int oldest = oldest_key(sizes, newest);
#pragma unroll
    for (int n = 0; n < KEY_BLOCKS; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int key = first_key + n * 8 + i;
            float& score = scores[n][2 * half + i];
            if (RULES) score = ruled(score, sizes, slope, newest - key);
            if (on_edge && (key > newest || key < oldest)) score = minus_infinity();
        }
}

// Scores of one row become shares of what has been seen so far; returns what older sums keep.
DEVICE float share(float (&scores)[KEY_BLOCKS][4], Row& row, int half, float factor) {
    float greatest = row.greatest, total = 0;
#pragma unroll
    for (int n = 0; n < KEY_BLOCKS; n++)
        greatest = fmaxf(greatest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    greatest = fmaxf(greatest, shuffle_xor(greatest, 1));
    greatest = fmaxf(greatest, shuffle_xor(greatest, 2));
    const float base = greatest == minus_infinity() ? 0 : greatest * factor;
    const float kept = exp2_fast(row.greatest * factor - base);
#pragma unroll
    for (int n = 0; n < KEY_BLOCKS; n++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
            scores[n][i] = exp2_fast(scores[n][i] * factor - base);
            total += scores[n][i];
        }
    row.greatest = greatest, row.total = row.total * kept + total;
    return kept;
}

// What the sums of a row are multiplied by at the end; all lanes of a warp come here together.
DEVICE float last_factor(Row row, float factor, const float* sink) {
    float total = row.total + shuffle_xor(row.total, 1);
    total += shuffle_xor(total, 2);
    if (!sink) return 1 / total;
    const float own = row.greatest * factor, other = *sink * LOG2_E, base = fmaxf(own, other);
    const float kept = exp2_fast(own - base);
    return kept / (total * kept + exp2_fast(other - base));
}

DEVICE void write_row(const float (&sums)[DIM_BLOCKS][4], int half, float factor, int length,
                      float* out, u16* out_half) {
#pragma unroll
    for (int d = 0; d < DIM_BLOCKS; d++)
        if (d * 8 < length) {
            const float x = sums[d][2 * half] * factor, y = sums[d][2 * half + 1] * factor;
            *reinterpret_cast<float2*>(out + d * 8) = make_float2(x, y);
            *reinterpret_cast<u32*>(out_half + d * 8) = to_halves(x, y);
        }
}

// Where the tiles of a thread block begin and end, counted in rows of k.
struct Span {
    int first_row, start, first_newest, last_newest, all_see;
};

DEVICE Span span_of(const Sizes& sizes) {
    const int n_tiles = gridDim.x / sizes.n_head_kv, n_before = blockIdx.x / sizes.n_head_kv;
    const int first_row = (n_tiles - 1 - n_before) * ROWS;
    const int before = sizes.n_seen - sizes.n_tokens;
    const int n_rows = sizes.n_tokens * sizes.group;
    const int last_row = (first_row + ROWS < n_rows ? first_row + ROWS : n_rows) - 1;
    const int first = before + first_row / sizes.group, last = before + last_row / sizes.group;
    return {first_row, oldest_key(sizes, first), first, last, oldest_key(sizes, last)};
}

// The row of which this thread has the upper (0) or lower (1) half of registers, of tile r.
DEVICE int row_of(const Span& span, int r, int half) {
    const int warp_row = threadIdx.x / 32 * ROW_TILES * 16;
    return span.first_row + warp_row + r * 16 + half * 8 + lane_id() / 4;
}

extern "C" __global__ void __launch_bounds__(LANES, 2)
    flash_attention(const float* __restrict__ q, const u16* __restrict__ k,
                    const u16* __restrict__ v, const float* __restrict__ sinks,
                    const float* __restrict__ slopes, float* __restrict__ out,
                    u16* __restrict__ out_half, Sizes sizes) {
    u16* queries = reinterpret_cast<u16*>(shared_memory());
    u16 *keys = queries + ROWS * STRIDE, *values = keys + 2 * TILE;
    const int lane = lane_id(), warp_row = threadIdx.x / 32 * ROW_TILES * 16;
    const Span span = span_of(sizes);
    const float factor = RULES ? 1 : sizes.scale * LOG2_E;
    k += (u64)kv_head(sizes) * sizes.k_head, v += (u64)kv_head(sizes) * sizes.v_head;

    copy_tile(keys, k, sizes.k_row, span.start, sizes.n_seen, sizes.head_dim);
    copy_tile(values, v, sizes.v_row, span.start, sizes.n_seen, sizes.head_dim_v);
    copy_commit();
    load_queries(queries, q, sizes, span.first_row);

    Row rows[ROW_TILES][2];
    float sums[ROW_TILES][DIM_BLOCKS][4] = {};
    int turn = 0;
    for (int key = span.start; key <= span.last_newest; key += KEYS, turn ^= 1) {
        copy_wait<0>();
        __syncthreads();  // this turn's tiles are there, and nobody reads those of the last one
        if (key + KEYS <= span.last_newest) {
            const int next = key + KEYS, other = (turn ^ 1) * TILE;
            copy_tile(keys + other, k, sizes.k_row, next, sizes.n_seen, sizes.head_dim);
            copy_tile(values + other, v, sizes.v_row, next, sizes.n_seen, sizes.head_dim_v);
            copy_commit();
        }
        float scores[ROW_TILES][KEY_BLOCKS][4];
        multiply_keys(scores, queries + warp_row * STRIDE, keys + turn * TILE, lane);
        const bool on_edge = key + KEYS - 1 > span.first_newest || key < span.all_see;
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if (RULES || on_edge) {
                    const Place at = place_of(sizes, row_of(span, r, half));
                    const float slope = RULES && slopes ? slopes[at.head] : 0;
                    const int newest = at.token + sizes.n_seen - sizes.n_tokens;
                    apply_rules(scores[r], half, sizes, newest, slope, key + lane % 4 * 2, on_edge);
                }
                const float kept = share(scores[r], rows[r][half], half, factor);
#pragma unroll
                for (int d = 0; d < DIM_BLOCKS; d++)
                    sums[r][d][2 * half] *= kept, sums[r][d][2 * half + 1] *= kept;
            }
        add_values(sums, scores, values + turn * TILE, lane);
    }

#pragma unroll
    for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const Place at = place_of(sizes, row_of(span, r, half));
            const float* sink = sinks ? sinks + at.head : nullptr;
            const float last = last_factor(rows[r][half], factor, sink);
            const u64 row = (u64)at.token * (sizes.n_head_kv * sizes.group) + at.head;
            const u64 number = row * sizes.head_dim_v + lane % 4 * 2;
            if (at.token < sizes.n_tokens)
                write_row(sums[r], half, last, sizes.head_dim_v, out + number, out_half + number);
        }
}
