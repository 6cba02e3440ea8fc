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


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@given(text=st.text(max_size=40) | st.text(" \n\ta1A'sé漢\u0301\u3000!", max_size=40))
def test_pieces_joined_are_the_text(pre, text):
    pieces = words(pre, text)
    assert "".join(pieces) == text
    assert all(pieces)
