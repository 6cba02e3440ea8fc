"""Which tokens an encoder can ever give: what merges can build, and what they do build.

    merges  a b, ab c           buildable  a b c ab abc         (whatever the order)
    merges  b c, a b, ab c      abc alone: b+c first, then a·bc  so abc is never left at the end

A token that is the result somewhere in a text is also the result of its own characters alone: no
merge crossed its ends, so the merges inside ran as if nothing were around. That makes one run of
the merge loop for each token a proof. Left out: regexes and normalisation (try `encode_plain`).

Source: our own; the loop is merges.py.
"""

from collections.abc import Iterable

import numpy as np

from .bpe import BytePairEncoder
from .merges import merge_symbols
from .spm import SpmEncoder
from .tokenizer import Tokenizer

__all__ = ["buildable_tokens", "encode_plain", "merged_tokens", "token_id_of"]


def encode_plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text without looking for special tokens, and without anything in front."""
    return tokenizer._encoder.encode(text)


def token_id_of(tokenizer: Tokenizer, text: str) -> int | None:
    """The id of a token by its text in the vocabulary, None if there is none."""
    return tokenizer._vocab.ids.get(text)


def merged_tokens(tokenizer: Tokenizer, ids: Iterable[int]) -> dict[int, bool] | None:
    """Whether the merges, run on a token's own characters, leave just this token.

    Words that stay whole without merges (`ignore_merges`) count too.
    Returns: token id -> bool; None for encoders that do not merge.
    """
    encoder, texts = tokenizer._encoder, tokenizer._vocab.tokens
    if isinstance(encoder, BytePairEncoder):
        ranks, separator = encoder._merges, " "
    elif isinstance(encoder, SpmEncoder):
        ranks, separator = encoder._ranks, ""
    else:
        return None
    whole = getattr(encoder, "is_whole", lambda text: False)
    named = ((i, texts[i]) for i in ids)
    return {
        i: len(text) == 1 or whole(text) or merge_symbols(list(text), ranks, separator) == [text]
        for i, text in named
    }


def buildable_tokens(tokenizer: Tokenizer) -> np.ndarray | None:
    """Whether some sequence of merges, in any order, leads from single characters to a token.

    Returns: (n_vocab,) bool; None for encoders that do not merge.
    """
    encoder, texts = tokenizer._encoder, tokenizer._vocab.tokens
    built = {text for text in texts if len(text) == 1}
    if isinstance(encoder, BytePairEncoder):
        _build_by_merges(encoder._merges, built)
    elif isinstance(encoder, SpmEncoder):
        for text in sorted(texts, key=len):  # any pair whose text is a token may merge
            if any(text[:i] in built and text[i:] in built for i in range(1, len(text))):
                built.add(text)
    else:
        return None
    return np.fromiter((text in built for text in texts), bool, len(texts))


def _build_by_merges(merges: dict[str, int], built: set[str]) -> None:
    symbols = (part for line in merges for part in line.split(" "))
    built |= {part for part in symbols if len(part) == 1}  # characters need not be tokens
    waiting = list(merges)
    while True:  # each turn builds on the last; sorted merges need one turn and a half
        left = []
        for line in waiting:
            first, _, second = line.partition(" ")
            if first in built and second in built:
                built.add(first + second)
            else:
                left.append(line)
        if len(left) == len(waiting):
            return
        waiting = left
