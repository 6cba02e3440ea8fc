// All that a token reads on its way through shared memory: a producer warp, and what takes it.
//
//     memory ──▶ slot 0 │ slot 1 │ … │ slot N_SLOTS-1 ──▶ warps: packet i goes to warp i % N_WARPS
//                 ▲ full[i]: the packet is there          ▼ empty[i]: it was multiplied
//
// The order of packets is known before the token begins: matrices one after the other, of each the
// tiles blockIdx.x, blockIdx.x + gridDim.x …, and after q, k and v of a layer the cached keys and
// values (decode_heads.cuh). The producer only waits for empty slots, never for the arithmetic, so
// all of it keeps flowing while the thread blocks wait for one another. N_SLOTS is a
// multiple of N_WARPS: a slot then has one reader, who cannot take an old phase for a new one.
// Tried: packets brought to the L2 cache ahead of their copy, always or while the ring is full (the
// memory then is slower by a third: Q4_0 535 instead of 610 tokens/s); 12 or 16 warps (spills).
// Given by the loader: N_WARPS, N_SLOTS, SLOT_BYTES, PLANE_BYTES, PACKET_TYPES(CASE), N_LAYER.
// Layout of packets: workbench/ops/packets.py.

constexpr int CONSUMERS = N_WARPS * 32;   // threads that multiply
constexpr int GROUP = 8;                  // tiles whose sums wait to be added
constexpr int ALL_CONSUMERS = 1;          // the number of their barrier
static_assert(N_SLOTS >= N_WARPS && N_SLOTS % N_WARPS == 0, "slots of one reader each");

// A tile that was multiplied: of which matrix, which one.
struct Entry {
    int matrix, tile;
};

// Where things lie in shared memory. Entries and sums are of two groups in turn.
struct Layout {
    static constexpr u32 full = 0, empty = full + 8 * N_SLOTS, scratch = empty + 8 * N_SLOTS,
                         entries = scratch + 4 * 4 * N_WARPS,
                         records = entries + 2 * GROUP * sizeof(Entry),
                         sums = records + sizeof(Records),
                         planes = (sums + 2 * GROUP * N_WARPS * 64 + 127) / 128 * 128,
                         ring = planes + PLANE_BYTES, bytes = ring + N_SLOTS * SLOT_BYTES;
};

// How often a slot is given back: once by a warp. 32 by its lanes is for compute-sanitizer, which
// does not see that one lane speaks for all of a warp after sync_warp(), as is ASKING 1 below.
#ifndef GIVEN_BACK
#define GIVEN_BACK 1
#endif

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

// Whether a type needs the sums of activations.
#define CASE(ID, TYPE) || Packets##TYPE::has_minima
constexpr bool HAS_MINIMA = false PACKET_TYPES(CASE);
#undef CASE

DEVICE u32 padded_columns(const Matrix& m) { return (m.n_columns + 63) / 64 * 64; }

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

// Packets that are asked for at once, each by a lane: one lane alone is slower than the memory.
// Measured on an NVIDIA H200, Llama 3 8B, tokens/s with 4 and 8 lanes: Q4_0 616 635, Q4_K_M 597
// 606, Q8_0 448 449.
#ifndef ASKING
#define ASKING 8
#endif
constexpr u32 ASKED = BULK_ARRIVALS > 1 ? 1 : 2 * ASKING <= N_SLOTS ? ASKING : N_SLOTS / 2;

// Bytes of a thread block that are on their way at a time. More would stand in a queue at the
// memory, and what thread blocks tell one another behind them. Tokens/s with 48, 56, 64, 80 KiB:
// Q4_0 656 657 653 635.
constexpr u32 ON_THEIR_WAY = 56 << 10;

// How many packets of a size may be on their way.
DEVICE u32 most_of(u32 bytes) {
    const u32 most = ON_THEIR_WAY / bytes;
    return most < ASKED ? ASKED : most > N_SLOTS - ASKED ? N_SLOTS - ASKED : most;
}

// A place in the order of packets: up to ASKED of a tile.
struct Cursor {
    static constexpr int MATRICES = 6, LAST = MATRICES * N_LAYER;  // of a layer; the head
    const Layer* layers;
    const Matrix* head;
    int number = 0;    // of the matrix that is `now`
    Matrix now, next;  // next is read while packets of now are on their way
    u32 tile = blockIdx.x, first = 0, n_packets, whole;
    u32 most;  // packets on their way

    DEVICE Cursor(const Layer* layers, const Matrix* head)
        : layers(layers), head(head), now(layers->attn[0]), next(layers->attn[1]) {
        find_tile();
    }
    DEVICE bool exists() const { return number <= LAST; }
    // Where this thread block has no more tiles of a matrix, goes to the next.
    DEVICE void find_tile() {
        while (exists() && tile >= now.n_tiles) {
            const bool goes_on = number % MATRICES < 2;  // q, k, v are dealt as one
            tile = goes_on ? tile - now.n_tiles : blockIdx.x;
            now = next, number++;
            const int after = number + 1;
            next = after < LAST ? layers[after / MATRICES].attn[after % MATRICES] : *head;
        }
        const u32 width = columns_of(now.type);
        whole = bytes_of(now.type, width), n_packets = (padded_columns(now) + width - 1) / width;
        most = most_of(whole);
    }
    DEVICE u32 count() const { return n_packets - first < ASKED ? n_packets - first : ASKED; }
    DEVICE void advance() {
        first += ASKED;
        if (first < n_packets) return;
        first = 0, tile += gridDim.x;
        find_tile();
    }
    DEVICE const u8* packet(u32 own) const {
        return now.tiles + (u64)tile * now.tile_bytes + (first + own) * whole;
    }
    DEVICE u32 bytes(u32 own) const {
        const u32 left = now.tile_bytes - (first + own) * whole;
        return left < whole ? left : whole;
    }
};

