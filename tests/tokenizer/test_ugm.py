"""Unigram models: paths by eye, equal to llama.cpp, the character map, damaged maps, long texts."""

import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenizer.small_goldens import assert_equal_to_llama_cpp, names
from tests.tokenizer.small_models import NORMAL, UNKNOWN, USER_DEFINED, charsmap, model, unigram
from workbench.errors import GGUFError, ParameterError
from workbench.tokenizer import load_tokenizer
from workbench.tokenizer.charsmap import load_charsmap
from workbench.tokenizer.ugm import _exact_bytes

SMALL = load_tokenizer(unigram())
KEY = "tokenizer.ggml.precompiled_charsmap"


def t5(scores, user_defined=(), entries=None, **keys):
    """A vocabulary with the unknown token 0 and no end token."""
    tokens = [("<unk>", 0.0, UNKNOWN), *((text, score, NORMAL) for text, score in scores.items())]
    tokens += [(text, 0.0, USER_DEFINED) for text in user_defined]
    if entries is not None:
        keys["precompiled_charsmap"] = np.frombuffer(charsmap(entries), np.uint8)
    settings = {"unknown_token_id": 0, "add_eos_token": False} | keys
    return load_tokenizer(model("t5", tokens, **settings))


def texts_of(tok, text):
    return [tok.token_text(i) for i in tok.encode(text)]


def read(tok, text):
    return tok.trace(text).fragments[0].normalised


@pytest.mark.parametrize("name", names("t5"))
def test_equal_to_llama_cpp(name):
    assert_equal_to_llama_cpp(name)


def test_the_best_sum_wins_and_the_first_of_equal_ones():
    tok = t5({"a": -1.0, "b": -1.0, "c": -1.0, "ab": -2.0, "bc": -1.5, "abc": -9.0})
    assert texts_of(tok, "abc") == ["a", "bc"]
    assert texts_of(tok, "ab") == ["ab"]


def test_unknown_characters_in_a_row_are_one_token():
    tok = t5({"a": -1.0, "▁": -1.0, "é": -1.0})
    assert texts_of(tok, "axyéq") == ["a", "<unk>", "é", "<unk>"]
    assert texts_of(t5({"a": -1.0}), "x x a") == ["<unk>", "a"]


def test_user_defined_tokens_cost_nothing_even_inside_words():
    tok = t5({"a": -1.0, "ab": -1.5}, user_defined=["b"], entries={b"q": b"b"})
    assert texts_of(tok, "aaq") == ["a", "a", "b"]


def test_end_is_added_by_default_and_begin_is_not():
    assert SMALL.encode("") == [1] and SMALL.eos_id == 1 and SMALL.special.unk == 2
    assert SMALL.special.pad == 0


def test_spaces_by_rule():
    scores = {"a": -1.0, "▁": -1.0}
    text = "  a  a "
    assert read(t5(scores), text) == "▁▁a▁▁a▁"
    assert read(t5(scores, add_space_prefix=True), text) == "▁▁▁a▁▁a▁"
    assert read(t5(scores, remove_extra_whitespaces=True), text) == "▁a▁a"
    assert t5(scores, add_space_prefix=True).encode("  ") == [2, 2]
    assert t5(scores, remove_extra_whitespaces=True).encode("  ") == []
    assert t5(scores, add_space_prefix=True).decode([2, 1, 2]) == "a "


def test_the_longest_entry_of_the_map_wins():
    entries = {b"ab": b"X", b"abc": b"", b"c": b" ", "é".encode(): b"e", b"abcde": b"!"}
    tok = t5({"a": -1.0}, entries=entries)
    assert read(tok, "aabcabé") == "aXe"
    assert read(tok, "abcdc") == "d▁"
    assert tok.trace("abc").ids == []


def test_spaces_inside_an_entry_of_the_map_or_a_user_defined_token():
    tok = t5({"a": -1.0}, entries={b"a b": b"X"})
    assert read(tok, "a ba b a") == "XX▁a"
    kept = t5({"a": -1.0}, user_defined=["a b!"], entries={b"b": b"Y", b" b": b"Z"})
    assert read(kept, "a bb") == "a▁bY"


def test_text_that_begins_like_a_user_defined_token_is_kept():
    tok = t5({"a": -1.0}, user_defined=["<ab>"], entries={b"a": b"1", b"b": b"2"})
    assert read(tok, "<aba<ab") == "<ab1<ab"


def test_a_kept_beginning_may_end_inside_a_character_as_in_llama_cpp():
    tok = t5({"a": -1.0}, user_defined=["é!"])
    trace = tok.trace("èa")
    assert trace.fragments[0].normalised == "\xc3\xef\xbf\xbda"
    assert trace.ids == tok.encode("èa") == [0, 1]


def test_trace_shows_the_lattice_with_scores():
    tok = t5({"a": -1.0, "b": -1.0, "c": -1.0, "ab": -2.0, "bc": -1.5, "abc": -9.0})
    word = tok.trace("abc").words[0]
    last = word.steps[-1]
    assert (last.best.symbol, last.best.score, last.best.total) == ("bc", -1.5, -2.5)
    assert [(edge.symbol, edge.total) for edge in last.losers] == [("c", -3.0), ("abc", -9.0)]


def test_trace_places_words_in_the_original():
    entries = {"ﬁ".encode(): b"fi", b"\t": b" "}
    tok = t5({"f": -1.0, "i": -1.0, "▁": -1.0}, entries=entries, add_space_prefix=True)
    words = tok.trace("ﬁ\tﬁ").words
    assert [(word.text, word.span.start, word.span.end) for word in words] == [
        ("▁fi", 0, 1),
        ("▁fi", 1, 3),
    ]


