// One token through all layers in one kernel: from x to logits.
//
//     layer    norm, q k v ║ attention ║ output, + x ║ norm, gate up, activation ║ down, + x ║
//     end      norm, head                                                    ║ = all thread blocks
//
// Grid: one thread block a multiprocessor, all there at once (they wait for one another at ║).
// Threads: N_WARPS warps that multiply, and one that brings the weights: decode_stream.cuh.
// Why it is fast: nothing but weights, keys and values comes from memory, once each, and they flow
// without a break; there are no launches, and the next phase's weights are there when it begins.
// Equal to the plain pass (model/transformer.py) but for the order of float32 sums.
// Measured on an NVIDIA H200, Llama 3 8B, tokens/s at the start and behind 4096 tokens:
//     Q4_0 505 406   Q4_K_M 491 398   Q6_K 434 358   Q8_0 379 323   F16 240 216
// Given by the loader, besides those of the parts: the model's sizes and rules, as macros.

DEVICE float swiglu(float gate, float up) { return gate / (1 + exp2_fast(-gate * LOG2_E)) * up; }
DEVICE float geglu(float gate, float up) {
    const float inner = 0.79788456080286535588f * gate * (1 + 0.044715f * gate * gate);
    return 0.5f * gate * (1 + tanhf(inner)) * up;
}

// All consumers of all thread blocks meet: once all have arrived, they go on from `await` and see
// what the others wrote before they arrived.
DEVICE void arrive(const Work& work, const Consumer& me, u32& arrivals) {
    sync_group(ALL_CONSUMERS, CONSUMERS);
    arrivals += gridDim.x;
    if (me.warp == 0 && me.lane == 0) add_release(work.barrier, 1);
}

DEVICE void await(const Work& work, const Consumer& me, u32 arrivals) {
    const u32* const barrier = work.barrier;  // before the loop, where each look empties L1
    if (me.warp == 0 && me.lane == 0)
        while (load_acquire(barrier) < arrivals) {
        }
    sync_group(ALL_CONSUMERS, CONSUMERS);
}

DEVICE void produce(const Layer* layers, const Matrix* head, int lane) {
    Turn turn{0, 0};
    for (int i = 0; i < N_LAYER; i++) {
        stream(layers[i].attn, 3, turn, lane);
        stream(&layers[i].output, 1, turn, lane);
        stream(&layers[i].gate_up, 1, turn, lane);
        stream(&layers[i].down, 1, turn, lane);
    }
    stream(head, 1, turn, lane);
}

