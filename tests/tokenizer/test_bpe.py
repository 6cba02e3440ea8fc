"""Byte-pair encoding: vocabularies of characters, merges that are wrong, sizes out of the way."""

import time

import pytest

from tests.tokenizer.vocabularies import BYTE, CONTROL, NORMAL, bpe, pairs_bpe
from workbench.errors import GGUFError, ParameterError, UnsupportedError
from workbench.tokenizer import load_tokenizer
from workbench.tokenizer.bpe import BYTE_CHARACTERS

GENEROUS_SECONDS = 30.0  # for what takes 1 to 3 s on two slow cores: only n² fails it


def gemma(**keys):
    """Characters, "▁a", a run of two line feeds, and bytes for what is missing."""
    tokens = ["<bos>", "a", "b", "▁", "\n", "▁a", "\n\n", "ab", "<0xC3>", "<0xA9>"]
    types = [CONTROL] + [NORMAL] * 7 + [BYTE] * 2
    file = bpe(tokens, ["▁ a", "a b"], token_type=types, bos_token_id=0, **keys)
    return file | {"tokenizer.ggml.model": "gemma4"}


def test_gemma4_escapes_spaces_and_merges_characters():
    tokenizer = load_tokenizer(gemma())
    assert (tokenizer.model, tokenizer.pre) == ("gemma4", "gemma4")
    assert tokenizer.encode(" ab a", add_special=False) == [5, 2, 5]
    assert tokenizer.decode([5, 2, 5]) == " ab a"


def test_gemma4_spells_in_byte_tokens_and_drops_bytes_without_one():
    tokenizer = load_tokenizer(gemma())
    assert tokenizer.encode("é", add_special=False) == [8, 9]
    assert tokenizer.encode("aéñ", add_special=False) == [1, 8, 9, 8]  # ñ is C3 B1
    assert tokenizer.decode([1, 8, 9]) == "aé"


def test_a_run_of_line_feeds_that_is_a_token_stays_whole():
    tokenizer = load_tokenizer(gemma())
    assert tokenizer.encode("a\n\nb\n\n\n", add_special=False) == [1, 6, 2, 4, 4, 4]


def test_gemma4_always_adds_bos_whatever_the_file_says():
    tokenizer = load_tokenizer(gemma(add_bos_token=False))
    assert tokenizer.encode("a") == [0, 1]
    without = gemma()
    del without["tokenizer.ggml.bos_token_id"]
    with pytest.raises(GGUFError, match="always adds BOS, but the file has no BOS token"):
        load_tokenizer(without)


def test_words_cut_at_spaces_merge_as_the_whole_line_would():
    """The merge b+▁ crosses a space: nothing may be cut there."""
    file = gemma()
    file["tokenizer.ggml.tokens"] += ["b▁", "ab▁a"]
    file["tokenizer.ggml.token_type"] += [NORMAL] * 2
    file["tokenizer.ggml.merges"] = ["b ▁", "▁ a"]
    assert load_tokenizer(file).encode("ab ab", add_special=False) == [1, 10, 1, 2]


def test_kimi_k2_does_without_merges_and_others_do_not():
    file = pairs_bpe("kimi-k2")
    del file["tokenizer.ggml.merges"]
    ids = load_tokenizer(file).encode("aa", add_special=False)
    assert [BYTE_CHARACTERS[i] for i in ids] == ["a", "a"]
    with pytest.raises(GGUFError, match=r"the key tokenizer\.ggml\.merges is missing"):
        load_tokenizer(file | {"tokenizer.ggml.pre": "qwen2"})


def test_a_file_without_pre_is_cut_by_the_default():
    file = pairs_bpe("default")
    del file["tokenizer.ggml.pre"]
    assert load_tokenizer(file).pre == "default"
    text = "aS's 1111 A!s"
    assert load_tokenizer(file).encode(text) == load_tokenizer(pairs_bpe("default")).encode(text)


def test_an_unknown_pre_names_the_known_and_can_be_overridden():
    file = pairs_bpe("gpt-2") | {"tokenizer.ggml.pre": "gpt-7"}
    with pytest.raises(UnsupportedError, match=r"called 'gpt-7'.*gemma4, .*pre=\.\.\."):
        load_tokenizer(file)
    assert load_tokenizer(file, pre="gpt-2").pre == "gpt-2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a x", r"merges\[1\] makes 'ax'; expected a text of tokenizer\.ggml\.tokens"),
        ("a", r"merges\[1\] is 'a'; expected two symbols"),
        (" a", "expected two symbols"),
        ("a ", "expected two symbols"),
        ("a  b", "expected two symbols"),
        ("a b c", "expected two symbols"),
        ("", "expected two symbols"),
        ("a\nb", "expected two symbols"),
        ("a \udcff", r"makes 'a\\udcff'"),
    ],
)
def test_a_wrong_merge_is_named(line, message):
    with pytest.raises(GGUFError, match=message):
        load_tokenizer(bpe(["a", "b", "ab"], ["a b", line], pre="gpt-2"))


def test_merges_of_another_type_are_refused():
    for merges in (7, "a b", [b"a b"], [["a", "b"]]):
        with pytest.raises(GGUFError, match=r"tokenizer\.ggml\.merges has the wrong type"):
            load_tokenizer(bpe(["a", "b", "ab"], merges, pre="gpt-2"))


@pytest.mark.parametrize("pre", ["gpt-2", "gemma4", "kimi-k2", "superbpe"])
def test_text_that_is_no_unicode_is_refused(pre):
    tokenizer = load_tokenizer(pairs_bpe(pre))
    with pytest.raises(ParameterError, match=r"lone surrogate U\+D800"):
        tokenizer.encode("a\ud800")
    with pytest.raises(ParameterError, match="byte 1 of the text is not UTF-8"):
        tokenizer.encode(b"a\xff")


def test_a_million_tokens_and_merges_load_in_bounded_time():
    numbers = [f"{i:x}" for i in range(1 << 19)]
    merges = [f"{text[:1]} {text[1:]}" for text in numbers if len(text) > 1]
    started = time.perf_counter()
    tokenizer = load_tokenizer(bpe([*numbers, *BYTE_CHARACTERS[256:]], merges * 2, pre="gpt-2"))
    assert tokenizer.encode("10", add_special=False) == [16]
    assert time.perf_counter() - started < GENEROUS_SECONDS


@pytest.mark.parametrize("text", ["a" * 200_000, "as" * 100_000, "漢" * 60_000])
@pytest.mark.parametrize("pre", ["gpt-2", "superbpe", "gemma4"])
def test_a_long_word_takes_no_quadratic_time(pre, text):
    started = time.perf_counter()
    tokenizer = load_tokenizer(pairs_bpe(pre))
    assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text
    assert time.perf_counter() - started < GENEROUS_SECONDS
