"""`tok.trace(text)`: its ids are encode's, its replay too, and every stage says what happened."""

import json
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import REFERENCE, needs_reference
from tests.tokenizer.small_models import bytes_and_pieces, unigram, wordpieces, world
from tests.tokenizer.vocabularies import PAIR_TEXT, bpe, ladder_spm, pairs_bpe, spm
from workbench.errors import ParameterError
from workbench.gguf import open_gguf
from workbench.tokenizer import load_tokenizer
from workbench.tokenizer.pretokenize import PRE_TOKENIZERS, split_words
from workbench.tokenizer.trace import MAX_TRACE_BYTES
from workbench.tokenizer.trace_words import regex_cuts

UNHURRIED = settings(deadline=None)  # machines under load are slow, not wrong
FLAGS = list(product((False, True), repeat=2))
PAIRS = load_tokenizer(pairs_bpe("qwen2"))
LADDER = load_tokenizer(ladder_spm())
HELLO = load_tokenizer(
    bpe(
        [*"helo", "ll", "lo", "el", "he", "llo", "hello"],
        ["l l", "ll o", "l o", "h e", "e l", "he llo"],
        pre="gpt-2",
    )
)
TOKENIZERS = [PAIRS, LADDER, HELLO] + [
    load_tokenizer(pairs_bpe(pre)) for pre in ("llama-bpe", "deepseek-v3", "chameleon")
]
OTHERS = [load_tokenizer(make()) for make in (wordpieces, unigram, world, bytes_and_pieces)]
TEXTS = st.text() | st.text(PAIR_TEXT + " <s></s><tool><x>") | st.text("abcdeho., é<tool>s|im_end")
VOCABULARIES = sorted((REFERENCE / "vocab").glob("*.gguf"))


def assert_a_faithful_trace(tok, text):
    for add_special, parse_special in FLAGS:
        trace = tok.trace(text, add_special, parse_special)
        assert trace.ids == trace.replay() == tok.encode(text, add_special, parse_special)


@UNHURRIED
@given(TEXTS)
def test_ids_and_replay_are_what_encode_gives(text):
    for tok in TOKENIZERS:
        assert_a_faithful_trace(tok, text)


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_every_pre_tokenizer_is_traced(pre):
    tok, regexes = load_tokenizer(pairs_bpe(pre)), PRE_TOKENIZERS[pre].regexes
    text = "Hasn't aAé 12345,\n\n a漢\u3000sS.\t <tool>!!  ~_1's\r\n" * 2 + "  "
    assert_a_faithful_trace(tok, text)
    cuts = regex_cuts(text, regexes, pre)
    assert [text[start:end] for start, end, _ in cuts] == split_words(text, regexes)
    assert all(cut is None or cut.pattern == regexes[cut.index] for _, _, cut in cuts)


@UNHURRIED
@given(st.text() | st.text("abcdefé\u0301AX ▁#株㍿①ﬁ<>\t"))
def test_greedy_and_lattice_models_are_traced_as_faithfully(text):
    for tok in OTHERS:
        try:
            tok.encode(text)
        except ParameterError as error:
            with pytest.raises(ParameterError, match=re.escape(str(error))):
                tok.trace(text)
            continue
        assert_a_faithful_trace(tok, text)
        trace = tok.trace(text)
        for token in trace.tokens:
            assert token.span is None or 0 <= token.span.byte_start <= token.span.byte_end
        assert json.loads(json.dumps(trace.to_dict()))["ids"] == trace.ids and str(trace)


