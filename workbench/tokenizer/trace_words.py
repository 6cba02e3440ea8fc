"""Traces of the two encoders that merge: byte-pair encoding and SentencePiece.

    BPE   text --escape--> text --regexes--> words --> symbols --merges by rank--> lookups
    SPM   text --escape--> ▁text --cut where no token crosses--> symbols --by score--> lookups

Escaping, splitting, ranks and lookups are the encoders' own; the merges run in trace_merges.py. A
word that comes again has the steps of its first time.

Source: `llm_tokenizer_bpe_session`, `llm_tokenizer_spm_session` in llama.cpp src/llama-vocab.cpp.
"""

from dataclasses import replace
from functools import cache

from .bpe import BytePairEncoder
from .pretokenize import _compile
from .spm import SPACE, SpmEncoder
from .trace_merges import watch_merges
from .trace_steps import Cut, EncoderTrace, Lookup, WordTrace
from .vocab import Vocabulary

__all__ = ["regex_cuts", "trace_bpe", "trace_spm"]


def regex_cuts(text: str, regexes: tuple[str, ...], name: str) -> list[tuple[int, int, Cut | None]]:
    """Cut a text as `split_words` does, and say for each word which regex cut it out.

    A word belongs to the first regex that matched just this word, else to the last one that made
    one of its ends. Returns: (start, end, cut) in characters; without regexes cut is None.
    """
    untouched = Cut(name, 0, regexes[0], False) if regexes else None
    words = [(0, len(text), untouched)] if text else []
    for index, regex in enumerate(regexes):
        splitter, form_of = _compile(regex)
        form, found = form_of(text), []
        for start, end, cut in words:
            at = start
            for number, part in enumerate(splitter.split(form[start:end])):
                until, matched = at + len(part), number % 2 == 1
                whole = (at, until) == (start, end)
                if part:
                    keep = whole and (cut.matched or not matched)
                    found.append((at, until, cut if keep else Cut(name, index, regex, matched)))
                at = until
        words = found
    return words


def trace_bpe(encoder: BytePairEncoder, text: str, name: str) -> EncoderTrace:
    """Watch a BytePairEncoder encode a text; name: of its pre-tokenizer."""
    merges, ids, pre = encoder._merges, encoder._ids, encoder._pre
    unit = "byte" if pre.byte_level else "character"

    @cache
    def work(word: str) -> WordTrace:
        whole = encoder.symbols(word)
        traced = WordTrace(word, 0, len(word), tuple(whole), (), (), unit)
        if encoder.is_whole(whole):
            lookup = Lookup(whole, 0, len(whole), (ids[whole],), "whole word")
            return replace(traced, lookups=(lookup,))
        steps = watch_merges(whole, lambda left, right: merges.get(f"{left} {right}"))
        return _looked_up(replace(traced, steps=steps), encoder)

    escaped, words, at = encoder.escape(text), [], 0
    cuts = iter(regex_cuts(escaped, pre.regexes, name))
    until, cut = 0, None
    for word in encoder.split(escaped):
        while until < at + len(word):  # a word of the regexes may be cut again
            _, until, cut = next(cuts)
        words.append(replace(work(word), start=at, end=at + len(word), cut=cut))
        at += len(word)
    return EncoderTrace(text, escaped, None, tuple(words))


def trace_spm(encoder: SpmEncoder, text: str, vocab: Vocabulary) -> EncoderTrace:
    """Watch an SpmEncoder encode a text; vocab: whose scores the steps show."""
    ranks = encoder._ranks

    def score_of(text: str) -> float:
        return float(vocab.scores[vocab.ids[text]])

    @cache
    def work(word: str) -> WordTrace:
        steps = watch_merges(tuple(word), lambda left, right: ranks.get(left + right), score_of)
        return _looked_up(WordTrace(word, 0, len(word), tuple(word), steps, ()), encoder)

    normalised, words, at = text.replace(" ", SPACE), [], 0
    for word in encoder._split(normalised):
        words.append(replace(work(word), start=at, end=at + len(word)))
        at += len(word)
    return EncoderTrace(text, normalised, None, tuple(words))


def _looked_up(word: WordTrace, encoder: BytePairEncoder | SpmEncoder) -> WordTrace:
    lookups = []
    for start, end in word.runs():
        symbol = "".join(word.symbols[start:end])
        found = tuple(_symbol_ids(encoder, symbol))
        how = "token" if symbol in encoder._ids else "bytes" if found else "dropped"
        lookups.append(Lookup(symbol, start, end, found, how))
    return replace(word, lookups=tuple(lookups))


def _symbol_ids(encoder: BytePairEncoder | SpmEncoder, symbol: str) -> list[int]:
    if symbol in encoder._ids:
        return [encoder._ids[symbol]]
    if isinstance(encoder, SpmEncoder):
        return [encoder._byte_id(byte, symbol) for byte in symbol.encode()]
    return encoder.spell(symbol)
