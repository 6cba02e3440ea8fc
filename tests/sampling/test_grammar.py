"""Grammars over tokens: masks by hand, llama.cpp's masks for GBNF, and text that always parses."""

import gc
import json
import math
import re
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import BUILTIN_MODEL, REFERENCE, ROOT, needs_reference
from tests.tokenizer import small_models, vocabularies
from workbench import generate, load_model, load_tokenizer, open_gguf
from workbench.errors import ParameterError, UnsupportedError
from workbench.sampling import SamplerChain, SamplingParams, grammar

GOLDENS = json.loads((ROOT / "tests/data/gbnf.json").read_text())
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


class Letters:
    """A vocabulary of given pieces; the last token ends the text and prints nothing."""

    def __init__(self, *pieces, ends=True):
        self.pieces = [piece.encode() for piece in pieces] + [b""] * ends
        self.n_vocab = len(self.pieces)
        self.eog_ids = frozenset({self.n_vocab - 1} if ends else ())

    def piece(self, token_id):
        return self.pieces[token_id]

    def texts(self, made):
        """What may come next, "end" for the token that ends."""
        return [self.pieces[i].decode() or "end" for i in np.flatnonzero(made.mask())]


@pytest.fixture(scope="module")
def tokenizer():
    with open_gguf(BUILTIN_MODEL) as gguf:
        return load_tokenizer(gguf)


def test_a_regex_allows_the_pieces_that_go_on_and_the_end_where_it_is_complete():
    letters = Letters("y", "ye", "es", "s", "no", "x")
    made = grammar.regex("yes|no", letters)
    assert letters.texts(made) == ["y", "ye", "no"] and not made.is_finished
    made.accept(0)
    assert letters.texts(made) == ["es"]
    made.accept(2)
    assert letters.texts(made) == ["end"] and made.is_finished
    made.accept(6)
    assert letters.texts(made) == [] and made.is_finished and not made.allows(6)


def test_a_text_that_is_complete_may_still_go_on():
    letters = Letters("a", "aa")
    made = grammar.regex("a{1,2}", letters)
    made.accept(0)
    assert letters.texts(made) == ["a", "end"]
    assert repr(made) == "TokenGrammar(regex, 3 tokens, text complete)"


def test_a_fork_goes_its_own_way_and_reset_returns_to_the_start():
    letters = Letters("a", "b", "c")
    made = grammar.lark('start: "a" "b" | "c"', letters)
    fork = made.fork()
    fork.accept(0)
    assert (letters.texts(made), letters.texts(fork)) == (["a", "c"], ["b"])
    fork.accept(1)
    fork.accept(3)
    fork.reset()
    assert letters.texts(fork) == ["a", "c"] and not fork.is_finished


def test_a_token_that_the_grammar_refuses_is_not_accepted_and_changes_nothing():
    letters = Letters("a", "b")
    made = grammar.regex("ab", letters)
    with pytest.raises(ParameterError, match="regex: token 1 may not come next"):
        made.accept(1)
    assert letters.texts(made) == ["a"]
    with pytest.raises(ParameterError, match="expected a token from 0 to 2, got 3"):
        made.allows(3)


def test_a_literal_need_not_be_written_by_the_most_usual_tokens():
    letters = Letters("{", "{}", "}", '{"', "x")
    assert letters.texts(grammar.json_schema({"type": "object"}, letters)) == ["{", "{}", '{"']


def test_gbnf_reads_a_language_and_not_the_longest_words():
    letters = Letters("a", "b", "x", "y")
    made = grammar.gbnf('root ::= word "a" "x" | [a] [b] "y"\nword ::= [a-b]+', letters)
    for token_id in (0, 1):
        made.accept(token_id)
    assert letters.texts(made) == ["a", "b", "y"]
    made.accept(0)
    assert letters.texts(made) == ["a", "b", "x"]


@pytest.mark.parametrize("text", GOLDENS["walks"])
def test_gbnf_allows_the_tokens_that_llama_cpp_allows(tokenizer, text):
    made = grammar.gbnf(text, tokenizer)
    for walk in GOLDENS["walks"][text]:
        made.reset()
        for ids, taken in walk:
            np.testing.assert_array_equal(np.flatnonzero(made.mask()), ids)
            made.accept(taken)