@st.composite
def random_bpe(draw):
    """A vocabulary of random merges over four letters and a space."""
    tokens = [*"abcdĠ"]
    merges = []
    for _ in range(draw(st.integers(0, 25))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        merges.append(f"{left} {right}")
        if left + right not in tokens:
            tokens.append(left + right)
    pre = draw(st.sampled_from(["gpt-2", "llama-bpe", "poro-chat"]))
    return bpe(tokens, draw(st.permutations(merges)), pre=pre, add_bos_token=False)


@st.composite
def random_spm(draw):
    """Random pieces with few scores, so that ties are common; often no bytes for a fallback."""
    texts = draw(st.lists(st.text("ab▁é", min_size=1, max_size=5), unique=True, max_size=25))
    scores = st.sampled_from([-1.0, -2.0, -3.0, 0.0])
    singles = [(c, draw(scores), 1) for c in "ab▁é" if c not in texts]
    tokens = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *singles]
    return spm(tokens + [(text, draw(scores), 1) for text in texts])


@UNHURRIED
@given(random_bpe(), st.text("abcd ", max_size=40))
def test_random_byte_level_vocabularies(metadata, text):
    assert_a_faithful_trace(load_tokenizer(metadata), text)


@UNHURRIED
@given(random_spm(), st.text("abé ", max_size=40))
def test_random_sentencepiece_vocabularies(metadata, text):
    assert_a_faithful_trace(load_tokenizer(metadata), text)


@needs_reference
@pytest.mark.parametrize("path", VOCABULARIES, ids=lambda path: path.stem)
def test_every_fuzz_text_of_the_reference(path):
    with open_gguf(path) as gguf:
        tok = load_tokenizer(gguf)
    for line in path.with_suffix(".fuzz.jsonl").read_text().splitlines():
        case = json.loads(line)
        for ids, (add_special, parse_special) in (("ids_ff", FLAGS[0]), ("ids_tt", FLAGS[3])):
            trace = tok.trace(case["text"], add_special, parse_special)
            assert trace.ids == trace.replay() == case[ids]


def test_each_merge_names_its_rank_place_and_losers():
    steps = HELLO.trace("hello").words[0].steps
    made = [(step.left, step.right, step.rank, step.start, step.end) for step in steps]
    assert made == [
        ("l", "l", 0, 2, 4), ("ll", "o", 1, 2, 5), ("h", "e", 3, 0, 2), ("he", "llo", 5, 0, 5)
    ]  # fmt: skip
    losers = [[(lost.left, lost.right, lost.rank) for lost in step.losers] for step in steps]
    assert losers == [
        [("l", "o", 2), ("h", "e", 3), ("e", "l", 4)], [("h", "e", 3)], [], []
    ]  # fmt: skip
    assert [step.n_losers for step in steps] == [3, 1, 0, 0]


def test_equal_scores_merge_from_left_to_right():
    steps = LADDER.trace("bcabc", add_special=False).words[0].steps  # "ab" and "bc" both score -3
    assert [(step.result, step.score, step.start) for step in steps[:2]] == [
        ("bc", -3.0, 1), ("ab", -3.0, 3)
    ]  # fmt: skip
    assert [(lost.left + lost.right, lost.start) for lost in steps[0].losers] == [
        ("ab", 3), ("bc", 4), ("▁b", 0)
    ]  # fmt: skip


def test_special_tokens_and_the_space_they_swallow():
    tok = load_tokenizer(ladder_spm() | {"general.name": "Phi-3 mini"})
    trace = tok.trace("a</s> \n b<tool>", parse_special=True)
    assert [(s.text, s.left, s.right) for s in trace.specials] == [
        ("</s>", "", " \n "), ("<tool>", "", "")
    ]  # fmt: skip
    end = trace.specials[0].span
    assert (end.start, end.end, end.byte_start, end.byte_end) == (1, 8, 1, 8)
    assert [f.text for f in trace.fragments] == ["a", "b"]
    assert [f.normalised for f in trace.fragments] == ["▁a", "▁b"]


