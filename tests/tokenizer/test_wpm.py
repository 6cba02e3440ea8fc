"""WordPiece: longest prefixes by eye, BERT's normaliser, equal to llama.cpp, odd vocabularies."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenizer.small_goldens import assert_equal_to_llama_cpp, names
from tests.tokenizer.small_models import BYTE, NORMAL, model, wordpieces
from workbench.errors import GGUFError, ParameterError
from workbench.tokenizer import load_tokenizer
from workbench.tokenizer.normalize import FoldTable

SMALL = load_tokenizer(wordpieces())


def texts_of(tok, ids):
    return [tok.token_text(i) for i in ids]


@pytest.mark.parametrize("name", names("bert"))
def test_equal_to_llama_cpp(name):
    assert_equal_to_llama_cpp(name)


def test_the_longest_token_is_taken_again_and_again():
    ids = SMALL.encode("Unaffable!", add_special=False)
    assert texts_of(SMALL, ids) == ["▁unaff", "able", "▁!"]


def test_a_word_that_does_not_fit_is_unknown_as_a_whole():
    assert texts_of(SMALL, SMALL.encode("unq un")) == ["[CLS]", "[UNK]", "▁un", "[SEP]"]


def test_tokens_may_end_inside_a_character():
    assert texts_of(SMALL, SMALL.encode("\u0301éx", False)) == ["[UNK]"]
    cased = load_tokenizer(wordpieces(**{"normalizer.strip_accents": False}))
    assert texts_of(cased, cased.encode("éx", False)) == ["▁\udcc3", "\udca9x"]
    word = cased.trace("éx", add_special=False).words[0]
    assert word.unit == "byte" and len(word.symbols) == 6


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Déjà-vu", "deja - vu"),
        ("a\x00\ufffd\x07\u200db", "ab"),
        ("a\u00a0b\u3000c\x85d", "a b c d"),
        ("x²$¢", "x² $ ¢"),
        ("漢字か\U0002b820\U0002b920", " 漢  字 か\U0002b820 \U0002b920 "),
        ("İΣǅ", "iσǆ"),
        ("각", "ᄀ"),
        ("\u0301e\u0301", "e"),
    ],
)
def test_normaliser_by_eye(text, folded):
    folded_words = text.translate(FoldTable(True, True)).split()
    assert folded_words == folded.split()


def test_case_and_accents_can_stay():
    assert "DÉ".translate(FoldTable(False, False)) == "DÉ"
    assert "DÉ".translate(FoldTable(True, False)) == "dé"
    assert "DÉ".translate(FoldTable(False, True)) == "DE"


def test_bos_and_sep_are_added_whatever_the_flags_say():
    tok = load_tokenizer(wordpieces(add_bos_token=False, add_sep_token=False, add_eos_token=True))
    assert texts_of(tok, tok.encode("a")) == ["[CLS]", "▁a", "[SEP]"]


def test_the_defaults_are_berts_ids():
    tokens = [(f"t{i}", 0.0, NORMAL) for i in range(120)]
    special = load_tokenizer(model("bert", tokens)).special
    assert (special.pad, special.unk, special.bos, special.sep, special.mask) == (
        *(0, 100, 101, 102, 103),
    )
    assert special.eos is None


def test_vocabularies_without_their_special_tokens():
    tok = load_tokenizer(model("bert", [("▁a", 0.0, NORMAL), ("b", 0.0, NORMAL)]))
    assert tok.encode("ab a", add_special=False) == [0, 1, 0]
    assert tok.trace("ab a", add_special=False).ids == [0, 1, 0]
    with pytest.raises(ParameterError, match="adds a BOS token, but the vocabulary has none"):
        tok.encode("ab")
    for call in (tok.encode, tok.trace):
        with pytest.raises(ParameterError, match="'▁c' has no tokens and the vocabulary no unk"):
            call("c", add_special=False)


def test_byte_tokens_are_refused():
    with pytest.raises(GGUFError, match="token 1 has the type byte, which model 'bert'"):
        load_tokenizer(model("bert", [("▁a", 0.0, NORMAL), ("<0x41>", 0.0, BYTE)]))


@pytest.mark.parametrize("key", ["lowercase", "strip_accents"])
def test_normaliser_keys_of_another_type(key):
    with pytest.raises(GGUFError, match=f"normalizer.{key} has the wrong type; expected bool"):
        load_tokenizer(wordpieces(**{f"normalizer.{key}": "yes"}))


def test_trace_shows_the_prefixes_that_lost():
    trace = SMALL.trace("Unaffable", add_special=False)
    word = trace.words[0]
    assert [step.symbol for step in word.steps] == ["▁unaff", "able"]
    assert word.steps[0].losers == ("▁un",) and word.steps[1].losers == ("abl", "a")
    assert (word.span.start, word.span.end) == (0, 9)


@given(st.text())
def test_replay_gives_encode(text):
    trace = SMALL.trace(text)
    assert trace.ids == trace.replay() == SMALL.encode(text)


@pytest.mark.parametrize("text", ["a" * 10**6, "😀" * 10**6, "漢" * 300_000, "\u0301" * 10**6])
def test_long_texts_take_no_quadratic_time(text):
    start = time.perf_counter()
    SMALL.encode(text)
    assert time.perf_counter() - start < 15
