"""Audits of small vocabularies whose flaws were put there, fertility and round trips."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import REFERENCE, needs_reference
from tests.tokenizer.vocabularies import BYTE, NORMAL, UNKNOWN, bpe, ladder_spm, pairs_bpe, spm
from workbench import load_tokenizer, open_gguf
from workbench.analysis import SAMPLES, audit_vocabulary, fertility, round_trips, script_of
from workbench.errors import ParameterError
from workbench.tokenizer.bpe import BYTE_CHARACTERS
from workbench.tokenizer.reach import buildable_tokens, merged_tokens

# merges: bc first, so that abc is never left; "xy" has no merge, "x1" is cut by the regex
FLAWED = bpe(
    [*BYTE_CHARACTERS, "bc", "ab", "abc", "xy", "x1", "<|im_start|>", "Ã©"],
    ["b c", "a b", "ab c", "x 1", "Ã ©"],
    pre="qwen2",
)
GAPS = spm(
    [("<unk>", 0, UNKNOWN), ("▁", -1, NORMAL), ("a", -2, NORMAL), ("b", -3, NORMAL),
     ("abab", -4, NORMAL), ("ab", -5, NORMAL), ("aba", -6, NORMAL), ("<0x61>", 0, BYTE),
     ("<0xFF>", 0, BYTE), ("▁zz", -7, NORMAL)],
)  # fmt: skip


def whys(audit, kind):
    return {f.text: f.why for f in audit.findings if f.kind == kind}


def test_a_flawed_byte_pair_vocabulary_shows_its_flaws():
    audit = audit_vocabulary(load_tokenizer(FLAWED))
    assert whys(audit, "unreachable") == {
        "abc": "merges lead elsewhere",
        "xy": "no sequence of merges gives it",
        "x1": "the text is cut or changed before",
        "<|im_start|>": "no sequence of merges gives it",
    }
    assert set(whys(audit, "unbuildable")) == {"xy", "<|im_start|>"}
    assert set(whys(audit, "control-like")) == {"<|im_start|>"}
    assert audit.missing_bytes == () and not audit.ids("double")
    assert audit.longest[0] == (261, b"<|im_start|>")


def test_a_flawed_sentencepiece_vocabulary_shows_its_flaws():
    audit = audit_vocabulary(load_tokenizer(GAPS | {"tokenizer.ggml.add_bos_token": False}))
    assert whys(audit, "unreachable") == {
        "<0x61>": "its character has a token of its own",
        "<0xFF>": "a byte that UTF-8 never has",
        "▁zz": "no sequence of merges gives it",
    }
    assert set(whys(audit, "unbuildable")) == {"▁zz"}
    assert whys(audit, "double") == {"<0x61>": "stands for the same bytes as token 2"}
    assert ord("a") not in audit.missing_bytes and ord("c") in audit.missing_bytes
    assert not {0xC0, 0xF5, 0xFF} & set(audit.missing_bytes)


def test_a_sound_vocabulary_has_no_findings():
    audit = audit_vocabulary(load_tokenizer(pairs_bpe("gpt-2")), progress=False)
    unreachable = {f.text for f in audit.findings if f.kind == "unreachable"}
    assert "no sequence of merges gives it" not in {f.why for f in audit.findings}
    assert "Ġa" not in unreachable and "aa" not in unreachable


TOK = load_tokenizer(pairs_bpe("qwen2"))
MERGED = merged_tokens(TOK, range(TOK.n_vocab))


@settings(max_examples=60)
@given(st.text(alphabet="aAsSt1 \n'.é漢", max_size=30))
def test_what_comes_out_of_texts_is_never_called_unreachable(text):
    ids = TOK.encode(text)
    assert all(MERGED[i] for i in ids)
    unreachable = set(AUDIT.ids("unreachable"))
    assert not unreachable & set(ids)


AUDIT = audit_vocabulary(TOK)
LADDER = load_tokenizer(ladder_spm())
LADDER_AUDIT = audit_vocabulary(LADDER)


@settings(max_examples=60)
@given(st.text(alphabet="abcdeho., é", max_size=30))
def test_what_comes_out_of_spm_texts_is_never_called_unreachable(text):
    assert not set(LADDER_AUDIT.ids("unreachable")) & set(LADDER.encode(text, add_special=False))


def test_merges_may_stand_in_any_order():
    tok = load_tokenizer(bpe([*"abc", "ab", "abc"], ["ab c", "a b"], pre="gpt-2"))
    np.testing.assert_array_equal(buildable_tokens(tok), True)


def test_the_audit_is_a_table_and_a_line():
    audit = audit_vocabulary(load_tokenizer(FLAWED), n_longest=3)
    frame = audit.to_frame()
    assert list(frame.columns) == ["token_id", "text", "kind", "why"]
    assert len(frame) == len(audit.findings) and len(audit.longest) == 3
    assert "263 tokens: 4 unreachable, 2 unbuildable, 1 control-like" in repr(audit)
    with pytest.raises(ParameterError, match="n_longest: expected a whole number, got -1"):
        audit_vocabulary(TOK, n_longest=-1)


@needs_reference
def test_llamas_vocabulary():
    with open_gguf(REFERENCE / "vocab" / "ggml-vocab-llama-spm.gguf") as gguf:
        audit = audit_vocabulary(load_tokenizer(gguf), progress=False)
    assert audit.missing_bytes == () and audit.n_open == 0
    whys_of = {f.why for f in audit.findings if f.kind == "unreachable"}
    assert whys_of == {"a byte that UTF-8 never has", "its character has a token of its own"}
    assert audit.counts()["double"] == 96  # printable ASCII characters and their bytes


def test_fertility_counts_by_hand():
    tok = load_tokenizer(FLAWED | {"tokenizer.ggml.pre": "gpt-2"})
    result = fertility({"mine": tok}, {"t": "bc é", "漢": "漢字"})
    first, second = result.costs
    assert (first.n_bytes, first.n_characters, first.n_words, first.n_tokens) == (5, 4, 2, 3)
    assert (first.bytes_per_token, first.tokens_per_word) == (5 / 3, 1.5)
    assert second.script == "Han" and second.n_words is None and second.n_tokens == 6
    assert math.isnan(second.tokens_per_word) and second.tokens_per_character == 3


def test_fertility_tables_have_a_column_for_each_tokenizer():
    result = fertility({"one": TOK, "two": LADDER})
    table = result.table("bytes_per_token")
    assert list(table.columns) == ["one", "two"] and list(table.index) == list(SAMPLES)
    scripts = result.by_script()
    assert len(scripts) >= 15 and list(scripts.columns) == ["one", "two"]
    assert len(result.to_frame()) == 2 * len(SAMPLES)
    with pytest.raises(ParameterError, match=r"measure: expected one of .* got 'speed'"):
        result.table("speed")


def test_samples_are_what_they_say():
    scripts = {name: script_of(text) for name, text in SAMPLES.items()}
    assert len(set(scripts.values())) >= 15
    assert (scripts["Russian"], scripts["Japanese"], scripts["Korean"]) == (
        "Cyrillic",
        "Kana",
        "Hangul",
    )
    assert script_of("123 +") == "Common"


@pytest.mark.parametrize(
    ("tokenizers", "error"),
    [
        ({}, "expected a Tokenizer or a mapping of them, got an empty one"),
        (7, "expected a Tokenizer or a mapping of them, got int"),
        ({"a": 7}, r"tokenizers\['a'\]: expected a Tokenizer, got int"),
    ],
)
def test_tokenizers_are_checked(tokenizers, error):
    with pytest.raises(ParameterError, match=error):
        fertility(tokenizers)


def test_round_trips_say_where_and_why():
    trips = {trip.name: trip for trip in round_trips(LADDER).trips}
    assert trips["English"].at is None and trips["English"].why == ""
    odd = trips["space sign of SentencePiece"]
    assert (odd.at, odd.why) == (1, "▁ is read as a space")
    tok = load_tokenizer(pairs_bpe("gpt-2"))  # cleans spaces
    failed = round_trips(tok, {"a": "a , b", "b": "ab"}).failed
    assert [(trip.name, trip.at, trip.why) for trip in failed] == [
        ("a", 1, "white space was changed")
    ]


def test_round_trips_of_what_cannot_be_spelled():
    tok = load_tokenizer(GAPS | {"tokenizer.ggml.add_bos_token": False})
    trip = round_trips(tok, {"x": "c"}).trips[0]
    assert trip.at == 0 and trip.why.startswith("cannot be encoded")
    assert repr(round_trips(tok, {"x": "c", "y": "a"})) == "RoundTrips(1 of 2 come back)"
    with pytest.raises(ParameterError, match="texts: expected a mapping"):
        round_trips(tok, "text")
