// What the loader tells the kernel of a model: a record a layer, the head, where buffers are.
//
//     layers ──▶ Records::layers[i % 2]   the next one is on its way while one is worked on
//     head   ──▶ Records::head            work ──▶ Records::work
//
// They lie in shared memory: an address read from the GPU's memory comes a microsecond after it is
// known to be needed, since each meeting of the thread blocks empties L1.
// Field by field the records of workbench/model/decode_plan.py.

// A matrix as packets.
struct Matrix {
    const u8* tiles;
    u32 n_tiles, n_rows, tile_bytes, n_columns, type, unused;
};

struct Layer {
    Matrix attn[3], output, gate_up, down;  // in the order of a token
    const float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm;
    const float *q_norm, *k_norm, *biases, *output_bias;  // biases: of q, k, v, one after another
    const float2* rotation;                               // (n_ctx, N_ROT / 2), cos and sin
    u16 *k, *v;
    u32 window, unused;  // positions that are seen, 0: all
};

// Buffers of a token.
struct Work {
    float *states, *qkv, *splits, *mixed, *hidden;  // what is exchanged (decode_exchange.cuh):
    // (6, E), (2, ..), (2, most_splits(), H, SPLIT), (2, H D), (3, F)
    float *branch, *logits;
    u32 *meetings, *state;  // (2,), (64,)
    float *scores;     // (L, H, n_rows), for statistics, or null
    float2 *ends;      // (L, H) largest score and sum of each head
    float *taps;       // (L, E)
    float *norms;      // (L, 2, K) of keys, then of values
    u64 *marks;        // clocks, for profiles, or null
    u32 n_rows, unused;
};

struct Records {
    Layer layers[2];
    Work work;
    Matrix head;
};

// Copies a record to shared memory, by `n_threads` threads.
template <class Record>
DEVICE void copy_record(Record& to, const Record& from, int thread, int n_threads) {
    for (int i = thread; i < (int)(sizeof(Record) / 4); i += n_threads)
        ((u32*)&to)[i] = ((const u32*)&from)[i];
}
