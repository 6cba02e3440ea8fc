// Products with all matrices of some layers, as the decode kernel streams them, for tests.
//
// Grid: any number of thread blocks of N_WARPS * 32 + 32 threads; they wait for nobody, as every
// product has the same x. out: (matrices, MOST_ROWS), of q k v, output, gate and up, down of each
// layer, then of the head.

DEVICE Digits put_all(const Consumer& me, const float* x, int n_columns) {
    sync_group(ALL_CONSUMERS, CONSUMERS);
    const Digits planes(shared_memory() + Layout::planes, n_columns, 2);
    if (me.warp == 0)
        for (int first = 0; first < n_columns; first += 128) {
            float four[4];
            for (int i = 0; i < 4; i++) {
                const int column = first + 4 * me.lane + i;
                four[i] = column < n_columns ? x[column] : 0;
            }
            planes.put(first + 4 * me.lane, four);
        }
    sync_group(ALL_CONSUMERS, CONSUMERS);
    return planes;
}

DEVICE void multiply_some(Consumer& me, const Matrix* matrices, int count, const float* x,
                          float* out) {
    const Digits planes = put_all(me, x, matrices->n_columns);
    multiply_matrices(me, matrices, count, planes, 16, [&](int e, int r, int matrix, int tile) {
        out[matrix * MOST_ROWS + tile * 16 + r] = row_sum(e, r) * planes.scale;
    });
}

extern "C" __global__ void __launch_bounds__(CONSUMERS + 32, 1)
multiply_layers(const Layer* layers, const Matrix* head, const float* x, float* out) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (threadIdx.x == 0)
        for (u32 i = 0; i < N_SLOTS; i++) {
            barrier_init(full_barrier(i), BULK_ARRIVALS);
            barrier_init(empty_barrier(i), GIVEN_BACK);
        }
    __syncthreads();
    if (warp == N_WARPS) return produce(layers, head, lane, [](Producer&, int) {});
    Consumer me{warp, lane, (u32)warp, {(u32)warp, 0}, 0};
    for (int i = 0; i < N_LAYER; i++, out += 6 * MOST_ROWS) {
        multiply_some(me, layers[i].attn, 3, x, out);
        multiply_some(me, &layers[i].output, 1, x, out + 3 * MOST_ROWS);
        multiply_some(me, &layers[i].gate_up, 1, x, out + 4 * MOST_ROWS);
        multiply_some(me, &layers[i].down, 1, x, out + 5 * MOST_ROWS);
    }
    multiply_some(me, head, 1, x, out);
}