def test_words_name_the_regex_that_cut_them():
    tok = load_tokenizer(pairs_bpe("deepseek-v3"))
    cuts = [(word.text, word.cut.index, word.cut.matched) for word in tok.trace("aña 2024:").words]
    assert cuts == [
        ("aña", 2, True), (" ", 2, True), ("202", 0, True), ("4", 0, True), (":", 2, True)
    ]  # fmt: skip
    assert tok.trace("a").words[0].cut.name == "deepseek-v3"


def test_text_between_matches_says_so():
    tok = load_tokenizer(pairs_bpe("poro-chat"))
    found = [(word.text, word.cut.matched) for word in tok.trace("a,b").words]
    assert found == [("a", True), (",", False), ("b", True)]


def test_a_whole_word_skips_the_merges():
    tok = load_tokenizer(bpe([*"abc", "bc", "abc"], ["b c"], pre="llama-bpe", add_bos_token=False))
    (word,) = tok.trace("abc").words
    assert (word.steps, word.lookups[0].how, word.token_ids) == ((), "whole word", (4,))
    assert str(word.tree()).splitlines()[0] == "abc   #4 (whole word)"


def test_bytes_without_a_token_are_dropped_and_named():
    (word,) = load_tokenizer(bpe(["a"], [], pre="gpt-2")).trace("aé").words
    assert [(lookup.how, lookup.token_ids) for lookup in word.lookups] == [
        ("token", (0,)), ("dropped", ()), ("dropped", ())
    ]  # fmt: skip


def test_byte_fallback_gives_each_id_its_byte():
    tokens = LADDER.trace("€ a").tokens[1:]
    spans = [(t.text, t.how, t.span.byte_start, t.span.byte_end) for t in tokens]
    assert spans == [
        ("▁", "token", 0, 0),  # stands for the space that was put in front
        ("<0xE2>", "bytes", 0, 1), ("<0x82>", "bytes", 1, 2), ("<0xAC>", "bytes", 2, 3),
        ("▁a", "token", 3, 5),
    ]  # fmt: skip


@UNHURRIED
@given(TEXTS)
def test_byte_level_tokens_lie_end_to_end_in_the_text(text):
    raw, at = text.encode(), 0
    for token in PAIRS.trace(text, parse_special=True).tokens:
        assert token.span.byte_start == at
        at = token.span.byte_end
        assert raw[token.span.byte_start : at] == token.piece
        assert token.piece in text[token.span.start : token.span.end].encode()
    assert at == len(raw)


@UNHURRIED
@given(TEXTS)
def test_sentencepiece_tokens_lie_end_to_end_in_the_text(text):
    raw, at = text.encode(), 0
    for token in LADDER.trace(text, parse_special=True).tokens[1:]:
        assert token.span.byte_start == at
        at = token.span.byte_end
        own = raw[token.span.byte_start : at]
        assert own.decode(errors="replace").replace("▁", " ").strip(" ") == (
            token.piece.decode(errors="replace").strip(" ")
        )
    assert at == len(raw)


def test_added_tokens_have_no_place():
    tok = load_tokenizer(ladder_spm(add_eos_token=True))
    tokens = tok.trace("a").tokens
    assert [(t.text, t.how, t.span is None, t.word) for t in tokens] == [
        ("<s>", "added", True, None), ("▁a", "token", False, 0), ("</s>", "added", True, None)
    ]  # fmt: skip


def test_an_empty_text_has_no_stages():
    trace = PAIRS.trace("")
    assert (trace.ids, trace.stages, trace.words) == ([], (), ())
    assert "ids" in str(trace)


@settings(UNHURRIED, max_examples=20)
@given(TEXTS)
def test_every_trace_can_be_printed_tabled_and_written_as_json(text):
    for tok in (PAIRS, LADDER):
        trace = tok.trace(text, parse_special=True)
        assert len(str(trace).splitlines()) < 100 + 30 * len(trace.words)
        assert json.loads(json.dumps(trace.to_dict()))["ids"] == trace.ids
        for word in trace.words:
            assert str(word.tree())


