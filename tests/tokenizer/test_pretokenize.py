"""Cutting text into words: the classes of characters, and regex sets by eye."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.tokenizer.character_classes import (
    STAND_INS,
    class_table,
    expand_classes,
    reduce_han,
    reduce_text,
    replace_spaces,
)
from workbench.tokenizer.pretokenize import PRE_TOKENIZERS, split_words

UNICODE_15_1 = (15, 1)


def words(pre, text):
    return split_words(text, PRE_TOKENIZERS[pre].regexes)


def test_classes_are_the_general_categories_of_unicode():
    """Python's own table agrees wherever both know the character."""
    table = class_table()
    python = np.array([unicodedata.category(chr(i))[0] for i in range(0x110000)])
    version = tuple(map(int, unicodedata.unidata_version.split(".")))[:2]
    ours_known = table != ord(STAND_INS["O"])
    python_known = python != "C"
    both = ours_known & python_known
    if version <= UNICODE_15_1:
        np.testing.assert_array_equal(python_known[128:] & ~ours_known[128:], False)
    if version >= UNICODE_15_1:  # U+0085, U+FEFF …: controls that are no letters in either
        np.testing.assert_array_equal((ours_known & ~python_known)[0x86:], False)
    for category, name in zip("LNPMS", "LNPMY", strict=True):
        ours = table == ord(STAND_INS[name])
        np.testing.assert_array_equal((ours & both)[128:], ((python == category) & both)[128:])


def test_reduced_text_keeps_ascii_and_length():
    assert reduce_text("déjà 2² “a”\u3000\u0378") == "d\xd2j\xd2 2\xd1 \xd3a\xd3\x0b\xd0"
    assert reduce_text("plain") == "plain"


def test_reduced_han_text_tells_han_letters_and_unassigned_han_from_the_rest():
    assert reduce_han("é漢\ufa6e字1") == "\xd2\xd6\xd7\xd61"


def test_wide_spaces_become_vertical_tabs():
    assert replace_spaces("a\u3000é\x85") == "a\x0bé\x0b"


def test_classes_expand_inside_and_outside_brackets():
    assert expand_classes(r"\p{N}+") == "[\xd10-9]+"
    assert expand_classes(r"[^\p{N}\]]\p{N}") == "[^\xd10-9\\]][\xd10-9]"


def test_gpt2_keeps_one_space_with_the_word():
    assert words("gpt-2", "Hello  world's 12345!!\n") == [
        *("Hello", " ", " world", "'s", " 12345", "!!", "\n")
    ]


def test_llama3_cuts_numbers_in_threes_and_ignores_case_of_suffixes():
    assert words("llama-bpe", "IT'S 12345") == ["IT", "'S", " ", "123", "45"]


def test_qwen2_cuts_every_digit():
    assert words("qwen2", "a 123") == ["a", " ", "1", "2", "3"]


def test_text_between_matches_is_a_piece():
    assert words("deepseek-llm", "ab\n12 cd") == ["ab", "\n", "12", " cd"]


def test_a_letter_younger_than_unicode_15_1_is_no_letter():
    assert words("llama-bpe", "a\u1c89") == ["a", "\u1c89"]


def test_kimi_k2_keeps_han_apart_and_suffixes_with_their_word():
    assert words("kimi-k2", "IT'S 漢字a1234") == ["IT'S", " ", "漢字", "a", "123", "4"]


def test_tiny_aya_counts_digits_from_the_right():
    assert words("tiny_aya", "a 1234567") == ["a", " ", "1", "234", "567"]


def test_afmoe_leaves_the_text_before_a_number_with_its_first_group():
    assert words("afmoe", "a  12345 b") == ["a", " ", " ", "12", "345", " b"]
    assert words("afmoe", "a  ") == ["a", "  "]  # nothing after it: the spaces stay together


def test_superbpe_cuts_numbers_only():
    assert words("superbpe", "a b 1234567 c") == ["a b ", "1", "234", "567", " c"]
    assert words("superbpe", "²1234") == ["²1", "234"]
    assert words("superbpe", "123²456") == ["123²", "456"]


def test_gemma4_cuts_at_line_feeds_only():
    assert words("gemma4", "a b\n\n c") == ["a b", "\n\n", " c"]


@pytest.mark.parametrize("pre", ["afmoe", "tiny_aya", "superbpe"])
def test_a_long_number_is_cut_in_linear_time(pre):
    assert len(words(pre, "7" * 300_000)) == 100_000


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@given(text=st.text(max_size=40) | st.text(" \n\ta1A'sé漢\u0301\u3000!", max_size=40))
def test_pieces_joined_are_the_text(pre, text):
    pieces = words(pre, text)
    assert "".join(pieces) == text
    assert all(pieces)
