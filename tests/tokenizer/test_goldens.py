"""Ids and bytes equal to llama.cpp's: on our own vocabularies, and on those of real models."""

import json
from pathlib import Path

import pytest

from tests.conftest import REFERENCE, needs_reference
from tests.tokenizer.vocabularies import ladder_spm, pairs_bpe, texts_for
from workbench.gguf.reader import open_gguf
from workbench.tokenizer import PRE_TOKENIZERS, load_tokenizer

GOLDENS = json.loads((Path(__file__).parents[1] / "data" / "tokenizer.json").read_text())
REAL = ["llama-spm", "gpt-2", "llama-bpe", "phi-3", "qwen2", "deepseek-llm", "bert-bge"]
SEPARATOR = "\n__ggml_vocab_test__\n"


def assert_equal_to(goldens, tokenizer, texts=GOLDENS["texts"]):
    for text, golden in zip(texts, goldens, strict=True):
        assert tokenizer.encode(text, False, False) == golden["plain"], text
        assert tokenizer.encode(text, True, True) == golden["special"], text
        assert tokenizer.decode_bytes(golden["special"]).hex() == golden["bytes"], text


@pytest.mark.parametrize("pre", GOLDENS["bpe"])
def test_every_pre_tokenizer_cuts_like_llama_cpp(pre):
    texts = texts_for(pre, GOLDENS["texts"])
    assert_equal_to(GOLDENS["bpe"][pre], load_tokenizer(pairs_bpe(pre)), texts)


def test_gemma4_takes_its_own_pre_tokenizer_and_equals_llama_cpp():
    file = pairs_bpe("gemma4") | {"tokenizer.ggml.model": "gemma4"}
    file["tokenizer.ggml.pre"] = "qwen2"  # llama.cpp does not look at it
    assert_equal_to(GOLDENS["gemma4"], load_tokenizer(file))


def test_every_regex_set_has_a_golden():
    golden = {PRE_TOKENIZERS[name] for name in GOLDENS["bpe"]}
    assert set(PRE_TOKENIZERS.values()) == golden


def test_spm_equals_llama_cpp():
    assert_equal_to(GOLDENS["spm"], load_tokenizer(ladder_spm()))


def test_spm_without_space_prefix_and_with_eos_equals_llama_cpp():
    bare = ladder_spm(add_space_prefix=False, add_eos_token=True)
    assert_equal_to(GOLDENS["spm_bare"], load_tokenizer(bare))


@pytest.fixture(scope="module", params=REAL)
def real(request):
    stem = REFERENCE / "vocab" / f"ggml-vocab-{request.param}"
    with open_gguf(stem.with_name(stem.name + ".gguf")) as gguf:
        yield stem, load_tokenizer(gguf)


@needs_reference
def test_ids_of_every_fuzz_line(real):
    stem, tokenizer = real
    for line in stem.with_name(stem.name + ".fuzz.jsonl").open(encoding="utf-8"):
        golden = json.loads(line)
        for add_special, parse_special in ((0, 0), (1, 0), (0, 1), (1, 1)):
            key = f"ids_{'ft'[add_special]}{'ft'[parse_special]}"
            ids = tokenizer.encode(golden["text"], bool(add_special), bool(parse_special))
            assert ids == golden[key], (golden["i"], key)


@needs_reference
def test_bytes_of_every_fuzz_line(real):
    stem, tokenizer = real
    for line in stem.with_name(stem.name + ".fuzz.jsonl").open(encoding="utf-8"):
        golden = json.loads(line)
        assert tokenizer.decode_bytes(golden["ids_ff"]).hex() == golden["detok_ff"], golden["i"]
        assert tokenizer.decode_bytes(golden["ids_tt"]).hex() == golden["detok_tt"], golden["i"]
        clean = tokenizer.decode_bytes(golden["ids_tt"], remove_special=True, unparse_special=False)
        assert clean.hex() == golden["detok_tt_clean"], golden["i"]


@needs_reference
def test_ids_of_llama_cpps_own_tests(real):
    stem, tokenizer = real
    raw = stem.with_name(stem.name + ".gguf.inp").read_bytes().decode("utf-8")
    lines = stem.with_name(stem.name + ".gguf.out").read_text().split("\n")
    for text, line in zip(raw.split(SEPARATOR), lines, strict=True):
        assert tokenizer.encode(text, add_special=False) == [int(word) for word in line.split()]


@needs_reference
def test_special_ids_flags_pieces_and_attributes(real):
    stem, tokenizer = real
    info = json.loads(stem.with_name(stem.name + ".info.json").read_text())
    assert tokenizer.n_vocab == info["n_tokens"]
    assert sorted(tokenizer.eog_ids) == info["eog"]
    rules = tokenizer.rules
    flags = (rules.add_bos, rules.add_eos, rules.add_sep)
    assert flags == (info["add_bos"], info["add_eos"], info["add_sep"])
    for role, token_id in info["special"].items():
        if role != "nl":  # llama.cpp's newline id plays no part in tokenizing
            assert getattr(tokenizer.special, role) == (None if token_id < 0 else token_id), role
    for golden in info["pieces"]:
        token_id = golden["id"]
        assert int(tokenizer.attribute(token_id)) == golden["attr"], token_id
        assert tokenizer.piece(token_id).hex() == golden["piece"], token_id
        assert tokenizer.piece(token_id, special=True).hex() == golden["piece_special"], token_id


@needs_reference
def test_every_reference_model_has_a_tokenizer():
    paths = sorted((REFERENCE / "logits").glob("*.gguf"))
    assert paths
    for path in paths:
        with open_gguf(path) as gguf:
            tokenizer = load_tokenizer(gguf)
        text = b"".join(tokenizer.piece(i) for i in tokenizer.encode("a b\n", add_special=False))
        assert text.lstrip() == b"a b\n", path.name