def test_prints_all_stages():
    lines = str(LADDER.trace("abc<tool>€")).splitlines()
    assert lines == [
        "tokenizer   llama",
        'text        "abc<tool>€" (10 characters, 12 bytes)',
        'fragment    "abc", bytes 0..3',
        'normalised  "▁abc"',
        '  word 0    "▁abc", bytes 0..3',
        "    0       ▁ + a (score -1, at 0); lost: a + b (score -3), b + c (score -3)",
        "    1       ▁a + b (score -2, at 0); lost: b + c (score -3)",
        f"            ▁ab -> {LADDER.encode('ab')[1]}, c -> {LADDER.encode('c')[-1]}",
        "special     <tool> -> 285, bytes 3..9",
        'fragment    "€", bytes 9..12',
        'normalised  "▁€"',
        '  word 1    "▁€", bytes 9..12: ▁ -> 259, € -> 229 133 175 (bytes)',
        "added       1 in front",
        f"ids         {' '.join(map(str, LADDER.encode('abc<tool>€')))}",
    ]


def test_a_long_text_prints_short_and_says_what_it_leaves_out():
    text = str(PAIRS.trace("a " * 5000))
    assert len(text) < 6000
    assert "4,977 more words" in text and "more" in text.splitlines()[-1]


def test_tables_of_every_stage():
    trace = LADDER.trace("abc<tool>€")
    steps, losers = trace.to_frame("steps"), trace.to_frame("losers")
    assert steps["result"].tolist() == ["▁a", "▁ab"] and steps["n_losers"].tolist() == [2, 1]
    assert losers["score"].tolist() == [-3.0, -3.0, -3.0]
    assert trace.to_frame("special")["text"].tolist() == ["<tool>"]
    assert trace.to_frame("normalise")["normalised"].tolist() == ["▁abc", "▁€"]
    assert trace.to_frame("words")["n_symbols"].tolist() == [4, 2]
    assert trace.to_frame("lookups")["how"].tolist() == ["token", "token", "token", "bytes"]
    assert trace.to_frame()["token_id"].tolist() == trace.ids
    assert list(LADDER.trace("").to_frame("words").columns)[:2] == ["word", "text"]


def test_an_unknown_stage_is_named():
    with pytest.raises(ParameterError, match="no stage is called 'merge'; expected one of special"):
        LADDER.trace("a").to_frame("merge")


def test_the_tree_of_a_word():
    (word,) = HELLO.trace("hello").words
    assert str(word.tree()).splitlines() == [
        "hello   step 3, rank 5, #9",
        "├── he   step 2, rank 3",
        "│   ├── h",
        "│   └── e",
        "└── llo   step 1, rank 1",
        "    ├── ll   step 0, rank 0",
        "    │   ├── l",
        "    │   └── l",
        "    └── o",
    ]
    (nested,) = word.tree().to_dict()
    assert [child["symbol"] for child in nested["children"]] == ["he", "llo"]


def test_a_long_word_keeps_no_losers_but_counts_them():
    (word,) = PAIRS.trace("aA" * 5000).words
    assert len(word.steps) == 5000
    assert word.steps[0].losers == () and word.steps[0].n_losers == 9998
    assert len(str(word.tree()).splitlines()) == 401
    (word,) = PAIRS.trace("aA" * 500).words
    assert len(word.steps[0].losers) == 16 and word.steps[0].n_losers == 998


def test_a_text_too_long_to_trace_is_refused():
    with pytest.raises(ParameterError, match=r"trace: .* expected at most 2,097,152 bytes"):
        PAIRS.trace("é" * (MAX_TRACE_BYTES // 2 + 1))


def test_a_wrong_text_is_refused_as_by_encode():
    with pytest.raises(ParameterError, match=r"lone surrogate U\+D800"):
        PAIRS.trace("\ud800")
    assert PAIRS.trace(b"aA").ids == PAIRS.encode("aA")
