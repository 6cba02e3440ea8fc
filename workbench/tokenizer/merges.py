"""The merge loop that SPM and byte-pair encoding share: the best adjacent pair first.

    h·e·l·l·o    he:3  el:-  ll:1  lo:2     best rank 1: merge l+l
    h·e·ll·o     he:3  ell:- llo:0          best rank 0: merge ll+o
    h·e·llo      he:3  ello:-               best rank 3: merge h+e
    he·llo       hello:-                    done

An entry is the number `rank << 32 | left`, so that equal ranks go from left to right. The pairs of
the start are sorted once; pairs that arise later wait in a heap (for long words that is much faster
than one heap of all). Nothing is removed when a neighbour changes: an entry is alive while the
pair now at `left` still has its rank. n symbols cost O(n log n), whatever the text.

Source: `llm_tokenizer_spm_session` and `llm_tokenizer_bpe_session` in llama.cpp
src/llama-vocab.cpp.
"""

import itertools
from collections.abc import Mapping
from heapq import heappop, heappush

__all__ = ["merge_symbols"]

NO_RANK = -1
LEFT_MASK = (1 << 32) - 1


def merge_symbols(symbols: list[str], ranks: Mapping[str, int], separator: str) -> list[str]:
    """Merge adjacent symbols until no pair has a rank.

    symbols: the characters of one word; ranks: `left + separator + right` -> rank >= 0, the
    smallest merged first; separator: "" where the rank belongs to the merged text (SPM), or a
    character that no symbol contains where it belongs to the pair (byte-pair encoding).
    Returns: the symbols that are left, in order; joined they are the word.
    """
    symbols, n = list(symbols), len(symbols)
    join, rank_of = separator.join, ranks.get
    pair_rank = [rank_of(join(pair), NO_RANK) for pair in itertools.pairwise(symbols)]
    pair_rank.append(NO_RANK)
    first = [rank << 32 | left for left, rank in enumerate(pair_rank) if rank >= 0]
    first.sort(reverse=True)
    later: list[int] = []
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))  # neighbours still alive
    while first or later:
        from_first = first and (not later or first[-1] < later[0])
        entry = first.pop() if from_first else heappop(later)
        left = entry & LEFT_MASK
        if pair_rank[left] != entry >> 32:
            continue  # that pair is gone
        right = after[left]
        merged = symbols[left] = symbols[left] + symbols[right]
        symbols[right], pair_rank[right], pair_rank[left] = "", NO_RANK, NO_RANK
        far = after[left] = after[right]
        if far < n:
            before[far] = left
            rank = pair_rank[left] = rank_of(merged + separator + symbols[far], NO_RANK)
            if rank >= 0:
                heappush(later, rank << 32 | left)
        near = before[left]
        if near >= 0:
            rank = pair_rank[near] = rank_of(symbols[near] + separator + merged, NO_RANK)
            if rank >= 0:
                heappush(later, rank << 32 | near)
    return [symbol for symbol in symbols if symbol]
