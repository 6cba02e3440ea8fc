// A few tokens times the transposed rows of a packed matrix, from the types of dequantize_*.cu.
//
//     y[t, row] = sum of decode(raw[row]) · x[t]       sums in float32, no weight is rounded
//
// Stands between blocks.cuh and a family's file, whose DEQUANTIZE lines then make these kernels:
// matvec_TYPE. Grid: (rows / 8, T), a warp a row; 256 threads.
// Shapes: raw (m, bytes), x (T, n) float32, y (T, m) float32; n a multiple of 8; all addresses are
// multiples of 16, or raw's of the power of two in a block's bytes.
// Why it is fast: the packed bytes are read once and become nothing but sums: a product is one
// launch and a fraction of the bytes that float32 tiles would move.
// NumPy twin: linear in cpu.py.
// Measured on an NVIDIA H200, 14336 x 4096, one token, GB/s of packed bytes (the same weights again
// and again, so partly from the L2 cache):
//     Q4_0 1214   Q5_0 1411   Q8_0 1991   Q4_K 1095   Q6_K 1453   IQ4_XS 867   IQ2_XXS 418
//     F16 3666

// Eight plain numbers as a block.
template <class Type>
struct EightNumbers {
    static constexpr int weights = 8, bytes = 8 * sizeof(typename Type::number);
    static DEVICE void decode(const u8* block, u32, const void*, float* w) {
        constexpr int WORDS = bytes / 4;
        union {
            u32 words[WORDS];
            typename Type::number numbers[8];
        } all;
        if constexpr (WORDS < 4) {
            load_words<8>(block, all.words);
        } else {
            for (int i = 0; i < WORDS; i += 4) {
                u32 four[4];
                load_words<16>(block + 4 * i, four);
                for (int j = 0; j < 4; j++) all.words[i + j] = four[j];
            }
        }
        for (int i = 0; i < 8; i++) w[i] = Type::read(all.numbers[i]);
    }
};

DEVICE float dot4(const float* w, float4 x) {
    return w[0] * x.x + w[1] * x.y + w[2] * x.z + w[3] * x.w;
}

template <class Row>
DEVICE void multiply_row(const u8* raw, const void* table, const float* x, float* y, int n,
                         int n_rows) {
    constexpr int PARTS = Row::weights / 8;
    const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= n_rows) return;
    const u8* own = raw + (u64)row * (n / Row::weights) * Row::bytes;
    const float4* activations = reinterpret_cast<const float4*>(x + (u64)blockIdx.y * n);
    float sum = 0;
#pragma unroll 1
    for (int part = lane; part < n / 8; part += 32) {
        float w[8];
        Row::decode(own + (u64)(part / PARTS) * Row::bytes, part % PARTS, table, w);
        sum += dot4(w, activations[2 * part]) + dot4(w + 4, activations[2 * part + 1]);
    }
    for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
    if (lane == 0) y[(u64)blockIdx.y * n_rows + row] = sum;
}

#define ROW_OF_dequantize_blocks(TYPE) TYPE
#define ROW_OF_convert_numbers(TYPE) EightNumbers<TYPE>
#undef DEQUANTIZE
#define DEQUANTIZE(TYPE, BODY)                                                                \
    extern "C" __global__ void __launch_bounds__(256) matvec_##TYPE(                          \
        const u8* __restrict__ raw, const void* __restrict__ table,                           \
        const float* __restrict__ x, float* __restrict__ y, int n, int n_rows) {              \
        multiply_row<ROW_OF_##BODY(TYPE)>(raw, table, x, y, n, n_rows);                       \
    }
