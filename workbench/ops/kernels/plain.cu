// The plain pass on a GPU, all but its products: norms, shares of attention, rope, activations.
//
//     rms_norm, layer_norm   (x - mean) / sqrt(mean((x - mean)²) + eps) · weight + bias
//     shares                 scores capped, scaled, hidden where not to be seen; softmax; in place
//     rope                   pairs of each head turned by the angles of their position
//     store_rows             keys and values to their place in the cache
//     sigmoid … xielu        one number (or a gate's and an up's) at a time
//
// Grid: norms and shares, a thread block of up to 256 a row; the others, a thread a number.
// Shapes at each kernel; all numbers float32. Why it is fast enough: what would be 4 to 12 launches
// of array operations is one; a row is read again from the caches.
// NumPy twins: cpu.py (norms, rope), cpu_attention.py (shares), cpu_activations.py.

// The sum (or the greatest) of a number of each thread, for all of them; whole warps.
template <bool GREATEST>
DEVICE float of_all_threads(float number) {
    float* parts = reinterpret_cast<float*>(shared_memory());
    for (int mask = 16; mask; mask /= 2) {
        const float other = shuffle_xor(number, mask);
        number = GREATEST ? fmaxf(number, other) : number + other;
    }
    __syncthreads();  // who came here before has read the parts
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = number;
    __syncthreads();
    number = parts[0];
    for (int i = 1; i < blockDim.x / 32; i++)
        number = GREATEST ? fmaxf(number, parts[i]) : number + parts[i];
    return number;
}

// --- norms ---------------------------------------------------------------------------------------

// x, out (rows, n); weight, bias (weight_rows, n), used in turn, or none.
template <bool CENTRED>
DEVICE void norm_row(const float* x, const float* weight, const float* bias, float* out, int n,
                     int weight_rows, float eps) {
    const u64 row = (u64)blockIdx.x * n, own = (u64)(blockIdx.x % weight_rows) * n;
    float sum = 0, squares = 0;
    if (CENTRED)
        for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[row + i];
    const float mean = CENTRED ? of_all_threads<false>(sum) / (float)n : 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const float part = x[row + i] - mean;
        squares += part * part;
    }
    const float root = sqrtf(of_all_threads<false>(squares) / (float)n + eps);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const float part = (x[row + i] - mean) / root * (weight ? weight[own + i] : 1);
        out[row + i] = part + (bias ? bias[own + i] : 0);
    }
}

extern "C" __global__ void __launch_bounds__(256)
    rms_norm(const float* __restrict__ x, const float* __restrict__ weight,
             const float* __restrict__ bias, float* __restrict__ out, int n, int weight_rows,
             float eps) {
    norm_row<false>(x, weight, bias, out, n, weight_rows, eps);
}

extern "C" __global__ void __launch_bounds__(256)
    layer_norm(const float* __restrict__ x, const float* __restrict__ weight,
               const float* __restrict__ bias, float* __restrict__ out, int n, int weight_rows,
               float eps) {
    norm_row<true>(x, weight, bias, out, n, weight_rows, eps);
}

// --- shares --------------------------------------------------------------------------------------

// What a score becomes before the softmax; distance: positions from the key to the query.
DEVICE float ruled(float score, float scale, float softcap, float slope, int distance) {
    if (softcap) score = tanhf(score / softcap) * softcap;
    return score * scale - slope * (float)distance;
}

// scores (H, T, S), in place; sinks, slopes (H,) or none; first: position of the first query,
// before: of the first key. window: positions that a query sees, 0 for all; chunked: pieces of that
// many positions instead.
extern "C" __global__ void __launch_bounds__(256)
    shares(float* __restrict__ scores, const float* __restrict__ sinks,
           const float* __restrict__ slopes, int n_tokens, int n_seen, int first, int before,
           int window, int chunked, float scale, float softcap) {
    float* own = scores + (u64)blockIdx.x * n_seen;
    const int head = blockIdx.x / n_tokens, position = first + blockIdx.x % n_tokens;
    const float slope = slopes ? slopes[head] : 0, sink = sinks ? sinks[head] : 0;
    int oldest = 0;
    if (window) oldest = chunked ? position / window * window : position - window + 1;
    const int low = max(0, oldest - before), high = min(n_seen, position - before + 1);

    float greatest = sinks ? sink : as_float(0xFF800000);
    for (int i = low + threadIdx.x; i < high; i += blockDim.x)
        greatest = fmaxf(greatest, ruled(own[i], scale, softcap, slope, position - before - i));
    greatest = of_all_threads<true>(greatest);
    float total = 0;
    for (int i = low + threadIdx.x; i < high; i += blockDim.x) {
        const float score = ruled(own[i], scale, softcap, slope, position - before - i);
        own[i] = expf(score - greatest);
        total += own[i];
    }
    total = of_all_threads<false>(total) + (sinks ? expf(sink - greatest) : 0);
    for (int i = threadIdx.x; i < n_seen; i += blockDim.x)
        own[i] = i >= low && i < high ? own[i] / total : 0;
}