// What the producer warp remembers.
struct Producer {
    u32 lane;
    Turn turn{0, 0};
    u32 n_asked = 0;

    // The packet of a turn that a lane asks for.
    DEVICE u32 own() const { return ASKED == 1 ? 0 : lane; }

    // Asks for the next `count` packets (up to ASKED), each by a lane: `bytes` bytes `from` there.
    // It waits for a packet that was asked for earlier (most >= ASKED), so that `most` are on their
    // way, and none of this turn comes into its slot (most <= N_SLOTS - ASKED), which would end the
    // phase after the one it waits for.
    DEVICE void ask(u32 count, u32 most, const void* from, u32 bytes) {
        if (own() < count) {
            Turn mine = turn;
            mine.advance(own());
            barrier_wait(empty_barrier(mine.slot), mine.parity ^ 1);
            const u32 before = n_asked + own() - most;
            if (n_asked + own() >= most)
                barrier_wait(full_barrier(before % N_SLOTS), before / N_SLOTS & 1);
            copy_bulk(slot_memory(mine.slot), from, bytes, full_barrier(mine.slot), lane - own());
        }
        sync_warp();  // a slot's packets are asked for in their order
        turn.advance(count), n_asked += count;
    }
};

// Sends this thread block's packets of a token to the ring; by a whole warp. between(producer,
// number) sends what comes after q, k and v of layer `number`.
template <class Between>
DEVICE void produce(const Layer* layers, const Matrix* head, u32 lane, Between between) {
    Producer producer{lane};
    Cursor at(layers, head);
    for (int done = 0;; at.advance()) {
        while (done < (at.number + 3) / Cursor::MATRICES) between(producer, done++);
        if (!at.exists()) return;
        const u32 own = producer.own();
        producer.ask(at.count(), at.most, at.packet(own), at.bytes(own));
    }
}

// --- the consumers -------------------------------------------------------------------------------

DEVICE Records& records() { return *(Records*)(shared_memory() + Layout::records); }

// What a consuming warp remembers between products.
struct Consumer {
    int warp, lane;
    u32 next;   // packets to pass until one of this warp comes
    Turn turn;  // where that one will be
    int first;  // entry of the group that is multiplied: 0 or GROUP
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

// Waits for the next packet of this warp, lets use(packet) read it, and gives its slot back.
template <class Use>
DEVICE void take_packet(Consumer& me, Use use) {
    barrier_wait(full_barrier(me.turn.slot), me.turn.parity);
    use(slot_memory(me.turn.slot));
    sync_warp();
    if (me.lane < GIVEN_BACK) barrier_arrive(empty_barrier(me.turn.slot));
    me.turn.advance(N_WARPS);
}

// Multiplies this thread block's tiles with x; write(entry, i, matrix, tile) is called by all
// consumers, for groups of up to GROUP tiles, with i = 0..15 the row of a tile. Who multiplies the
// next group writes to other sums, and waits for all before those of this one are overwritten.
template <class Planes, class Write>
DEVICE void multiply_matrices(Consumer& me, const Matrix* matrices, int count, const Planes& x,
                              int rows_to_write, Write write) {
    Entry* entries = (Entry*)(shared_memory() + Layout::entries);
    int n_waiting = 0;
    auto flush = [&]() {
        sync_group(ALL_CONSUMERS, CONSUMERS);
        for (int i = me.warp * 32 + me.lane; i < n_waiting * rows_to_write; i += CONSUMERS) {
            const int entry = me.first + i / rows_to_write;
            write(entry, i % rows_to_write, entries[entry].matrix, entries[entry].tile);
        }
        me.first ^= GROUP, n_waiting = 0;
    };
    u32 tile = blockIdx.x;
    for (int i = 0; i < count; i++) {
        const Matrix m = matrices[i];
        const u32 width = columns_of(m.type), padded = padded_columns(m);
        const u32 n_packets = (padded + width - 1) / width;
        for (; tile < m.n_tiles; tile += gridDim.x) {
            float sums[2] = {0, 0};
            for (; me.next < n_packets; me.next += N_WARPS) {
                const u32 first = me.next * width, left = padded - first;
                const u32 n = left < width ? left : width;
                take_packet(me, [&](const u8* packet) {
                    multiply_packet(m.type, packet, x, first, n, me.lane, sums);
                });
            }
            me.next -= n_packets;
            const int entry = me.first + n_waiting++;
            for (int r = 0; r < 2; r++) {
                sums[r] += shuffle_xor(sums[r], 1);
                sums[r] += shuffle_xor(sums[r], 2);
                if (me.lane % 4 == 0) sums_of(entry, me.warp)[r * 8 + me.lane / 4] = sums[r];
            }
            if (me.warp == 0 && me.lane == 0) entries[entry] = {i, (int)tile};
            if (n_waiting == GROUP) flush();
        }
        tile -= m.n_tiles;
    }
    if (n_waiting) flush();
}
