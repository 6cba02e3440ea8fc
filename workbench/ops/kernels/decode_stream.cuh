// The weights of a token on their way through shared memory: a producer warp, and what takes them.
//
//     memory ──▶ slot 0 │ slot 1 │ … │ slot N_SLOTS-1 ──▶ warps: packet i goes to warp i % N_WARPS
//                 ▲ full[i]: the packet is there          ▼ empty[i]: it was multiplied
//
// The order of packets is known before the token begins: matrices one after the other, of each the
// tiles blockIdx.x, blockIdx.x + gridDim.x … The producer only waits for empty slots, never for the
// arithmetic, so weights keep flowing while the thread blocks wait for one another. N_SLOTS is a
// multiple of N_WARPS: a slot then has one reader, who cannot take an old phase for a new one.
// Given by the loader: N_WARPS, N_SLOTS, SLOT_BYTES, PLANE_BYTES, PACKET_TYPES(CASE).
// Layout of packets: workbench/ops/packets.py.

constexpr int CONSUMERS = N_WARPS * 32;   // threads that multiply
constexpr int GROUP = 8;                  // tiles whose sums wait to be added
constexpr int ALL_CONSUMERS = 1;          // the number of their barrier

// A matrix as packets, as MATRIX in workbench/model/decode_plan.py.
struct Matrix {
    const u8* tiles;
    u32 n_tiles, n_rows, tile_bytes, n_columns, type, unused;
};

// Where things lie in shared memory.
struct Layout {
    static constexpr u32 full = 0, empty = full + 8 * N_SLOTS, scratch = empty + 8 * N_SLOTS,
                         entries = scratch + 4 * 4 * N_WARPS, sums = entries + 16 * GROUP,
                         planes = (sums + 64 * GROUP * N_WARPS + 127) / 128 * 128,
                         ring = planes + PLANE_BYTES, bytes = ring + N_SLOTS * SLOT_BYTES;
};

DEVICE u64* full_barrier(u32 slot) { return (u64*)(shared_memory() + Layout::full) + slot; }
DEVICE u64* empty_barrier(u32 slot) { return (u64*)(shared_memory() + Layout::empty) + slot; }
DEVICE u8* slot_memory(u32 slot) { return shared_memory() + Layout::ring + slot * SLOT_BYTES; }

// A place in the ring and how often it was passed.
struct Turn {
    u32 slot, parity;
    DEVICE void advance(u32 steps) {
        slot += steps;
        if (slot >= N_SLOTS) slot -= N_SLOTS, parity ^= 1;
    }
};

DEVICE int columns_of(u32 type) {
#define CASE(ID, TYPE) if (type == ID) return Packets##TYPE::columns;
    PACKET_TYPES(CASE)
#undef CASE
    return 0;
}

DEVICE int bytes_of(u32 type, int n_columns) {
#define CASE(ID, TYPE) if (type == ID) return Packets##TYPE::bytes(n_columns);
    PACKET_TYPES(CASE)
#undef CASE
    return 0;
}

template <class A, class B> struct Same { static constexpr bool yes = false; };
template <class A> struct Same<A, A> { static constexpr bool yes = true; };

template <class Packets, class Planes>
DEVICE void multiply_if(const u8* packet, const Planes& x, int first, int n, int lane,
                        float (&sums)[2]) {
    if constexpr (Same<typename Packets::Planes, Planes>::yes)
        Packets::multiply(packet, x, first, n, lane, sums);
}

template <class Planes>
DEVICE void multiply_packet(u32 type, const u8* packet, const Planes& x, int first, int n, int lane,
                            float (&sums)[2]) {
#define CASE(ID, TYPE) \
    if (type == ID) return multiply_if<Packets##TYPE>(packet, x, first, n, lane, sums);
    PACKET_TYPES(CASE)
#undef CASE
}

// --- the producer --------------------------------------------------------------------------------

