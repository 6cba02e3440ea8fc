// What the 32 threads of a warp do together: shuffles, votes and products on the tensor cores.
//
// All 32 lanes must call these at the same place. In a product D = A B + C of 16 x K by K x 8, with
// g = lane / 4 and t = lane % 4, a lane holds (4 bytes a register; e = elements of a register):
//
//     A (row by row)           columns e*t ..         columns K/2 + e*t ..
//         row g                a0                     a2
//         row g + 8            a1                     a3
//     B (column by column)     rows e*t ..            rows K/2 + e*t ..
//         column g             b0                     b1
//     C and D                  column 2t              column 2t + 1
//         row g                c[0]                   c[1]
//         row g + 8            c[2]                   c[3]
//
// mma_s8_k16 has only a0, a1 and b0, which then are all of its columns.
// Source: PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions"; shfl, vote, ldmatrix.
// Its twin for a plain CPU is tests/ops/fiber_machine.hpp.

DEVICE u32 lane_id() {
    u32 lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

// The value of lane `lane`: of any number of 4 bytes.
template <class Number>
DEVICE Number shuffle(Number value, int lane) {
    return __shfl_sync(0xFFFFFFFF, value, lane);
}

// The value of the lane whose number differs in the bits of `mask`.
template <class Number>
DEVICE Number shuffle_xor(Number value, int mask) {
    return __shfl_xor_sync(0xFFFFFFFF, value, mask);
}

// Bit i: lane i's answer.
DEVICE u32 ballot(bool yes) { return __ballot_sync(0xFFFFFFFF, yes); }

// What a lane wrote before is seen by the others after.
DEVICE void sync_warp() { __syncwarp(); }

// --- products: c += A B --------------------------------------------------------------------------

// K = 32 signed bytes, 4 a register.
DEVICE void mma_s8(int (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The same with unsigned bytes in A.
DEVICE void mma_u8(int (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// K = 16 signed bytes, 4 a register.
DEVICE void mma_s8_k16(int (&c)[4], u32 a0, u32 a1, u32 b0) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(b0));
}

// K = 16 float16, 2 a register, sums in float32.
DEVICE void mma_f16(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// K = 16 bfloat16, 2 a register, sums in float32.
DEVICE void mma_bf16(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// --- matrices from shared memory -----------------------------------------------------------------

// The 32-bit address that shared-memory instructions take.
DEVICE u32 shared_address(const void* shared) { return (u32)__cvta_generic_to_shared(shared); }

// Four 8 x 8 matrices of 2-byte elements: lanes 8i .. 8i+7 give the addresses of the rows of matrix
// i, multiples of 16; r[i] becomes its row g, columns 2t and 2t + 1.
DEVICE void load_matrices(u32 (&r)[4], const void* shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared)) : "memory");
}

// The same of the transposed matrices: r[i] becomes the elements (2t, g) and (2t + 1, g).
DEVICE void load_matrices_transposed(u32 (&r)[4], const void* shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared)) : "memory");
}
