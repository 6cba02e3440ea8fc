// Blocks as the file has them <-> packets as the decode kernel streams them: bits moved, none lost.
//
//     16 rows of a tile, columns of one packet            the packet
//     row 0   |block|block|...|   in shared memory        |word|word|word|.............|
//     row 1   |block|block|...|        ^--- word = moves: rotate a word of the rows, keep a mask
//     ...
//
// out[w] = flips[w] ^ OR over its moves of (rotate(in[from], turn) & mask), where the moves of all
// words are a table that follows from the NumPy twin's layout. One table serves all packets of the
// same number of columns; the same loop with the inverse table goes back. A warp makes 32 words at
// a time, its lanes' moves side by side in the table.
// Grid: a thread block of THREADS threads for each packet position and TILES tiles one below the
// other, packet positions first.
// Shapes: upper, lower: rows of blocks; packets: (tiles, tile_bytes).
// Shared memory: TILES times the rows (of row_words words each), and for `unpack` the packets too.
// Why it is fast: global memory is read and written in whole sectors, the scattered reads happen in
// shared memory, and each entry of the table is read once for TILES tiles.
// NumPy twin: workbench.ops.bit_moves.apply_moves under workbench.ops.packets.pack.
// Measured (NVIDIA H200, 4096 x 14336, TB/s read + written, pack and unpack) while the moves of a
// word, not of a warp, lay side by side in the table: F16 2.9 and 2.4, Q8_0 2.8 and 2.2, Q4_0 2.4
// and 2.0, Q4_K 2.3 and 1.4, Q6_K 1.8 and 1.1, Q5_0 1.1 and 0.3 (most moves). Not measured since.

constexpr int ROWS = 16;  // of a tile

// How 32 words come about, by a warp: rows first .. first + rows - 1 of moves, one a lane.
struct alignas(8) Group {
    u32 first, rows;
};

struct alignas(8) Move {
    u32 from, mask;  // from = 32 * word + bits to rotate right
};

struct alignas(8) Word {
    u32 at, flips;  // at: word of the output, or NOWHERE
};

constexpr u32 NOWHERE = 0xFFFFFFFF;

struct Table {
    const Group* groups;
    const Move* moves;
    const Word* words;
    u64 n_groups;
};

// The part of a matrix that a launch moves: `packets` packets of each of `tiles` tiles.
struct Part {
    u64 row_bytes;     // from a row to the next
    u64 tile_bytes;    // of the packets of a tile
    u32 rows;          // of the matrix; those that a tile lacks are zeros
    u32 tile_rows;     // 16, or 8 of each of two joined matrices
    u32 tiles, packets;
    u32 segment;       // bytes of a row in a packet
    u32 packet_bytes;
    u32 row_words;     // from a row to the next in shared memory, a multiple of 4
    u32 unused;
};

// The number of WIDTH bytes.
template <int WIDTH> struct Wide;
template <> struct Wide<1> { using Number = u8; };
template <> struct Wide<2> { using Number = u16; };
template <> struct Wide<4> { using Number = u32; };
template <> struct Wide<8> { using Number = uint2; };
template <> struct Wide<16> { using Number = uint4; };

// WIDTH bytes between addresses that are multiples of WIDTH; zeros where they are not `there`.
template <int WIDTH>
DEVICE void copy(u8* to, const u8* from, bool there) {
    using Number = typename Wide<WIDTH>::Number;
    *(Number*)to = there ? *(const Number*)from : Number{};
}

DEVICE u32 rotate(u32 word, u32 turn) { return word >> (turn & 31) | word << (-turn & 31); }

// Calls act(place in shared memory, address in global memory, is it there) for the rows of TILES
// tiles, WIDTH bytes at a time; `lead` bytes before a row's segment are part of it.
template <int WIDTH, class Act>
DEVICE void for_rows(const Part& part, u64 upper, u64 lower, u32 packet, u32 tile, u32 lead,
                     Act act) {
    const u32 pieces = (lead + part.segment + WIDTH - 1) / WIDTH;
    for (u32 i = threadIdx.x; i < TILES * ROWS * pieces; i += THREADS) {
        const u32 line = i / pieces, at = i % pieces * WIDTH, half = line % ROWS / 8;
        const u32 row = (tile + line / ROWS) * part.tile_rows + line % 8;
        const bool is_there = row + (part.tile_rows == ROWS ? half * 8 : 0) < part.rows;
        const u64 start = (half ? lower : upper) + row * part.row_bytes - lead;
        u8* const address = (u8*)(start + (u64)packet * part.segment + at);
        act(line * part.row_words * 4 + at, address, is_there);
    }
}