// Sends this thread block's tiles of some matrices to the ring; by a whole warp.
DEVICE void stream(const Matrix* matrices, int count, Turn& turn, int lane) {
    u32 tile = blockIdx.x;
    for (int i = 0; i < count; i++) {
        const Matrix m = matrices[i];
        const u32 width = columns_of(m.type), whole = bytes_of(m.type, width);
        for (; tile < m.n_tiles; tile += gridDim.x) {
            const u8* from = m.tiles + (u64)tile * m.tile_bytes;
            for (u32 left = m.tile_bytes; left;) {
                const u32 n_bytes = left < whole ? left : whole;
                barrier_wait(empty_barrier(turn.slot), turn.parity ^ 1);
                copy_bulk(slot_memory(turn.slot), from, n_bytes, full_barrier(turn.slot), lane);
                from += n_bytes, left -= n_bytes;
                turn.advance(1);
            }
        }
        tile -= m.n_tiles;
    }
}

// --- the consumers -------------------------------------------------------------------------------

// What a consuming warp remembers between products.
struct Consumer {
    int warp, lane;
    u32 next;   // packets to pass until one of this warp comes
    Turn turn;  // where that one will be
};

DEVICE float* sums_of(int entry, int warp) {
    return (float*)(shared_memory() + Layout::sums) + (entry * N_WARPS + warp) * 16;
}

// The sum of row r (0..15) of a tile over all warps, in their order.
DEVICE float row_sum(int entry, int r) {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < N_WARPS; warp++) sum += sums_of(entry, warp)[r];
    return sum;
}

// A tile that was multiplied: of which matrix, which one.
struct Entry {
    int matrix, tile;
};

// Multiplies this thread block's tiles with x; write(entry, i, matrix, tile) is called by all
// consumers, for groups of up to GROUP tiles, with i = 0..15 the row of a tile.
template <class Planes, class Write>
DEVICE void multiply_matrices(Consumer& me, const Matrix* matrices, int count, const Planes& x,
                              int rows_to_write, Write write) {
    Entry* entries = (Entry*)(shared_memory() + Layout::entries);
    const int thread = me.warp * 32 + me.lane;
    int n_waiting = 0;
    auto flush = [&]() {
        sync_group(ALL_CONSUMERS, CONSUMERS);
        for (int i = thread; i < n_waiting * rows_to_write; i += CONSUMERS) {
            const int entry = i / rows_to_write;
            write(entry, i % rows_to_write, entries[entry].matrix, entries[entry].tile);
        }
        sync_group(ALL_CONSUMERS, CONSUMERS);
        n_waiting = 0;
    };
    u32 tile = blockIdx.x;
    for (int i = 0; i < count; i++) {
        const Matrix m = matrices[i];
        const u32 width = columns_of(m.type), padded = (m.n_columns + 63) / 64 * 64;
        const u32 n_packets = (padded + width - 1) / width;
        for (; tile < m.n_tiles; tile += gridDim.x) {
            float sums[2] = {0, 0};
            for (; me.next < n_packets; me.next += N_WARPS) {
                const u32 first = me.next * width, left = padded - first;
                const u32 n = left < width ? left : width;
                barrier_wait(full_barrier(me.turn.slot), me.turn.parity);
                multiply_packet(m.type, slot_memory(me.turn.slot), x, first, n, me.lane, sums);
                sync_warp();
                if (me.lane == 0) barrier_arrive(empty_barrier(me.turn.slot));
                me.turn.advance(N_WARPS);
            }
            me.next -= n_packets;
            for (int r = 0; r < 2; r++) {
                sums[r] += shuffle_xor(sums[r], 1);
                sums[r] += shuffle_xor(sums[r], 2);
                if (me.lane % 4 == 0) sums_of(n_waiting, me.warp)[r * 8 + me.lane / 4] = sums[r];
            }
            if (thread == 0) entries[n_waiting] = {i, (int)tile};
            if (++n_waiting == GROUP) flush();
        }
        tile -= m.n_tiles;
    }
    if (n_waiting) flush();
}
