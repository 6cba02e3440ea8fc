"""Tokenizers as a user meets them: words by eye, round trips, wrong arguments, long words."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenizer.vocabularies import bpe, ladder_spm, pairs_bpe, spm
from workbench.errors import ParameterError
from workbench.tokenizer import load_tokenizer
from workbench.tokenizer.bpe import BYTE_CHARACTERS
from workbench.tokenizer.spm import SpmEncoder
from workbench.tokenizer.vocab import load_vocabulary

PAIRS = load_tokenizer(pairs_bpe("qwen2"))
LADDER = load_tokenizer(ladder_spm())
SECONDS_FOR_A_MEGABYTE = 15  # measured 1-4 s; the guard is against quadratic time


def texts_of(tok, ids):
    return [tok.token_text(i) for i in ids]


def test_byte_alphabet_is_gpt2s():
    assert (BYTE_CHARACTERS[0], BYTE_CHARACTERS[ord(" ")], BYTE_CHARACTERS[ord("A")]) == tuple(
        "ĀĠA"
    )
    assert len(set(BYTE_CHARACTERS)) == 256


def test_bpe_merges_by_rank_inside_words():
    tok = load_tokenizer(bpe([*"abĠ", "ab", "Ġa", "Ġab"], ["Ġ a", "a b", "Ġa b"], pre="gpt-2"))
    assert texts_of(tok, tok.encode("ab ab")) == ["ab", "Ġab"]


def test_ignored_merges_keep_a_word_that_is_a_token():
    tokens, merges = [*"abc", "ab", "bc", "abc"], ["b c", "a b"]
    merged = load_tokenizer(bpe(tokens, merges, pre="dbrx"))
    assert texts_of(merged, merged.encode("abc")) == ["a", "bc"]
    whole = load_tokenizer(bpe(tokens, merges, pre="llama-bpe", add_bos_token=False))
    assert texts_of(whole, whole.encode("abc")) == ["abc"]


def test_bpe_drops_bytes_without_a_token_as_llama_cpp_does():
    tok = load_tokenizer(bpe(["a"], [], pre="gpt-2"))
    assert tok.encode("aéa") == [0, 0]


def test_spm_takes_the_best_score_and_falls_back_to_bytes():
    tok = load_tokenizer(ladder_spm(add_bos_token=False))
    assert texts_of(tok, tok.encode("abcd")) == ["▁ab", "cd"]
    assert texts_of(tok, tok.encode("a€")) == ["▁a", "<0xE2>", "<0x82>", "<0xAC>"]


def test_spm_prefixes_a_space_at_the_start_and_after_special_tokens():
    ids = LADDER.encode("a<s>a", add_special=True, parse_special=True)
    assert texts_of(LADDER, ids) == ["<s>", "▁a", "<s>", "▁a"]
    assert LADDER.decode_bytes(ids) == b"<s> a<s> a"
    assert LADDER.decode_bytes(ids[1:], unparse_special=False) == b"a a"


def test_spm_merges_across_spaces_where_a_token_does():
    assert "a▁b" in texts_of(LADDER, LADDER.encode("oa b"))
    whole, cut = (
        SpmEncoder(load_vocabulary(ladder_spm())),
        SpmEncoder(load_vocabulary(ladder_spm())),
    )
    whole._split = lambda text: [text]
    for text in ("a b a b", "h e, a  b▁▁c", ",,  ,, a b"):
        assert whole.encode(text) == cut.encode(text)


def test_double_bos_is_kept():
    assert LADDER.encode("<s>", parse_special=True) == [1, 1]


def test_detokenizing_cleans_spaces_where_the_model_does():
    tok = load_tokenizer(pairs_bpe("gpt-2"))
    ids = tok.encode("a . a , a 's a ' a ?!", add_special=False)
    assert tok.decode(ids) == "a. a, a's a'a?!"
    assert PAIRS.decode(PAIRS.encode("a . 's ' a")) == "a . 's ' a"


def test_remove_special_drops_only_the_added_tokens():
    tok = load_tokenizer(pairs_bpe("qwen2") | {"tokenizer.ggml.add_bos_token": True})
    ids = tok.encode("a")
    assert tok.decode(ids) == "<s>a" and tok.decode(ids, remove_special=True) == "a"
    assert tok.decode(ids * 2, remove_special=True) == "a<s>a"


@given(st.text())
def test_bytelevel_decode_inverts_encode(text):
    assert PAIRS.decode(PAIRS.encode(text)) == text
    assert PAIRS.decode(PAIRS.encode(text, parse_special=True)) == text


@given(st.text())
def test_spm_decode_inverts_encode_but_for_the_space_sign(text):
    ids = LADDER.encode(text, add_special=False)
    assert LADDER.decode(ids) == text.replace("▁", " ")


@given(st.binary())
def test_bytes_are_taken_if_they_are_utf8(raw):
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        with pytest.raises(ParameterError, match=r"byte \d+ of the text is not UTF-8"):
            PAIRS.encode(raw)
    else:
        assert PAIRS.encode(raw) == PAIRS.encode(text)


def test_lone_surrogates_are_named():
    with pytest.raises(ParameterError, match=r"character 2 .* lone surrogate U\+D800"):
        PAIRS.encode("é \ud800")


def test_text_of_another_type():
    with pytest.raises(ParameterError, match="expected str or UTF-8 bytes, got int"):
        PAIRS.encode(3)


@pytest.mark.parametrize("bad", [-1, PAIRS.n_vocab, 10**30])
def test_ids_outside_the_vocabulary(bad):
    with pytest.raises(ParameterError, match=rf"id {bad} at index 1 .*n_vocab is {PAIRS.n_vocab}"):
        PAIRS.decode([0, bad])
    for call in (PAIRS.piece, PAIRS.token_text, PAIRS.attribute):
        with pytest.raises(ParameterError, match="outside the vocabulary"):
            call(bad)


def test_ids_that_are_no_integers():
    for bad in ([1.5], ["a"], 7, None):
        with pytest.raises(ParameterError, match="expected a sequence of integers"):
            PAIRS.decode(bad)


def test_ids_may_be_numpy():
    assert PAIRS.decode(np.array(PAIRS.encode("aA"), np.int32)) == "aA"
    assert PAIRS.decode([]) == ""


def test_broken_utf8_decodes_to_the_replacement_character():
    assert PAIRS.decode(PAIRS.encode("漢")[:1]).endswith("\ufffd")
    assert PAIRS.decode_bytes([0xC3]) == b"\xc3"


def test_character_that_cannot_be_spelled():
    tok = load_tokenizer(
        spm([("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁", -1.0, 1)])
    )
    with pytest.raises(ParameterError, match=r"'x' has no token .* byte 0x78"):
        tok.encode("x")


def test_pieces_outside_the_byte_alphabet_print_as_in_llama_cpp():
    tok = load_tokenizer(bpe(["a", "a漢"], [], pre="gpt-2"))
    assert tok.piece(1) == "a[UNK_BYTE_0xe6bca2a漢]".encode()


def test_repr_is_short_and_stable():
    assert repr(PAIRS) == f"Tokenizer(model='gpt2', pre='qwen2', n_vocab={PAIRS.n_vocab})"
    assert repr(LADDER) == f"Tokenizer(model='llama', n_vocab={LADDER.n_vocab})"


@pytest.mark.parametrize("text", ["a" * 10**6, "aAsS" * 250_000, " " * 10**6, "漢" * 333_333])
def test_a_megabyte_without_spaces_takes_no_quadratic_time(text):
    for tok in (PAIRS, LADDER):
        start = time.perf_counter()
        tok.encode(text)
        assert time.perf_counter() - start < SECONDS_FOR_A_MEGABYTE
