"""The merge loop, on words small enough to follow by eye, and against the obvious slow loop."""

from hypothesis import given
from hypothesis import strategies as st

from workbench.tokenizer.merges import merge_symbols


def slow_merge(symbols, ranks, separator):
    """Look for the best pair from scratch after every merge."""
    symbols = list(symbols)
    while True:
        pairs = [separator.join(symbols[i : i + 2]) for i in range(len(symbols) - 1)]
        ranked = [(ranks[pair], i) for i, pair in enumerate(pairs) if pair in ranks]
        if not ranked:
            return symbols
        _, i = min(ranked)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


def test_lowest_rank_goes_first():
    assert merge_symbols(list("abc"), {"a b": 1, "b c": 0}, " ") == ["a", "bc"]


def test_equal_ranks_go_from_left_to_right():
    assert merge_symbols(list("aaaaa"), {"a a": 0}, " ") == ["aa", "aa", "a"]
    assert merge_symbols(list("abab"), {"ab": 0, "ba": 0}, "") == ["ab", "ab"]


def test_merged_symbols_merge_again():
    ranks = {"h e": 3, "l l": 1, "l o": 2, "ll o": 0, "he llo": 4}
    assert merge_symbols(list("hello"), ranks, " ") == ["hello"]


def test_rank_of_the_text_does_not_ask_for_the_parts():
    assert merge_symbols(list("abc"), {"ab": 5, "abc": 9}, "") == ["abc"]


def test_nothing_to_merge():
    assert merge_symbols([], {}, " ") == []
    assert merge_symbols(["x"], {}, " ") == ["x"]


letters = st.text("abc", max_size=12)
pair_ranks = st.dictionaries(
    st.tuples(st.text("abc", min_size=1, max_size=3), st.text("abc", min_size=1, max_size=3)),
    st.integers(0, 5),
)


@given(letters, pair_ranks)
def test_equals_the_slow_loop_on_pairs(word, pairs):
    ranks = {f"{left} {right}": rank for (left, right), rank in pairs.items()}
    assert merge_symbols(list(word), ranks, " ") == slow_merge(word, ranks, " ")


@given(letters, st.dictionaries(st.text("abc", min_size=2, max_size=5), st.integers(0, 5)))
def test_equals_the_slow_loop_on_texts(word, ranks):
    assert merge_symbols(list(word), ranks, "") == slow_merge(word, ranks, "")
