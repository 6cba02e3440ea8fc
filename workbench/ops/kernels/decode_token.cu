// One token through all layers in one kernel: from x to logits.
//
//     layer    norm, q k v ║ attention ║ output, + x ║ norm, gate up, activation ║ down, + x ║
//     end      norm, head                                                    ║ = all thread blocks
//
// Grid: one thread block a multiprocessor, all there at once (they meet at ║: decode_exchange.cuh).
// Threads: N_WARPS warps that multiply, and one that brings the weights: decode_stream.cuh.
// Why it is fast: nothing but weights, keys and values comes from memory, once each, and they flow
// without a break; there are no launches, and the next phase's weights are there when it begins.
// Equal to the plain pass (model/transformer.py) but for the order of float32 sums.
// Measured on an NVIDIA H200, Llama 3 8B, tokens/s at the start and behind 4096 tokens:
//     Q4_0 720 640   Q4_K_M 629 571   Q6_K 531 488   Q8_0 470 437   F16 256 242
// Given by the loader, besides those of the parts: the model's sizes and rules, as macros.

DEVICE float swiglu(float gate, float up) {
    return gate * reciprocal_fast(1 + exp2_fast(-gate * LOG2_E)) * up;
}
DEVICE float in_half(float x) { return from_half((u16)to_halves(x, 0)); }
// As the plain pass by ggml's table: of a float16 number, and rounded to one.
DEVICE float geglu(float gate, float up) {
    if (fabsf(gate) >= 10) return gate > 0 ? gate * up : 0;
    const float x = in_half(gate);
    const float inner = 0.79788456080286535588f * x * (1 + 0.044715f * x * x);
    return in_half(0.5f * x * (1 + tanhf(inner))) * up;
}

struct Own {
    int row;
    float x;
};

// The residual stream, whose states go around a ring of places: each layer makes two. Where
// branches are normed (POST_NORMS), the last one still has to be added to it, and meetings are
// strict. For statistics, states also go to `tap`.
struct Stream {
    float* states;
    int now = 0;
    DEVICE float* state(int i) const { return states + i % N_STATES * N_EMBD; }

    DEVICE void read(Vector<N_EMBD>& v, const float* post_norm, const Work& work,
                     const Consumer& me, int& turn, float* tap) {
        v.await(state(now), me);
        if (!post_norm) return;
        Vector<N_EMBD> branch, weights;
        weights.load_constant(post_norm, me);
        branch.load(work.branch, me);
        branch.norm(weights, me, turn);
        now++;
#pragma unroll
        for (int i = 0; i < v.ROUNDS; i++) {
            const int at = v.at(i, me);
            v.part[i] = plus(v.part[i], times(branch.part[i], (float)RESIDUAL_SCALE));
            if (at >= N_EMBD || at / 4 % gridDim.x != blockIdx.x) continue;
            *(float4*)(state(now) + at) = v.part[i];
            if (STATS && tap) *(float4*)(tap + at) = v.part[i];
        }
    }
    // What x is before a branch is added, of the row that a thread writes first.
    DEVICE Own own(const Consumer& me) const {
        const int thread = me.warp * 32 + me.lane;
        const int row = (thread / 16 * gridDim.x + blockIdx.x) * 16 + thread % 16;
        return {row, row < N_EMBD ? load_relaxed(state(now) + row) : 0};
    }
    // Adds row `row` of a branch, which makes the next state, or leaves it for `read`.
    DEVICE void add(int row, float y, const Own& own, const Work& work, float* tap) const {
        if (POST_NORMS) {
            work.branch[row] = y;
            return;
        }
        const float x = row == own.row ? own.x : load_relaxed(state(now) + row);
        const float sum = x + y * (float)RESIDUAL_SCALE;
        store_relaxed(state(now + 1) + row, sum);
        if (STATS && tap) tap[row] = sum;
    }
};

// The clock after each part of a token (LAYER_PARTS, END_PARTS of model/decode_plan.py).
DEVICE void mark(const Work& work, const Consumer& me, u32& marks) {
#if PROFILE
    if (blockIdx.x == 0 && me.warp == 0 && me.lane == 0) work.marks[marks++] = clock64();
#endif
}

