"""Loading from damaged or hostile metadata: one clear error, or llama.cpp's reading of it."""

import numpy as np
import pytest

from tests.tokenizer.vocabularies import bpe, ladder_spm, pairs_bpe
from workbench.errors import GGUFError, ParameterError, UnsupportedError
from workbench.tokenizer import load_tokenizer

KEY = "tokenizer.ggml."


def without(metadata, key):
    return {name: value for name, value in metadata.items() if name != KEY + key}


@pytest.mark.parametrize("key", ["model", "tokens", "merges"])
def test_missing_keys_are_named(key):
    with pytest.raises(GGUFError, match=f"the key {KEY}{key} is missing"):
        load_tokenizer(without(pairs_bpe("gpt-2"), key))


@pytest.mark.parametrize("model", ["none", "test", "", "x" * 1000])
def test_other_models_are_unsupported_by_name(model):
    metadata = ladder_spm() | {KEY + "model": model}
    with pytest.raises(UnsupportedError, match=rf"{model[:40]}' is not supported; .*gpt2, llama"):
        load_tokenizer(metadata)


def test_unknown_pre_tokenizer_names_the_known_ones():
    with pytest.raises(UnsupportedError, match=r"'my-pre'; expected one of .*gpt-2.*llama-bpe"):
        load_tokenizer(pairs_bpe("my-pre"))
    assert load_tokenizer(pairs_bpe("my-pre"), pre="llama3").pre == "llama3"
    with pytest.raises(UnsupportedError, match="load_tokenizer: pre"):
        load_tokenizer(pairs_bpe("gpt-2"), pre="nothing")


def test_missing_or_empty_pre_means_the_default_set():
    for metadata in (without(pairs_bpe("gpt-2"), "pre"), pairs_bpe("")):
        tok = load_tokenizer(metadata)
        assert tok.pre == "default"
        assert tok.encode("a1 $!") == load_tokenizer(pairs_bpe("default")).encode("a1 $!")


def test_pre_for_a_model_without_one():
    with pytest.raises(ParameterError, match="no pre-tokenizer"):
        load_tokenizer(ladder_spm(), pre="gpt-2")


@pytest.mark.parametrize("source", [None, 3, "model.gguf", []])
def test_sources_without_metadata(source):
    with pytest.raises(ParameterError, match="expected a GGUFFile or a mapping"):
        load_tokenizer(source)


@pytest.mark.parametrize("key", ["scores", "token_type"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "has the wrong length; expected one entry a token"),
        ([], "wrong"),
        (["a", "b"], "has the wrong type"),
        ([[1], [2, 3]], "has the wrong type"),
        ("text", "has the wrong type"),
        (7, "has the wrong type"),
        (None, "has the wrong type"),
        ([10**400], "has the wrong type"),
        ([True, False], "has the wrong type"),
    ],
)
def test_numbers_of_wrong_type_or_length(key, value, message):
    with pytest.raises(GGUFError, match=f"{KEY}{key} {message}|{KEY}{key} has the wrong"):
        load_tokenizer(ladder_spm(**{key: value}))


def test_float_token_types_and_nan_scores():
    n = len(ladder_spm()[KEY + "tokens"])
    with pytest.raises(GGUFError, match="token_type has the wrong type; expected an array of int"):
        load_tokenizer(ladder_spm(token_type=np.ones(n)))
    with pytest.raises(GGUFError, match=r"scores\[0\] is not a number"):
        load_tokenizer(ladder_spm(scores=np.full(n, np.nan, np.float32)))


def test_token_types_nobody_knows_are_undefined():
    n = len(ladder_spm()[KEY + "tokens"])
    tok = load_tokenizer(ladder_spm(token_type=np.full(n, -5, np.int32)))
    assert tok.attribute(5) == 0 and tok.piece(5) == b""


def test_missing_scores_and_types_are_zero_and_normal():
    tok = load_tokenizer(without(without(ladder_spm(), "scores"), "token_type"))
    assert tok.piece(3) == b"<0x00>"
    assert tok.decode(tok.encode("abcd", add_special=False)) == "abcd"


