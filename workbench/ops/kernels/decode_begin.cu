// The token's row of the embeddings becomes the first state of the residual stream, the rest of
// what thread blocks exchange UNWRITTEN (decode_exchange.cuh), the counters of their meetings zero.
//
// Grid: ceil(n_numbers / (8 THREADS)) thread blocks, 8 numbers a thread; after blocks.cuh and the
// family of EMBEDDING, the type of the rows. NumPy twin: ops.cpu.get_rows.

extern "C" __global__ void __launch_bounds__(THREADS)
decode_begin(const u8* rows, const void* table, u64 row_bytes, u32 n_weights, const u32* state,
             float* exchanged, u32 n_numbers, u32* meetings) {
    if (state[3]) return;
    if (blockIdx.x == 0 && threadIdx.x < 2) meetings[threadIdx.x] = 0;
    const u32 first = (blockIdx.x * THREADS + threadIdx.x) * 8;
    if (first >= n_weights) {
        for (u32 i = first; i < first + 8 && i < n_numbers; i++) exchanged[i] = as_float(UNWRITTEN);
        return;
    }
    float w[8];
    const u8* row = rows + state[0] * row_bytes;
#if EMBEDDING_IS_NUMBERS
    for (int i = 0; i < 8; i++)
        w[i] = EMBEDDING::read(reinterpret_cast<const EMBEDDING::number*>(row)[first + i]);
#else
    EMBEDDING::decode(row + first / EMBEDDING::weights * EMBEDDING::bytes,
                      first % EMBEDDING::weights / 8, table, w);
#endif
    for (int i = 0; i < 8; i++) {
        const float x = w[i] * (float)EMBEDDING_SCALE;
        const bool waits = as_bits(x) == UNWRITTEN;  // all would, for a number of a file
        exchanged[first + i] = waits ? as_float(0x7FFFFFFF) : x;
    }
}
