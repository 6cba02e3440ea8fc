"""PLaMo-2: the best path from the end, equal to llama.cpp, and equal to trying every path."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenizer.small_goldens import assert_equal_to_llama_cpp, names
from tests.tokenizer.small_models import BYTE, NORMAL, bytes_and_pieces, model
from workbench.errors import GGUFError, UnsupportedError
from workbench.tokenizer import load_tokenizer
from workbench.tokenizer.plamo2 import NEVER, _scaled

SMALL = load_tokenizer(bytes_and_pieces())


def plamo2(scores):
    tokens = [("?", 0.0, NORMAL), *((f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256))]
    return load_tokenizer(model("plamo2", tokens + [(t, s, NORMAL) for t, s in scores.items()]))


def texts_of(tok, text):
    return [tok.token_text(i) for i in tok.encode(text)]


@pytest.mark.parametrize("name", names("plamo2"))
def test_equal_to_llama_cpp(name):
    assert_equal_to_llama_cpp(name)


def test_the_best_sum_wins_and_the_longest_of_equal_ones():
    tok = plamo2({"a": -1, "b": -1, "c": -1, "ab": -2, "bc": -1.5, "abc": -9})
    assert texts_of(tok, "ab") == ["ab"]
    assert texts_of(tok, "abc") == ["a", "bc"]


def test_characters_without_a_token_are_spelled_in_bytes():
    assert texts_of(plamo2({"a": -1}), "aé") == ["a", "<0xC3>", "<0xA9>"]


def test_one_byte_order_mark_in_front_is_dropped():
    tok = plamo2({"a": -1})
    assert texts_of(tok, "\ufeffa") == ["a"]
    assert texts_of(tok, "\ufeff\ufeff") == ["<0xEF>", "<0xBB>", "<0xBF>"]
    assert tok.trace("\ufeffa").words[0].span.start == 1


def test_nothing_is_added_whatever_the_flags_say():
    tok = load_tokenizer(bytes_and_pieces(add_bos_token=True, add_eos_token=True))
    assert texts_of(tok, "a") == ["a"] and tok.bos_id == 1
    assert tok.decode([1, *tok.encode("a"), 2], remove_special=True) == "a"


@pytest.mark.parametrize("missing", [0x00, 0x41, 0xFF])
def test_every_byte_needs_a_token(missing):
    tokens = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256) if byte != missing]
    with pytest.raises(GGUFError, match=f"no token of type byte for <0x{missing:02X}>"):
        load_tokenizer(model("plamo2", [("?", 0.0, NORMAL), *tokens]))


def test_a_token_too_long_for_the_automaton():
    with pytest.raises(UnsupportedError, match="has 5000 characters; expected at most 4096"):
        plamo2({"a" * 5000: -1})


@pytest.mark.parametrize(
    ("score", "scaled"),
    [
        (-1.5, -15000),
        (0.00005, 1),
        (-0.00005, -1),
        (0.00004, 0),
        (-1e9, NEVER),
        (float("-inf"), NEVER),
    ],
)
def test_scores_are_whole_numbers_with_halves_away_from_zero(score, scaled):
    assert _scaled(score) == scaled


def test_a_score_of_minus_1000_ends_the_list_as_in_llama_cpp():
    tok = plamo2({"a": -1, "ab": -1000, "b": -1})
    assert texts_of(tok, "ab") == ["ab"]


def best_cost(text, scores):
    costs = [0] * (len(text) + 1)
    for at in range(len(text) - 1, -1, -1):
        ways = [costs[at + 1] + 10_000_000]
        for token, score in scores.items():
            if text.startswith(token, at):
                ways.append(costs[at + len(token)] - _scaled(score))
        costs[at] = min(ways)
    return costs[0]


@given(
    st.dictionaries(st.text("ab é", min_size=1, max_size=4), st.integers(-9, -1), max_size=12),
    st.text("ab é漢", max_size=30),
)
def test_no_other_path_is_better(scores, text):
    tok = plamo2(scores)
    cost, found = 0, tok.trace(text)
    for word in found.words:
        cost -= round(word.steps[-1].best.total * 10_000)
    assert cost == best_cost(text, scores)
    assert tok.decode(found.ids) == text


@given(st.text())
def test_replay_gives_encode(text):
    trace = SMALL.trace(text)
    assert trace.ids == trace.replay() == SMALL.encode(text)


@pytest.mark.parametrize("text", ["a" * 10**6, "😀" * 300_000, "abc" * 300_000])
def test_long_texts_take_no_quadratic_time(text):
    start = time.perf_counter()
    SMALL.encode(text)
    assert time.perf_counter() - start < 20