@pytest.mark.parametrize("text", GOLDENS["refused"])
def test_gbnf_that_llama_cpp_refuses_is_refused_with_its_place(tokenizer, text):
    with pytest.raises(ParameterError, match=r"^gbnf: line \d+, column \d+: .*; expected .*, got"):
        grammar.gbnf(text, tokenizer)


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_and_the_single_answers_agree_on_a_random_walk(tokenizer, seed):
    rng, made = np.random.default_rng(seed), grammar.json_schema(PERSON, tokenizer)
    for _ in range(6):
        mask = made.mask()
        single = [made.allows(token_id) for token_id in range(tokenizer.n_vocab)]
        np.testing.assert_array_equal(mask, single)
        made.accept(int(rng.choice(np.flatnonzero(mask))))
        if made.is_finished:
            break


@settings(max_examples=40, deadline=None)
@given(text=st.text("ab", max_size=6), pattern=st.sampled_from(["a*b", "(ab|b)*a?", "b{2,3}|a+"]))
def test_a_text_is_complete_exactly_where_the_pattern_matches_it(text, pattern):
    made = grammar.regex(pattern, Letters("a", "b"))
    ids = ["ab".index(letter) for letter in text]
    for token_id in ids:
        if not made.allows(token_id):
            assert not re.fullmatch(pattern, text)
            return
        made.accept(token_id)
    assert made.is_finished == bool(re.fullmatch(pattern, text))


def test_text_under_a_schema_parses_whatever_the_model_thinks_of_it():
    n_complete = 0
    with load_model(BUILTIN_MODEL, device="cpu") as model:
        for seed in range(6):
            made = grammar.json_schema(PERSON, model.tokenizer)
            params = SamplingParams(temperature=1.5, seed=seed)
            steps = list(generate(model, "A record:", SamplerChain(params, grammar=made), 60))
            if steps[-1].stop != "eog":
                assert steps[-1].stop == "max_tokens" and not made.is_finished
                continue
            person = json.loads("".join(step.text for step in steps))
            assert sorted(person) == ["age", "name", "tags"] and 0 <= person["age"] <= 150
            assert set(person["tags"]) <= {"a", "b"} and len(person["name"]) <= 12
            n_complete += 1
    assert n_complete >= 3


def test_random_logits_write_json_too(tokenizer):
    rng = np.random.default_rng(5)
    for _ in range(20):
        chain = SamplerChain([], seed=7, grammar=grammar.json_schema(PERSON, tokenizer))
        ids = []
        while not ids or ids[-1] not in tokenizer.eog_ids:
            logits = rng.standard_normal(tokenizer.n_vocab).astype(np.float32) * 3
            ids.append(chain.sample(logits)[0])
            assert len(ids) < 400
        assert sorted(json.loads(b"".join(map(tokenizer.piece, ids[:-1])))) == sorted(
            PERSON["required"]
        )


