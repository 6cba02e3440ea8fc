"""RWKV: longest matches on bytes, equal to llama.cpp, escapes, texts that cannot be spelled."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenizer.small_goldens import assert_equal_to_llama_cpp, names
from tests.tokenizer.small_models import NORMAL, model, world
from workbench.errors import GGUFError, ParameterError
from workbench.tokenizer import load_tokenizer

SMALL = load_tokenizer(world())


def rwkv(*texts, **keys):
    return load_tokenizer(model("rwkv", [(text, 0.0, NORMAL) for text in texts], **keys))


def pieces_of(tok, text):
    return [tok.piece(i) for i in tok.encode(text)]


@pytest.mark.parametrize("name", names("rwkv"))
def test_equal_to_llama_cpp(name):
    assert_equal_to_llama_cpp(name)


def test_the_longest_match_is_taken_even_inside_characters():
    assert pieces_of(SMALL, "abcde") == [b"abcd", b"e"]
    assert pieces_of(SMALL, "漢é") == ["漢".encode(), "é".encode()]
    assert pieces_of(SMALL, "e\u0301") == [b"e\xcc", b"\x81"]


def test_escapes_are_read():
    tok = rwkv(r"\t\n\r", r"\\", r"\x00\xff", r"\'\"\q", "é")
    pieces = [tok.piece(i) for i in range(5)]
    assert pieces == [b"\t\n\r", b"\\", b"\x00\xff", b"'\"q", "é".encode()]


@pytest.mark.parametrize("text", ["\\", "a\\", "\\x", "\\x4", "\\xg0", "\\x4G", "\\xAB", "\\x+1"])
def test_bad_escapes(text):
    with pytest.raises(GGUFError, match=r"has a bad escape; expected .* two digits 0-9a-f"):
        rwkv("a", text)


def test_unknown_bytes():
    assert rwkv("?", "a", unknown_token_id=0).encode("abé") == [1, 0, 0, 0]
    for call in (rwkv("a").encode, rwkv("a").trace):
        with pytest.raises(ParameterError, match=r"no token that begins with it .* byte 0x62"):
            call("ab")


def test_a_beginning_without_an_end_is_an_error_and_not_an_endless_loop():
    tok = rwkv("?", "ab", unknown_token_id=0)
    assert tok.encode("ab") == [1]
    with pytest.raises(ParameterError, match=r"tokens that begin with it but none .* byte 0x61"):
        tok.encode("ac")


def test_nothing_is_added_whatever_the_flags_say():
    tok = rwkv("a", "b", add_bos_token=True, add_eos_token=True, bos_token_id=1, eos_token_id=1)
    assert tok.encode("a") == [0] and tok.add_bos
    assert tok.special.unk is None
    assert tok.decode([1, 0, 1], remove_special=True) == "a"


def test_trace_shows_the_matches_that_lost():
    word = SMALL.trace("abcd").words[0]
    assert [step.symbol for step in word.steps] == ["abcd"]
    assert word.steps[0].losers == ("abc", "ab", "a")


@given(st.text())
def test_decode_inverts_encode_and_replay_gives_encode(text):
    trace = SMALL.trace(text)
    assert trace.ids == trace.replay() == SMALL.encode(text)
    assert SMALL.decode(trace.ids) == text


@pytest.mark.parametrize("text", ["a" * 10**6, "😀" * 300_000, " " * 10**6])
def test_long_texts_take_no_quadratic_time(text):
    start = time.perf_counter()
    SMALL.encode(text)
    assert time.perf_counter() - start < 15
