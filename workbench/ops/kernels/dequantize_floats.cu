// Types of one number a block, F32 F16 BF16 F64 I8 I16 I32 I64, to float32 or float16: each number
// rounded to float32 and then, if asked, to float16.
//
// Grid: THREADS threads a thread block, NUMBERS numbers a thread, THREADS apart.
// Shapes: raw (n,) of the type -> out (n,).
// Why it is fast: a warp reads and writes consecutive numbers, and all loads of a thread are on the
// way before its first store.
// NumPy twin: workbench/quants/floats.py.
// Measured on an NVIDIA H200, 4096 x 14336 to float16, GB/s of bytes read and written:
//     F32 4260   F16 3584   BF16 3589   F64 4346   I8 3316   I16 3645   I32 4227   I64 4345

constexpr int NUMBERS = 8 * CHUNKS;

struct F32 {
    typedef float number;
    static DEVICE float read(number x) { return x; }
};

struct F16 {
    typedef u16 number;
    static DEVICE float read(number bits) { return from_half(bits); }
};

struct BF16 {
    typedef u16 number;
    static DEVICE float read(number bits) { return as_float((u32)bits << 16); }
};

struct F64 {
    typedef double number;
    static DEVICE float read(number x) { return from_double(x); }
};

template <class Integer>
struct IntegerType {
    typedef Integer number;
    static DEVICE float read(number x) { return (float)x; }
};

typedef IntegerType<signed char> I8;
typedef IntegerType<short> I16;
typedef IntegerType<int> I32;
typedef IntegerType<long long> I64;

DEVICE void store_one(float* out, float x) { *out = x; }

DEVICE void store_one(u16* out, float x) { *out = (u16)to_halves(x, 0); }

template <class Type, class Out>
DEVICE void convert_numbers(const u8* raw, const void*, Out* out, u64 n) {
    typedef typename Type::number number;
    const number* numbers = reinterpret_cast<const number*>(raw);
    const u64 first = (u64)blockIdx.x * (THREADS * NUMBERS) + threadIdx.x;
    number x[NUMBERS];
#pragma unroll
    for (int k = 0; k < NUMBERS; k++) {
        const u64 i = first + k * THREADS;
        x[k] = numbers[i < n ? i : n - 1];
    }
#pragma unroll
    for (int k = 0; k < NUMBERS; k++) {
        const u64 i = first + k * THREADS;
        if (i < n) store_one(out + i, Type::read(x[k]));
    }
}

DEQUANTIZE(F32, convert_numbers)
DEQUANTIZE(F16, convert_numbers)
DEQUANTIZE(BF16, convert_numbers)
DEQUANTIZE(F64, convert_numbers)
DEQUANTIZE(I8, convert_numbers)
DEQUANTIZE(I16, convert_numbers)
DEQUANTIZE(I32, convert_numbers)
DEQUANTIZE(I64, convert_numbers)