// Words of the output for all TILES tiles: put(tile, word, value).
template <class Put>
DEVICE void move_bits(const Table& table, const u32* in, u32 in_words, Put put) {
    const u32 lane = threadIdx.x % 32;
    for (u32 g = threadIdx.x / 32; g < table.n_groups; g += THREADS / 32) {
        const Group group = table.groups[g];
        const Word word = table.words[g * 32 + lane];
        const Move* own = table.moves + group.first * 32 + lane;
        u32 made[TILES] = {};
#pragma unroll 4
        for (u32 row = 0; row < group.rows; row++) {
            const Move move = own[row * 32];
#pragma unroll
            for (u32 tile = 0; tile < TILES; tile++)
                made[tile] |= rotate(in[tile * in_words + (move.from >> 5)], move.from) & move.mask;
        }
        if (word.at == NOWHERE) continue;
#pragma unroll
        for (u32 tile = 0; tile < TILES; tile++) put(tile, word.at, made[tile] ^ word.flips);
    }
}

template <int WIDTH>
DEVICE void pack(const Part& part, u64 upper, u64 lower, u8* packets, const Table& table) {
    u8* shared = shared_memory();
    const u32 packet = blockIdx.x % part.packets, tile = blockIdx.x / part.packets * TILES;
    const u32 lead = (upper + (u64)packet * part.segment) % WIDTH;
    for_rows<WIDTH>(part, upper, lower, packet, tile, lead, [&](u32 at, u8* from, bool there) {
        if constexpr (WIDTH == 16) copy_async16(shared + at, there ? from : packets, there);
        else copy<WIDTH>(shared + at, from, there);
    });
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    u8* out = packets + tile * part.tile_bytes + (u64)packet * part.packet_bytes;
    move_bits(table, (const u32*)(shared + lead), ROWS * part.row_words,
              [&](u32 i, u32 word, u32 value) {
                  if (tile + i < part.tiles) *(u32*)(out + i * part.tile_bytes + word * 4) = value;
              });
}

template <int WIDTH>
DEVICE void unpack(const Part& part, u64 upper, u64 lower, const u8* packets, const Table& table) {
    u8* shared = shared_memory();
    u32* rows = (u32*)(shared + TILES * part.packet_bytes);
    const u32 packet = blockIdx.x % part.packets, tile = blockIdx.x / part.packets * TILES;
    const u8* in = packets + tile * part.tile_bytes + (u64)packet * part.packet_bytes;
    const u32 pieces = part.packet_bytes / 16, row_words = ROWS * part.row_words;
    for (u32 i = threadIdx.x; i < TILES * pieces; i += THREADS)
        if (tile + i / pieces < part.tiles)
            copy_async16(shared + i * 16, in + i / pieces * part.tile_bytes + i % pieces * 16);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    move_bits(table, (const u32*)shared, part.packet_bytes / 4,
              [&](u32 i, u32 word, u32 value) { rows[i * row_words + word] = value; });
    __syncthreads();
    for_rows<WIDTH>(part, upper, lower, packet, tile, 0, [&](u32 at, u8* to, bool there) {
        if (there) copy<WIDTH>(to, (u8*)rows + at, true);
    });
}

#define ENTRIES(WIDTH)                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS) pack_##WIDTH(                          \
        u64 upper, u64 lower, u8* packets, const Group* groups, const Move* moves,               \
        const Word* words, u64 n_groups, Part part) {                                            \
        pack<WIDTH>(part, upper, lower, packets, {groups, moves, words, n_groups});              \
    }                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS) unpack_##WIDTH(                        \
        u64 upper, u64 lower, u8* packets, const Group* groups, const Move* moves,               \
        const Word* words, u64 n_groups, Part part) {                                            \
        unpack<WIDTH>(part, upper, lower, packets, {groups, moves, words, n_groups});            \
    }
ENTRIES(1)
ENTRIES(2)
ENTRIES(4)
ENTRIES(8)
ENTRIES(16)