struct Token {
    const Work& work;
    Consumer me;
    Stream stream;
    int n_positions, turn = 0;
    u32 marks = 0;
    Meetings meetings{};

    // The end of a part. What follows from a thread's number is not kept in registers for the next
    // one: that took more of them than there are (Q4_0: 702 instead of 677 tokens/s).
    DEVICE void passed() {
        mark(work, me, marks);
        me.warp = anew(me.warp), me.lane = anew(me.lane);
    }
    // All thread blocks meet; doing(): what is done while the others are on their way.
    template <class Doing>
    DEVICE void meet(bool strict, Doing doing) {
        passed();
        meetings.arrive(work, me, strict);
        doing();
        meetings.await(work, me);
        passed();
    }
    // What all have read by now: F in decode_exchange.cuh.
    DEVICE void forget_all(int number) {
        if (!POST_NORMS) {
            forget(stream.state(2 * number), N_EMBD, me);
            forget(stream.state(2 * number + N_STATES - 1), N_EMBD, me);
        }
        forget(work.qkv + number % 2 * N_QKV, N_QKV, me);
        if (n_positions > LEAST_SPLIT)
            forget(work.splits + number % 2 * split_at(most_splits()), split_at(most_splits()), me);
        forget(work.mixed + number % 2 * N_HEAD * HEAD_DIM, N_HEAD * HEAD_DIM, me);
        forget(work.hidden + (number + 2) % 3 * N_FF, N_FF, me);
    }

    // The next layer's record, a word a thread, to shared memory: asked for early, kept later.
    static_assert(sizeof(Layer) / 4 <= CONSUMERS, "a word a thread");
    DEVICE u32 word_of(const Layer& layer) const {
        const int thread = me.warp * 32 + me.lane;
        return thread < (int)(sizeof(Layer) / 4) ? ((const u32*)&layer)[thread] : 0;
    }
    DEVICE void keep_word(Layer& to, u32 word) const {
        const int thread = me.warp * 32 + me.lane;
        if (thread < (int)(sizeof(Layer) / 4)) ((u32*)&to)[thread] = word;
    }

    DEVICE void attention(int number, const Layer& layer, const float* post_norm) {
        Vector<N_EMBD> v, weights;
        weights.load_constant(layer.attn_norm, me);
        stream.read(v, post_norm, work, me, turn, work.taps + (number - 1) * N_EMBD);
        const float most = v.norm(weights, me, turn);
        const ATTN_PLANES planes = v.planes<ATTN_PLANES>(most, me);
        float* qkv = work.qkv + number % 2 * N_QKV;
        passed();
        multiply_matrices(me, layer.attn, 3, planes, 16, [&](int e, int r, int matrix, int tile) {
            const int row = tile * 16 + r;
            if (row >= (int)layer.attn[matrix].n_rows) return;
            const int at = row + (matrix == 0 ? 0 : (N_HEAD + (matrix - 1) * N_HEAD_KV) * HEAD_DIM);
            const float y = row_sum(e, r) * planes.scale;
            store_relaxed(qkv + at, layer.biases ? y + layer.biases[at] : y);
        });
        passed();
        meetings.arrive(work, me);
        attend(number, layer, work, me, n_positions, [&] {
            meetings.await(work, me);
            passed();
        });
        meet(false, [] {});
    }

    DEVICE void output(int number, const Layer& layer) {
        Exchanged<N_HEAD * HEAD_DIM>::Held v;
        v.await(work.mixed + number % 2 * N_HEAD * HEAD_DIM, me);
        const OUT_PLANES planes = v.template planes<OUT_PLANES>(v.largest(me, turn), me);
        const Own own = stream.own(me);
        passed();
        multiply_matrices(me, &layer.output, 1, planes, 16, [&](int e, int r, int, int tile) {
            const int row = tile * 16 + r;
            if (row >= N_EMBD) return;
            const float y = row_sum(e, r) * planes.scale;
            stream.add(row, layer.output_bias ? y + layer.output_bias[row] : y, own, work, nullptr);
        });
        if (!POST_NORMS) stream.now++;
        meet(POST_NORMS, [&] { meetings.arrive_strictly(work, me); });
    }