@pytest.mark.parametrize("tokens", [[1, 2], [b"a"], "ab", {"a": 1}, 5, None, [["a"]], ["a", None]])
def test_token_lists_that_hold_no_strings(tokens):
    with pytest.raises(GGUFError, match="tokens has the wrong type; expected an array of strings"):
        load_tokenizer(bpe(tokens, [], pre="gpt-2"))


def test_empty_vocabulary():
    with pytest.raises(GGUFError, match="tokens is empty"):
        load_tokenizer(bpe([], [], pre="gpt-2"))


def test_two_ids_with_one_text():
    with pytest.raises(GGUFError, match="'b' twice, as ids 1 and 3"):
        load_tokenizer(bpe(["a", "b", "c", "b"], [], pre="gpt-2"))


def test_empty_texts_get_a_name_as_in_llama_cpp():
    tok = load_tokenizer(bpe(["a", "", ""], [], pre="gpt-2"))
    assert tok.token_text(2) == "[EMPTY_2]"


@pytest.mark.parametrize("line", ["ab", "", " ", "a ", " b"])
def test_merges_without_two_parts(line):
    with pytest.raises(GGUFError, match=r"merges\[1\] is .*expected two symbols with a space"):
        load_tokenizer(bpe(["a", "b", "ab"], ["a b", line], pre="gpt-2"))


def test_merges_that_make_no_token():
    with pytest.raises(GGUFError, match=r"merges\[0\] makes 'ba'; expected a text of"):
        load_tokenizer(bpe(["a", "b", "ab"], ["b a"], pre="gpt-2"))


def test_of_equal_merges_the_first_counts():
    tok = load_tokenizer(bpe([*"abc", "ab", "bc"], ["a b", "b c", "a b"], pre="gpt-2"))
    assert [tok.token_text(i) for i in tok.encode("abc")] == ["ab", "c"]


def test_byte_tokens_that_name_no_byte():
    metadata = ladder_spm()
    metadata[KEY + "tokens"][3] = "<0xZZ>"
    with pytest.raises(GGUFError, match="token 3 is a byte with the text '<0xZZ>'"):
        load_tokenizer(metadata)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("add_bos_token", 1, "expected bool, got int"),
        ("bos_token_id", "1", "expected int, got str"),
        ("eos_token_id", True, "expected int, got bool"),
        ("add_space_prefix", [True], "expected bool, got list"),
        ("model", 3, "expected str, got int"),
    ],
)
def test_scalars_of_another_type(key, value, message):
    with pytest.raises(GGUFError, match=f"{key} has the wrong type; {message}"):
        load_tokenizer(ladder_spm(**{key: value}))


def test_numpy_scalars_and_arrays_will_do():
    metadata = ladder_spm(bos_token_id=np.uint32(2), add_bos_token=np.bool_(True))
    for key in ("tokens", "scores", "token_type"):
        metadata[KEY + key] = np.array(metadata[KEY + key])
    assert load_tokenizer(metadata).encode("") == [2]


def test_tokens_that_are_no_utf8_keep_their_bytes():
    tok = load_tokenizer(ladder_spm(pre="x") | {KEY + "tokens": _with_last("\udcff\udcfe")})
    assert tok.piece(tok.n_vocab - 1) == b"\xff\xfe"


def _with_last(text):
    return [*ladder_spm()[KEY + "tokens"][:-1], text]


def test_add_sep_without_a_sep_token_changes_nothing_as_in_llama_cpp():
    bare = load_tokenizer(without(pairs_bpe("roberta-bpe"), "seperator_token_id"))
    assert bare.rules.add_sep and bare.special.sep is None
    assert bare.encode("aA 11", True, True) == [257, 32, 411]  # llama.cpp's ids


@pytest.mark.parametrize("role", ["bos", "eos"])
def test_a_flag_that_adds_a_token_needs_that_token(role):
    file = pairs_bpe("gemma4") | {KEY + "model": "gemma4", f"{KEY}add_{role}_token": True}
    with pytest.raises(
        GGUFError, match=f"add_{role}_token is true, but the file has no {role.upper()} t"
    ):
        load_tokenizer(without(file, f"{role}_token_id"))
