"""The records of a trace, by hand: replays of each kind of step, and places in the text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.tokenizer.merges import merge_symbols
from workbench.tokenizer.trace_merges import watch_merges
from workbench.tokenizer.trace_places import FragmentPlaces, TextPlaces
from workbench.tokenizer.trace_steps import (
    Edge,
    EncoderTrace,
    LatticeStep,
    Lookup,
    MergeStep,
    PrefixStep,
    Span,
    WordTrace,
)

UNHURRIED = settings(deadline=None)  # machines under load are slow, not wrong
PAIRS = st.tuples(st.text("abc", min_size=1, max_size=3), st.text("abc", min_size=1, max_size=3))


@UNHURRIED
@given(st.dictionaries(PAIRS, st.integers(0, 6)), st.text("abc", max_size=60))
def test_watched_merges_end_as_the_fast_ones(ranks, text):
    fast = merge_symbols(list(text), {" ".join(pair): rank for pair, rank in ranks.items()}, " ")
    steps = watch_merges(tuple(text), lambda left, right: ranks.get((left, right)))
    word = WordTrace(text, 0, len(text), tuple(text), steps, ())
    assert [text[start:end] for start, end in word.runs()] == fast


@UNHURRIED
@given(st.dictionaries(st.text("abc", min_size=2, max_size=4), st.integers(0, 6)), st.text("abc"))
def test_losers_are_all_other_pairs_alive_best_first(ranks, text):
    symbols = list(text)
    steps = watch_merges(tuple(text), lambda left, right: ranks.get(left + right))
    starts = list(range(len(symbols)))
    for step in steps:
        alive = [
            (ranks[left + right], start)
            for left, right, start in zip(symbols, symbols[1:], starts, strict=False)
            if left + right in ranks
        ]
        best, *others = sorted(alive)
        assert best == (step.rank, step.start)
        assert [(lost.rank, lost.start) for lost in step.losers] == others[:16]
        assert step.n_losers == len(others)
        at = starts.index(step.start)
        symbols[at : at + 2] = [step.result]
        del starts[at + 1]


def word(symbols, steps, lookups, **more):
    return WordTrace(
        "".join(symbols), 0, len(symbols), tuple(symbols), tuple(steps), lookups, **more
    )


def test_greedy_prefixes_replay():
    steps = [PrefixStep(0, 2, "ab", 7, ("a",), 1), PrefixStep(2, 3, "##c", 8)]
    lookups = (Lookup("ab", 0, 2, (7,)), Lookup("##c", 2, 3, (8,)))
    assert word("abc", steps, lookups).replay() == [7, 8]


def test_a_word_given_up_is_one_unknown_token():
    steps = [PrefixStep(0, 2, "ab", 7), PrefixStep(2, 2, None, None)]
    assert word("abc", steps, (Lookup("abc", 0, 3, (0,), "unknown"),)).replay() == [0]


def edge(start, end, token_id, score=-1.0):
    return Edge(start, end, "abc"[start:end], token_id, score, score)


def test_a_lattice_from_the_start_replays_from_its_end():
    best = [edge(0, 1, 5), edge(0, 2, 6), edge(2, 3, 7)]
    steps = [LatticeStep(e.end, e, (edge(1, 2, 9),) if e.end == 2 else ()) for e in best]
    lookups = (Lookup("ab", 0, 2, (6,)), Lookup("c", 2, 3, (7,)))
    assert word("abc", steps, lookups).replay() == [6, 7]
    assert word("abc", steps, lookups).runs(1) == [(0, 1), (1, 2), (2, 3)]


def test_a_lattice_from_the_end_replays_from_its_start():
    steps = [LatticeStep(e.start, e) for e in (edge(2, 3, 7), edge(1, 3, 8), edge(0, 1, 5))]
    lookups = (Lookup("a", 0, 1, (5,)), Lookup("bc", 1, 3, (8,)))
    assert word("abc", steps, lookups).replay() == [5, 8]


def test_neighbouring_unknown_runs_become_one_token():
    steps = [LatticeStep(e.end, e) for e in (edge(0, 1, 0), edge(1, 2, 0), edge(2, 3, 7))]
    lookups = (Lookup("ab", 0, 2, (0,), "unknown"), Lookup("c", 2, 3, (7,)))
    assert word("abc", steps, lookups).replay() == [0, 7]


@pytest.mark.parametrize(
    "lookups",
    [
        (Lookup("ab", 0, 2, (1,)), Lookup("c", 2, 3, (2,))),  # no merge made ab
        (Lookup("a", 0, 1, (1,)), Lookup("b", 1, 2, (2,))),  # c is missing
        (Lookup("a", 0, 1, (1,)), Lookup("c", 2, 3, (2,)), Lookup("b", 1, 2, (2,))),
    ],
)
def test_lookups_that_the_steps_do_not_lead_to_are_caught(lookups):
    with pytest.raises(AssertionError):
        word("abc", (), lookups).replay()


def test_merges_of_symbols_that_are_not_there_are_caught():
    step = MergeStep("b", "c", 0, 1, 2, 0, None, (), 0)
    with pytest.raises(AssertionError):
        word("abc", [step], ()).runs()


def places(text, prefix, normalised, origin, start=0):
    origin = None if origin is None else np.array(origin, np.int32)
    made = EncoderTrace(prefix + text[start:], normalised, origin, ())
    return FragmentPlaces(TextPlaces(text), start, prefix, made)


def test_an_expanded_character_gives_each_part_the_whole():
    at = places("xﬁé", "", "xfie\u0301", [(0, 1), (1, 2), (1, 2), (2, 3), (2, 3)])
    assert at.characters(1, 2) == at.characters(2, 3) == Span(1, 2, 1, 4)
    assert at.characters(0, 5) == Span(0, 3, 0, 6)
    assert at.characters(3, 4) == Span(2, 3, 4, 6)


def test_removed_and_added_characters():
    at = places("ab  cd", " ", "▁ab▁cd", [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6), (6, 7)])
    assert at.characters(0, 1) == Span(0, 0, 0, 0)
    assert at.characters(0, 3) == Span(0, 2, 0, 2)
    assert at.characters(3, 6) == Span(2, 6, 2, 6)


def test_bytes_of_unchanged_characters_are_exact_and_of_changed_ones_whole():
    at = places("é É", "", "é▁é", [(0, 1), (1, 2), (2, 3)])
    symbols = tuple(map(chr, "é▁é".encode()))
    lookups = tuple(Lookup(symbols[i], i, i + 1, (i,)) for i in range(7))
    spans = at.token_spans(WordTrace("é▁é", 0, 3, symbols, (), lookups, "byte"))
    assert [(span.byte_start, span.byte_end) for span in spans] == [
        (0, 1), (1, 2), (2, 3), (2, 3), (2, 3), (3, 5), (3, 5)
    ]  # fmt: skip


def test_a_fragment_starts_where_the_special_token_before_it_ends():
    at = places("é<s>漢", "", "漢", None, start=4)
    lookups = (Lookup("漢", 0, 1, (1, 2, 3), "bytes"),)
    spans = at.token_spans(WordTrace("漢", 0, 1, ("漢",), (), lookups))
    assert spans == [Span(4, 5, 5, 6), Span(4, 5, 6, 7), Span(4, 5, 7, 8)]
