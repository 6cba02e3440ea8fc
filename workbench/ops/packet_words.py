"""Codes of a few bits as the 32-bit words that a lane of a warp turns into tensor-core operands.

A *fragment* is four codes, one a byte. Of 64 columns and 16 rows each lane has 8 fragments; here
they are packed, losslessly, into as few words as their bits need. Each function takes and returns
uint8 arrays (..., fragments, 4) and (..., words, 4), byte i of a word for byte i of a fragment:

    bytes      8 bits   word k = fragment k
    nibbles    4 bits   low nibbles = fragment a, high nibbles = fragment b of a pair (a, b)
    compact    4 bits   nibbles 0..3 = the codes of fragment a, nibbles 4..7 = those of b
    triples    6 bits   3 words of 4 fragments: the fourth lies in the 2 bits that the others leave
    fives      5 bits   5 words of 8 fragments: three lie in the 3 bits that the others leave
    threes     3 bits   3 words of 8 fragments: 2 a word, two in the 2 bits that those leave
    pairs      2 bits   2 words (row g, row g + 8) of 8 fragments: 4 of a row

    a byte of word k      7 6 5 4 3 2 1 0
    of triples, signed    k k k k k k 3 3     of words 0, 1, 2: bits 5,4  3,2  1,0 of fragment 3
    of triples, unsigned  3 3 k k k k k k
    of fives              k k k k k p p p     pieces p of words 0..4 (5.4: bit 4 of fragment 5):
                                              5.4 5.3 5.2 | 7.1 5.1 5.0 | 6.4 6.3 6.2 | 7.0 6.1 6.0
                                              | 7.4 7.3 7.2
    of threes             a a a b b b p p     a, b = fragments 2k, 2k + 1; pieces of words 0, 1, 2:
                                              6.2 6.1 | 7.0 6.0 | 7.2 7.1
    of pairs, row r       d d c c b b a a     a, b, c, d = fragments r, 4 + r, 2 + r, 6 + r

Codes stand at the top of their bytes, so that these are signed (or unsigned) numbers 4, 8 or 32
times too large; only unsigned triples, which hold scales, stand at the bottom.
Source: our own. Left out: which code goes into which fragment, which is `packets`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["PACKINGS", "Packing", "join_triples", "split_triples"]

Array = np.ndarray


def rotate_right(words: Array, bits: int) -> Array:
    """Each byte with its `bits` lowest bits moved to its top."""
    return words >> bits | words << (8 - bits)


def fragment(array: Array, k: int) -> Array:
    """(..., n, 4) -> (..., 4)"""
    return array[..., k, :]


def same(fragments: Array) -> Array:
    """8-bit codes: nothing to pack."""
    return fragments


def join_nibbles(fragments: Array) -> Array:
    """(..., 8, 4): fragments 4b + r and 4b + 2 + r -> word 2b + r."""
    pairs = fragments.reshape(*fragments.shape[:-2], 2, 2, 2, 4)  # b, half, r, byte
    words = pairs[..., 0, :, :] | pairs[..., 1, :, :] << 4
    return words.reshape(*fragments.shape[:-2], 4, 4)


def split_nibbles(words: Array) -> Array:
    """Undoes `join_nibbles`."""
    halves = words.reshape(*words.shape[:-2], 2, 1, 2, 4)
    both = np.concatenate([halves & 15, halves >> 4], axis=-3)
    return both.reshape(*words.shape[:-2], 8, 4)


def join_compact(fragments: Array) -> Array:
    """The pairs of `join_nibbles`, the four codes of a fragment side by side."""
    pairs = fragments.reshape(
        *fragments.shape[:-2], 2, 2, 2, 2, 2
    )  # b, half, r, byte / 2, byte % 2
    halves = pairs[..., 0] | pairs[..., 1] << 4  # (..., b, half, r, 2)
    return np.swapaxes(halves, -3, -2).reshape(*fragments.shape[:-2], 4, 4)


def split_compact(words: Array) -> Array:
    """Undoes `join_compact`."""
    halves = np.swapaxes(words.reshape(*words.shape[:-2], 2, 2, 2, 2), -3, -2)
    return np.stack([halves & 15, halves >> 4], axis=-1).reshape(*words.shape[:-2], 8, 4)


def join_triples(fragments: Array, signed: bool) -> Array:
    """(..., 4 n, 4) -> (..., 3 n, 4)"""
    four = fragments.reshape(*fragments.shape[:-2], -1, 4, 4)
    last = four[..., 3:, :]
    pieces = np.concatenate([last >> 4, last >> 2 & 3, last & 3], axis=-2)
    words = four[..., :3, :] << 2 | pieces
    words = words if signed else rotate_right(words, 2)
    return words.reshape(*fragments.shape[:-2], -1, 4)


def split_triples(words: Array, signed: bool) -> Array:
    """Undoes `join_triples`."""
    words = words if signed else rotate_right(words, 6)
    three = words.reshape(*words.shape[:-2], -1, 3, 4)
    pieces = three & 3
    last = fragment(pieces, 0) << 4 | fragment(pieces, 1) << 2 | fragment(pieces, 2)
    four = np.concatenate([three >> 2, last[..., None, :]], axis=-2)
    return four.reshape(*words.shape[:-2], -1, 4)


def join_fives(fragments: Array) -> Array:
    """(..., 8, 4) -> (..., 5, 4)"""
    five, six, seven = (fragment(fragments, k) for k in (5, 6, 7))
    pieces = [
        five >> 2,
        (five & 3) | (seven >> 1 & 1) << 2,
        six >> 2,
        (six & 3) | (seven & 1) << 2,
        seven >> 2,
    ]
    return fragments[..., :5, :] << 3 | np.stack(pieces, axis=-2)


def split_fives(words: Array) -> Array:
    """Undoes `join_fives`."""
    p = [fragment(words & 7, k) for k in range(5)]
    five = p[0] << 2 | p[1] & 3
    six = p[2] << 2 | p[3] & 3
    seven = p[4] << 2 | p[1] >> 2 << 1 | p[3] >> 2
    return np.concatenate([words >> 3, np.stack([five, six, seven], axis=-2)], axis=-2)


def join_threes(fragments: Array) -> Array:
    """(..., 8, 4) -> (..., 3, 4)"""
    own = fragments[..., 0:6:2, :] << 5 | fragments[..., 1:6:2, :] << 2
    six, seven = fragment(fragments, 6), fragment(fragments, 7)
    pieces = [six >> 1, six & 1 | (seven & 1) << 1, seven >> 1]
    return own | np.stack(pieces, axis=-2)


def split_threes(words: Array) -> Array:
    """Undoes `join_threes`."""
    own = np.stack([words >> 5, words >> 2 & 7], axis=-2).reshape(*words.shape[:-2], 6, 4)
    p = [fragment(words & 3, k) for k in range(3)]
    six, seven = p[0] << 1 | p[1] & 1, p[2] << 1 | p[1] >> 1
    return np.concatenate([own, np.stack([six, seven], axis=-2)], axis=-2)


def join_pairs(fragments: Array) -> Array:
    """(..., 8, 4) -> (..., 2, 4)"""
    four = fragments.reshape(*fragments.shape[:-2], 2, 2, 2, 4)  # m, side, r, byte
    low = four[..., 0, 0, :, :] | four[..., 1, 0, :, :] << 2
    return low | four[..., 0, 1, :, :] << 4 | four[..., 1, 1, :, :] << 6


def split_pairs(words: Array) -> Array:
    """Undoes `join_pairs`."""
    fields = [words >> shift & 3 for shift in (0, 4, 2, 6)]  # m, side = 00 01 10 11
    return np.stack(fields, axis=-3).reshape(*words.shape[:-2], 8, 4)


@dataclass(frozen=True)
class Packing:
    """join: fragments (..., 8, 4) -> words (..., `words`, 4); split undoes it."""

    words: int
    join: Callable[[Array], Array]
    split: Callable[[Array], Array]


PACKINGS = {
    "bytes": Packing(8, same, same),
    "nibbles": Packing(4, join_nibbles, split_nibbles),
    "compact": Packing(4, join_compact, split_compact),
    "triples": Packing(6, lambda x: join_triples(x, True), lambda x: split_triples(x, True)),
    "fives": Packing(5, join_fives, split_fives),
    "threes": Packing(3, join_threes, split_threes),
    "pairs": Packing(2, join_pairs, split_pairs),
}
