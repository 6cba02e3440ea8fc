"""A rearrangement of bits, found by asking the function that does it, as words that a GPU can move.

    out word    31 ........ 16 15 ......... 0
                 |  move 1   | |  move 0   |       move: rotate a word of the input, keep a mask
    in words     word 7 >> 4    word 3 >> 20

So a lossless layout is written once, in NumPy; what moves its bits on a GPU follows from it, in
both directions, and cannot disagree with it.
Source: our own.
Left out: rearrangements of more than 2**32 bits, and functions that compute (they are refused).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = [
    "NOWHERE",
    "BitMoves",
    "BitSources",
    "apply_moves",
    "find_sources",
    "inverse",
    "to_moves",
]

CONSTANT = -1
LANES = 32  # of a warp
NOWHERE = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class BitSources:
    """Where every bit of an output comes from.

    bits: (8 * bytes of the output,) int64: number of the input's bit, or CONSTANT
    flips: (bytes of the output,) uint8: what the bits are XORed with; those of CONSTANT are it
    n_bytes: of the input
    """

    bits: np.ndarray
    flips: np.ndarray
    n_bytes: int


@dataclass(frozen=True, eq=False)
class BitMoves:
    """What makes each 32-bit word of an output, little-endian, in the form that a kernel reads.

    Words are made 32 at a time, by a warp, each lane with as many moves as the one with most:

    groups: (n_groups, 2) uint32: first row of moves, number of rows
    moves: (n_rows, 32, 2) uint32: 32 * word of the input + bits to rotate it right, mask
    words: (n_groups, 32, 2) uint32: word of the output, or NOWHERE, and what it is XORed with
    """

    groups: np.ndarray
    moves: np.ndarray
    words: np.ndarray


def find_sources(shuffle: Callable[[np.ndarray], np.ndarray], n_bytes: int) -> BitSources:
    """Asks `shuffle`, (n_bytes,) uint8 -> (any,) uint8, where it puts each bit.

    Bit i is told apart by the digits of i + 1: question k gives every bit digit k of its number.
    """
    numbers = np.arange(1, 8 * n_bytes + 1)
    flips = shuffle(np.zeros(n_bytes, np.uint8))
    found = np.zeros(8 * flips.size, np.int64)
    for digit in range(int(8 * n_bytes).bit_length()):
        question = np.packbits(numbers >> digit & 1, bitorder="little")
        answer = np.unpackbits(shuffle(question) ^ flips, bitorder="little")
        found |= answer.astype(np.int64) << digit
    sources = BitSources(found - 1, flips, n_bytes)
    test = np.random.default_rng(0).integers(0, 256, n_bytes, np.uint8)
    known = found.max(initial=0) <= 8 * n_bytes
    assert known and (_shuffled(sources, test) == shuffle(test)).all(), "more than moves of bits"
    return sources


def inverse(sources: BitSources) -> BitSources:
    """The way back: input bits that went nowhere are 0."""
    bits = np.full(8 * sources.n_bytes, CONSTANT, np.int64)
    flips = np.zeros(8 * sources.n_bytes, np.uint8)
    moved = np.flatnonzero(sources.bits != CONSTANT)
    bits[sources.bits[moved]] = moved
    flips[sources.bits[moved]] = np.unpackbits(sources.flips, bitorder="little")[moved]
    return BitSources(bits, np.packbits(flips, bitorder="little"), sources.flips.size)


def to_moves(sources: BitSources, sort: bool = False) -> BitMoves:
    """Gathers the bits of an output word that come, equally rotated, from the same input word.

    Both sizes must be multiples of 4 bytes. sort: words with equally many moves together, which
    saves moves; else in the order of the output, which keeps writes side by side.
    """
    to = np.flatnonzero(sources.bits != CONSTANT)
    origin = sources.bits[to]
    # One number a move, in the order of the output's words: word, origin (32 bits), rotation.
    key = (to // 32 << 40) | (origin // 32 << 8) | (origin - to) % 32
    keys, which = np.unique(key, return_inverse=True)
    masks = np.bincount(which, (1 << to % 32).astype(np.float64), len(keys)).astype(np.uint32)
    places = (keys >> 8 & 0xFFFFFFFF) * 32 + (keys & 31)
    n_words = sources.flips.size // 4
    bounds = np.searchsorted(keys >> 40, np.arange(n_words + 1))
    return _grouped(bounds, np.stack([places, masks], axis=1), sources.flips.view("<u4"), sort)


def _grouped(bounds: np.ndarray, moves: np.ndarray, flips: np.ndarray, sort: bool) -> BitMoves:
    """Moves bounds[w] … bounds[w + 1] - 1 of each word w, laid out for warps."""
    counts = np.diff(bounds)
    order = np.argsort(counts, kind="stable") if sort else np.arange(len(counts))
    order = np.append(order, np.full(-len(order) % LANES, -1)).reshape(-1, LANES)
    counts = np.append(counts, 0)  # of word -1, which is none
    rows = counts[order].max(axis=1)
    firsts = np.cumsum(rows) - rows
    table = np.zeros((rows.sum(), LANES, 2), np.uint32)
    for group, lane in np.ndindex(order.shape):
        word, first = order[group, lane], firsts[group]
        own = moves[bounds[word] : bounds[word] + counts[word]]
        table[first : first + len(own), lane] = own
    words = np.stack([np.where(order < 0, NOWHERE, order), np.append(flips, 0)[order]], axis=2)
    return BitMoves(
        np.stack([firsts, rows], axis=1).astype(np.uint32), table, words.astype(np.uint32)
    )


def apply_moves(moves: BitMoves, data: np.ndarray) -> np.ndarray:
    """The twin of the kernel's inner loop: (n_in,) uint32 -> (n_out,) uint32."""
    targets, flips = moves.words[..., 0].reshape(-1), moves.words[..., 1].reshape(-1)
    made = np.zeros_like(flips).reshape(-1, LANES)
    for group, (first, n_rows) in enumerate(moves.groups):
        place, mask = np.moveaxis(moves.moves[first : first + n_rows], -1, 0)
        source, turn = data[place // 32], place % 32
        turned = (source >> turn) | (source << (32 - turn) % 32)
        made[group] = np.bitwise_or.reduce(turned & mask, axis=0, dtype=np.uint32)
    there = targets != NOWHERE
    out = np.zeros(np.count_nonzero(there), np.uint32)
    out[targets[there]] = (made.reshape(-1) ^ flips)[there]
    return out


def _shuffled(sources: BitSources, data: np.ndarray) -> np.ndarray:
    """What the sources make of an input: both (bytes,) uint8."""
    bits = np.append(np.unpackbits(data, bitorder="little"), np.uint8(0))  # CONSTANT: the last
    return np.packbits(bits[sources.bits], bitorder="little") ^ sources.flips