@given(st.text("aAbc é\u0301漢<t▁ﬁ\t!", max_size=40))
def test_words_apart_give_what_the_whole_gives(text):
    whole = load_tokenizer(unigram())
    whole._encoder._exact_bytes = 0
    assert whole.encode(text) == SMALL.encode(text)


@given(st.text())
def test_replay_gives_encode(text):
    trace = SMALL.trace(text)
    assert trace.ids == trace.replay() == SMALL.encode(text)


def test_sums_are_exact_as_long_as_claimed():
    def bytes_of(*scores, characters=(-3.0,)):
        return _exact_bytes(np.array(scores, np.float32), np.array(characters, np.float32))

    assert bytes_of(-2.0, -3.0) == (2.0**53 * 2.0**-22 - 3) / 3
    assert bytes_of(-2.0, -3.0, -10_000.0) == (2.0**53 * 2.0**-22 - 10_000) / 3
    assert bytes_of(-2.0, 8.0) == (2.0**53 * 2.0**-22 - 8) / 8
    assert bytes_of(-1e-7, -3.0) < 1000
    assert bytes_of(float("-inf")) == 0
    assert bytes_of(0.0) == np.inf


def test_scores_without_a_finite_sum():
    tok = t5({"a": float("-inf"), "b": -1.0})
    assert tok.encode("bab") == tok.trace("bab").replay() == [0]


def test_text_without_tokens_and_without_an_unknown_one():
    tok = load_tokenizer(model("t5", [("a", -1.0, NORMAL), ("b", -1.0, NORMAL)]))
    assert tok.encode("ab", add_special=False) == [0, 1]
    for call in (tok.encode, tok.trace):
        with pytest.raises(ParameterError, match="vocabulary no unknown token"):
            call("ax")


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "too short; expected 4 bytes or more, got 0"),
        (b"\0\0\0", "too short"),
        (b"\0\0\0\0", "announces 0 bytes of units"),
        (struct.pack("<I", 8) + bytes(8), "announces 8 bytes"),
        (struct.pack("<I", 2**32 - 1) + bytes(64), "announces 4294967295 bytes"),
    ],
)
def test_maps_that_are_cut_off(blob, message):
    for value in (list(blob), np.frombuffer(blob, np.uint8), np.frombuffer(blob, np.int8)):
        with pytest.raises(GGUFError, match=f"precompiled_charsmap (is )?{message}"):
            load_tokenizer(unigram(precompiled_charsmap=value))


@pytest.mark.parametrize(
    "value", ["text", 7, None, [1.5], [300], [-1], ["a"], [[1], [2, 3]], b"ab"]
)
def test_maps_of_another_type(value):
    with pytest.raises(GGUFError, match="charsmap has the wrong type; expected an array of bytes"):
        load_tokenizer(unigram(precompiled_charsmap=value))


def damaged(units, replacements=b"\0"):
    raw = struct.pack(f"<{len(units)}I", *units)
    return list(struct.pack("<I", len(raw)) + raw + replacements)


@pytest.mark.parametrize(
    ("units", "replacements", "place"),
    [
        ([1 << 20], b"\0", "unit 1121 of 1"),
        ([1 << 10 | ord("b")] + [0] * 94 + [ord("a") | 1 << 8 | 1 << 20] * 2, b"\0", "unit"),
        (
            [0] * 97 + [97 | 1 << 8 | 97 << 10] + [0] * 30,
            b"abc",
            "byte 0 of 3 bytes of replacements",
        ),
        ([0] * 97 + [ord("a") | 1 << 8] + [0] * 30, b"", None),
    ],
)
def test_maps_that_lead_outside(units, replacements, place):
    metadata = unigram(precompiled_charsmap=damaged(units, replacements))
    if place is None:
        with pytest.raises(GGUFError, match="announces"):
            load_tokenizer(metadata)
        return
    tok = load_tokenizer(metadata)
    for call in (tok.encode, tok.trace):
        with pytest.raises(GGUFError, match=f"charsmap leads to {place}"):
            call("a")


def test_a_map_of_no_units_changes_nothing():
    tok = load_tokenizer(unigram(precompiled_charsmap=[3, 0, 0, 0, 9, 9, 9, 0]))
    assert read(tok, "ﬁab") == "ﬁab"


@given(st.binary(min_size=8, max_size=4000), st.text(max_size=30))
def test_random_maps_are_read_or_refused(raw, text):
    blob = struct.pack("<I", (len(raw) - 2) // 4 * 4) + raw
    tok = load_tokenizer(unigram(precompiled_charsmap=np.frombuffer(blob, np.uint8)))
    try:
        ids = tok.encode(text)
    except GGUFError:
        return
    assert tok.trace(text).replay() == ids


@given(st.dictionaries(st.binary(min_size=1, max_size=4), st.binary(max_size=3), min_size=1))
def test_the_map_finds_every_entry(entries):
    entries = {
        key.replace(b"\0", b"a"): value.replace(b"\0", b"") for key, value in entries.items()
    }
    found = load_charsmap({KEY: np.frombuffer(charsmap(entries), np.uint8)})
    for key, value in entries.items():
        assert found.longest(b"?" + key, 1) == (len(key), value)


@pytest.mark.parametrize("text", ["a" * 10**6, "😀" * 10**6, "漢" * 300_000, "  " * 500_000])
def test_long_texts_take_no_quadratic_time(text):
    start = time.perf_counter()
    SMALL.encode(text)
    assert time.perf_counter() - start < 20