    DEVICE void feed_forward(int number, const Layer& layer) {
        float* hidden = work.hidden + number % 3 * N_FF;
        {
            Vector<N_EMBD> v, weights;
            weights.load_constant(layer.ffn_norm, me);
            stream.read(v, layer.attn_post_norm, work, me, turn, nullptr);
            const float most = v.norm(weights, me, turn);
            const GATE_PLANES planes = v.planes<GATE_PLANES>(most, me);
            passed();
            multiply_matrices(me, &layer.gate_up, 1, planes, 8, [&](int e, int r, int, int tile) {
                const int row = tile * 8 + r;
                const float gate = row_sum(e, r) * planes.scale;
                const float up = row_sum(e, r + 8) * planes.scale;
                if (row < N_FF) store_relaxed(hidden + row, ACTIVATION(gate, up));
            });
        }
        meet(false, [&] { meetings.await_strictly(work, me); });
        Exchanged<N_FF>::Held v;
        v.await(hidden, me);
        const DOWN_PLANES planes = v.template planes<DOWN_PLANES>(v.largest(me, turn), me);
        const Own own = stream.own(me);
        passed();
        multiply_matrices(me, &layer.down, 1, planes, 16, [&](int e, int r, int, int tile) {
            const int row = tile * 16 + r;
            if (row >= N_EMBD) return;
            stream.add(row, row_sum(e, r) * planes.scale, own, work, work.taps + number * N_EMBD);
        });
        if (!POST_NORMS) stream.now++;
        meet(POST_NORMS, [&] { forget_all(number); });
    }

    DEVICE void logits(const Matrix* head, const float* norm, const float* post_norm) {
        Vector<N_EMBD> v, weights;
        weights.load_constant(norm, me);
        stream.read(v, post_norm, work, me, turn, work.taps + (N_LAYER - 1) * N_EMBD);
        const float most = v.norm(weights, me, turn);
        const HEAD_PLANES planes = v.planes<HEAD_PLANES>(most, me);
        passed();
        multiply_matrices(me, head, 1, planes, 16, [&](int e, int r, int, int tile) {
            const int row = tile * 16 + r;
            if (row >= (int)head->n_rows) return;
            float y = row_sum(e, r) * planes.scale * (float)LOGIT_SCALE;
#ifdef FINAL_SOFTCAP
            y = FINAL_SOFTCAP * tanhf(y / FINAL_SOFTCAP);
#endif
            work.logits[row] = y;
        });
        passed();
    }
};

extern "C" __global__ void __launch_bounds__(CONSUMERS + 32, 1)
decode_token(const Layer* layers, const Matrix* head, const float* norm, const Work* buffers) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (u32 i = threadIdx.x; i < N_SLOTS; i += CONSUMERS + 32) {
        barrier_init(full_barrier(i), BULK_ARRIVALS);
        barrier_init(empty_barrier(i), GIVEN_BACK);
    }
    copy_record(records().layers[0], *layers, threadIdx.x, CONSUMERS + 32);
    copy_record(records().work, *buffers, threadIdx.x, CONSUMERS + 32);
    copy_record(records().head, *head, threadIdx.x, CONSUMERS + 32);
    __syncthreads();
    const Work& work = records().work;
    if (work.state[3]) return;  // a stop: nothing more is wanted
    const int n_positions = work.state[1] + 1;
    if (n_positions > (int)work.n_rows) return;  // the cache is full
    if (warp == N_WARPS)
        return produce(layers, head, lane, [&](Producer& producer, int number) {
            send_positions(producer, layers[number], work.n_rows, n_positions);
        });
    Token token{work, {warp, lane, (u32)warp, {(u32)warp, 0}, 0}, {work.states},
                n_positions};
    token.passed();
    const float* post_norm = nullptr;
    for (int i = 0; i < N_LAYER; i++) {
        const Layer& layer = records().layers[i % 2];
        const u32 word = token.word_of(layers[i + 1 < N_LAYER ? i + 1 : i]);
        token.attention(i, layer, post_norm);
        token.keep_word(records().layers[(i + 1) % 2], word);
        token.output(i, layer);
        token.feed_forward(i, layer);
        post_norm = layer.ffn_post_norm;
    }
    token.logits(&records().head, norm, post_norm);
}