// --- rope ----------------------------------------------------------------------------------------

// x, out (T, H, D); rotation (T, half) pairs of cosine and sine; neox: which numbers are a pair, as
// in cpu.py. `size` numbers in all, `per_token` of a token.
extern "C" __global__ void __launch_bounds__(256)
    rope(const float* __restrict__ x, const float2* __restrict__ rotation, float* __restrict__ out,
         u64 size, int per_token, int head_dim, int half, int neox) {
    const u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= size) return;
    const int i = (int)(at % head_dim);
    if (i >= 2 * half) {
        out[at] = x[at];
        return;
    }
    const bool is_first = neox ? i < half : i % 2 == 0;
    const int pair = neox ? i % half : i / 2, step = neox ? half : 1;
    const float2 turn = rotation[at / per_token * half + pair];
    const float other = x[is_first ? at + step : at - step];
    out[at] = is_first ? x[at] * turn.x - other * turn.y : other * turn.y + x[at] * turn.x;
}

// --- the cache -----------------------------------------------------------------------------------

DEVICE void store_number(void* room, u64 at, float x, int is_half) {
    if (is_half)
        static_cast<u16*>(room)[at] = (u16)to_halves(x, 0);
    else
        static_cast<float*>(room)[at] = x;
}

// k (T, K, D) and v (T, K, Dv) to rows `row` … of rooms (K, capacity, D), float16 or float32.
extern "C" __global__ void __launch_bounds__(256)
    store_rows(const float* __restrict__ k, const float* __restrict__ v, void* __restrict__ room_k,
               void* __restrict__ room_v, u64 size_k, u64 size_v, int n_head_kv, int head_dim,
               int head_dim_v, int row, int capacity, int k_is_half, int v_is_half) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size_k + size_v) return;
    const bool is_key = i < size_k;
    if (!is_key) i -= size_k;
    const u64 length = is_key ? head_dim : head_dim_v;
    const u64 head = i / length % n_head_kv, token = i / length / n_head_kv;
    const u64 at = (head * capacity + row + token) * length + i % length;
    if (is_key)
        store_number(room_k, at, k[i], k_is_half);
    else
        store_number(room_v, at, v[i], v_is_half);
}

// --- activations ---------------------------------------------------------------------------------

DEVICE float sigmoid_of(float x) { return 1 / (expf(-x) + 1); }
DEVICE float silu_of(float x) { return x / (expf(-x) + 1); }

// By ggml's table of what each float16 becomes.
DEVICE float gelu_of(float x, const float* table) {
    if (!(x < 10.0f)) return x;
    return table[to_halves(fmaxf(x, -10.0f), 0) & 0xFFFF];
}

DEVICE float swiglu_oai_of(float gate, float up) {
    gate = fminf(gate, 7.0f);
    up = fminf(fmaxf(up, -7.0f), 7.0f);
    return gate * sigmoid_of(1.702f * gate) * (up + 1);
}

#define ELEMENTWISE(name, parameters, value)                                          \
    extern "C" __global__ void __launch_bounds__(256) name parameters {               \
        const u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;                     \
        if (i < size) out[i] = value;                                                 \
    }

ELEMENTWISE(sigmoid, (const float* x, float* out, u64 size), sigmoid_of(x[i]))
ELEMENTWISE(silu, (const float* x, float* out, u64 size), silu_of(x[i]))
ELEMENTWISE(relu_squared, (const float* x, float* out, u64 size),
            fmaxf(x[i], 0) * fmaxf(x[i], 0))
ELEMENTWISE(gelu, (const float* x, const float* table, float* out, u64 size), gelu_of(x[i], table))
ELEMENTWISE(soft_cap, (const float* x, float cap, float* out, u64 size), tanhf(x[i] / cap) * cap)
ELEMENTWISE(swiglu, (const float* gate, const float* up, float* out, u64 size),
            silu_of(gate[i]) * up[i])
ELEMENTWISE(swiglu_oai, (const float* gate, const float* up, float* out, u64 size),
            swiglu_oai_of(gate[i], up[i]))
ELEMENTWISE(reglu, (const float* gate, const float* up, float* out, u64 size),
            fmaxf(gate[i], 0) * up[i])
ELEMENTWISE(geglu, (const float* gate, const float* up, const float* table, float* out, u64 size),
            gelu_of(gate[i], table) * up[i])
// slope: beta + softplus(alpha_n), curve: beta's parabola, softplus(alpha_p)
ELEMENTWISE(xielu,
            (const float* x, float slope, float curve, float beta, float eps, float* out, u64 size),
            (x[i] > 0 ? curve * x[i] * x[i] : (expm1f(fminf(x[i], eps)) - x[i]) * slope)
                + beta * x[i])