// The residual stream; where branches are normed, the last one still has to be added to it, and the
// sum then goes to `tap` too, for statistics.
struct Stream {
    float *x, *other;
    DEVICE void read(Vector<N_EMBD>& v, const float* post_norm, const Work& work,
                     const Consumer& me, int& turn, float* tap) {
        v.load(x, me);
        if (!post_norm) return;
        Vector<N_EMBD> branch;
        branch.load(work.branch, me);
        branch.norm(post_norm, me, turn);
#pragma unroll
        for (int i = 0; i < v.ROUNDS; i++) {
            const int at = v.at(i, me);
            v.part[i] = plus(v.part[i], times(branch.part[i], (float)RESIDUAL_SCALE));
            if (at >= N_EMBD || at / 4 % gridDim.x != blockIdx.x) continue;
            *(float4*)(other + at) = v.part[i];
            if (STATS && tap) *(float4*)(tap + at) = v.part[i];
        }
        float* const now = other;
        other = x, x = now;
    }
    // Adds row `row` of a branch, or leaves it for `read`.
    DEVICE void add(int row, float y, bool is_normed, const Work& work) const {
        if (is_normed) work.branch[row] = y;
        else x[row] = load_fresh(x + row) + y * (float)RESIDUAL_SCALE;
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
    u32 arrivals = 0, marks = 0;

    DEVICE void passed() { mark(work, me, marks); }
    DEVICE void wait() {
        arrive(work, me, arrivals);
        await(work, me, arrivals);
        passed();
    }

    DEVICE void attention(int number, const Layer& layer, const float* post_norm) {
        Vector<N_EMBD> v;
        stream.read(v, post_norm, work, me, turn, work.taps + (number - 1) * N_EMBD);
        const float most = v.norm(layer.attn_norm, me, turn);
        const ATTN_PLANES planes = v.planes<ATTN_PLANES>(most, me);
        passed();
        multiply_matrices(me, layer.attn, 3, planes, 16, [&](int e, int r, int matrix, int tile) {
            const int row = tile * 16 + r;
            if (row >= (int)layer.attn[matrix].n_rows) return;
            const int at = row + (matrix == 0 ? 0 : (N_HEAD + (matrix - 1) * N_HEAD_KV) * HEAD_DIM);
            const float y = row_sum(e, r) * planes.scale;
            work.qkv[at] = layer.biases ? y + layer.biases[at] : y;
        });
        passed();
        arrive(work, me, arrivals);
        attend(number, layer, work, me, n_positions, [&] {
            await(work, me, arrivals);
            passed();
        });
        passed();
        wait();
    }

    DEVICE void output(const Layer& layer) {
        Vector<N_HEAD * HEAD_DIM> v;
        v.load(work.mixed, me);
        const OUT_PLANES planes = v.template planes<OUT_PLANES>(v.largest(me, turn), me);
        passed();
        multiply_matrices(me, &layer.output, 1, planes, 16, [&](int e, int r, int, int tile) {
            const int row = tile * 16 + r;
            if (row >= N_EMBD) return;
            const float y = row_sum(e, r) * planes.scale;
            stream.add(row, layer.output_bias ? y + layer.output_bias[row] : y,
                       layer.attn_post_norm, work);
        });
        passed();
        wait();
    }

    DEVICE void feed_forward(int number, const Layer& layer) {
        {
            Vector<N_EMBD> v;
            stream.read(v, layer.attn_post_norm, work, me, turn, nullptr);
            const float most = v.norm(layer.ffn_norm, me, turn);
            const GATE_PLANES planes = v.planes<GATE_PLANES>(most, me);
            passed();
            multiply_matrices(me, &layer.gate_up, 1, planes, 8, [&](int e, int r, int, int tile) {
                const int row = tile * 8 + r;
                const float gate = row_sum(e, r) * planes.scale;
                const float up = row_sum(e, r + 8) * planes.scale;
                if (row < N_FF) work.hidden[row] = ACTIVATION(gate, up);
            });
        }
        passed();
        wait();
        Vector<N_FF> v;
        v.load(work.hidden, me);
        const DOWN_PLANES planes = v.template planes<DOWN_PLANES>(v.largest(me, turn), me);
        passed();
        multiply_matrices(me, &layer.down, 1, planes, 16, [&](int e, int r, int, int tile) {
            const int row = tile * 16 + r;
            if (row >= N_EMBD) return;
            stream.add(row, row_sum(e, r) * planes.scale, layer.ffn_post_norm, work);
#if STATS
            if (!layer.ffn_post_norm) work.taps[number * N_EMBD + row] = stream.x[row];
#endif
        });
        passed();
        wait();
    }

    DEVICE void logits(const Matrix* head, const float* norm, const float* post_norm) {
        Vector<N_EMBD> v;
        stream.read(v, post_norm, work, me, turn, work.taps + (N_LAYER - 1) * N_EMBD);
        const float most = v.norm(norm, me, turn);
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
    if (threadIdx.x == 0)
        for (u32 i = 0; i < N_SLOTS; i++) {
            barrier_init(full_barrier(i), BULK_ARRIVALS);
            barrier_init(empty_barrier(i), GIVEN_BACK);
        }
    __syncthreads();
    const Work& work = *buffers;
    if (work.state[3]) return;  // a stop: nothing more is wanted
    if (warp == N_WARPS) return produce(layers, head, lane);
    Token token{work, {warp, lane, (u32)warp, {(u32)warp, 0}, 0}, {work.x, work.other_x},
                (int)work.state[1] + 1};
    token.passed();
    const float* post_norm = nullptr;
    for (int i = 0; i < N_LAYER; i++) {
        const Layer& layer = layers[i];
        token.attention(i, layer, post_norm);
        token.output(layer);
        token.feed_forward(i, layer);
        post_norm = layer.ffn_post_norm;
    }
    token.logits(head, norm, post_norm);
}