SPECIAL = {"bos_token_id": 1, "eos_token_id": 2}
VOCABULARIES = {
    "spm": vocabularies.ladder_spm(**SPECIAL),
    "bpe": vocabularies.pairs_bpe("llama-bpe"),
    "wpm": small_models.wordpieces(),
    "unigram": small_models.unigram(),
    "rwkv": small_models.world(),
    "plamo2": small_models.bytes_and_pieces(),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_kind_of_vocabulary_writes_by_a_grammar(name):
    tokenizer = load_tokenizer(VOCABULARIES[name])
    made = grammar.regex("[ a-e]{1,8}", tokenizer)
    for token_id in np.flatnonzero(made.mask()):
        assert re.fullmatch(rb"[ a-e]{1,8}", tokenizer.piece(int(token_id)))
    silent = [i for i in range(tokenizer.n_vocab) if not tokenizer.piece(i)]
    assert made.mask().any() and not made.mask()[silent].any()
    made.accept(int(np.flatnonzero(made.mask())[0]))
    assert all(made.allows(token_id) for token_id in tokenizer.eog_ids)


@needs_reference
@pytest.mark.parametrize("name", ["llama-bpe", "llama-spm"])
def test_vocabularies_of_real_models_write_json(name):
    tokenizer = load_tokenizer(open_gguf(REFERENCE / f"vocab/ggml-vocab-{name}.gguf"))
    made, text = grammar.json_schema(PERSON, tokenizer), '{"name": "Zoé 😀", "age": 7, "tags": []}'
    brace = next(i for i in np.flatnonzero(made.mask()) if tokenizer.piece(int(i)) == b"{")
    for token_id in [int(brace), *tokenizer.encode(text[1:], add_special=False)]:
        assert made.allows(token_id), tokenizer.piece(token_id)
        made.accept(token_id)
    assert made.is_finished and made.allows(min(tokenizer.eog_ids))


def test_a_vocabulary_is_opened_once_and_forgotten_with_its_tokenizer():
    letters = Letters("a")
    first = grammar.regex("a", letters)
    letters.pieces[0] = b"b"  # nobody looks again
    assert grammar.regex("a", letters).mask().tolist() == first.mask().tolist()
    watched = weakref.ref(letters)
    del letters
    gc.collect()
    assert watched() is None


def test_a_vocabulary_without_an_end_token_stops_where_nothing_can_follow():
    chain = SamplerChain(grammar=grammar.regex("a", Letters("a", "b", ends=False)))
    assert chain.sample(np.zeros(2, np.float32))[0] == 0
    with pytest.raises(ParameterError, match="no token of this vocabulary may come next"):
        chain.sample(np.zeros(2, np.float32))


BAD = [
    ("regex", "(", "regex: column 1: unclosed group"),
    ("regex", "ab[z-a]", "regex: column 4: invalid character class range"),
    ("regex", "x(?=y)", "regex: column 2: look-around"),
    ("regex", r"[^\s\S]", "regex: allows no text that this vocabulary can write"),
    ("regex", "é", "regex: allows no text that this vocabulary can write"),
    ("regex", 5, "regex: expected a text, got int"),
    ("regex", "a\ud800", r"regex: character 1 is the lone surrogate U\+D800"),
    ("lark", 'start: "a" ab\nab: foo', 'lark: line 2, column 5: unknown name: "foo"'),
    ("lark", 'a: "x"', "lark: no start rule found"),
    ("lark", "start: start", "lark: allows no text"),
    ("json_schema", '{"type":\n "strin"', r"json_schema: line 2, column 9: .*; expected JSON, got"),
    ("json_schema", {"type": "strin"}, "json_schema: Invalid type: strin"),
    ("json_schema", {"properties": {"a": {"items": {"type": "strin"}}}},
     "json_schema: at properties/a/items: Invalid type: strin"),
    ("json_schema", {"anyOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"type": "y"}}},
     r"json_schema: at \$defs/x: Invalid type: y"),
    ("json_schema", {"not": {}}, 'json_schema: Unimplemented keys: \\["not"\\]'),
    ("json_schema", False, "json_schema: Unsatisfiable schema"),
    ("json_schema", {"minimum": math.nan}, "json_schema: no JSON can stand for it"),
    ("json_schema", '{"minimum": NaN}', "json_schema: no JSON can stand for it"),
    ("json_schema", {"const": "\ud800"}, "json_schema: no JSON can stand for it; .*surrogates"),
    ("json_schema", "[" * 100_000, "json_schema: no JSON can stand for it"),
    ("json_schema", {"x-guidance": {"foo": 1}}, "json_schema: unknown field `foo`"),
    ("json_schema", [1], "json_schema: expected a mapping or JSON text, got list"),
    ("json_schema", "[1]", "json_schema: no schema; expected an object, true or false"),
    ("gbnf", "root ::= [z-a]", "gbnf: line 1, column 11: a range that ends before it begins"),
    ("gbnf", "root ::= []", "gbnf: line 1, column 10: an empty class"),
    ("gbnf", 'root ::= "\\ud800"', r"gbnf: line 1, column 11: U\+D800 is no character"),
    ("gbnf", "root ::= " + "(" * 200, "gbnf: line 1, column 110: too many parentheses"),
    ("gbnf", "root ::= root", "gbnf: allows no text"),
]  # fmt: skip


@pytest.mark.parametrize("kind, text, message", BAD, ids=range(len(BAD)))
def test_a_wrong_grammar_is_one_sentence_with_its_place(kind, text, message):
    with pytest.raises(ParameterError, match=rf"^{message}") as caught:
        getattr(grammar, kind)(text, Letters("a", "b", "{", '"', "0"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


LONG = 4000
TOO_LARGE = {
    "lark": "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(LONG)) + f'r{LONG}: "a"',
    "gbnf": "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(LONG))
    + f'r{LONG} ::= "a"',
    "json_schema": {"$ref": "#/$defs/d0", "$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"}
                                                    for i in range(LONG)}},
}  # fmt: skip


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_grammar_that_would_overflow_the_library_is_refused(kind):
    with pytest.raises(UnsupportedError, match=rf"^{kind}: too large; expected at most 1000"):
        getattr(grammar, kind)(TOO_LARGE[kind], Letters("a"))


def test_gbnf_does_not_know_tokens():
    with pytest.raises(UnsupportedError, match="line 1, column 10: tokens in a grammar are not"):
        grammar.gbnf("root ::= <think> .*", Letters("a"))
