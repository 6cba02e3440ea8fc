"""Aligned tokenizers by eye, and tokenizer.json files with one deliberate difference each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizer.vocabularies import bpe, ladder_spm, pairs_bpe, spm
from workbench import load_tokenizer
from workbench.analysis import compare_tokenizer_json, compare_tokenizers
from workbench.errors import GGUFError, ParameterError, UnsupportedError
from workbench.tokenizer.pretokenize import PRE_TOKENIZERS

PAIRS = pairs_bpe("qwen2")
OURS = load_tokenizer(PAIRS)
LADDER = load_tokenizer(ladder_spm())
QWEN2 = PRE_TOKENIZERS["qwen2"].regexes[0]
SPECIALS = ["<s>", "</s>", "<tool>", "<tool><x>"]


def test_segments_lie_between_common_cuts():
    left = load_tokenizer(bpe([*"abcĠ", "ab", "Ġc"], ["a b", "Ġ c"], pre="gpt-2"))
    right = load_tokenizer(bpe([*"abcĠ", "bc", "Ġc"], ["b c", "Ġ c"], pre="gpt-2"))
    result = compare_tokenizers("abc c", {"left": left, "right": right})
    assert [(s.start, s.end, s.text, s.same) for s in result.segments] == [
        (0, 3, "abc", False),
        (3, 5, " c", True),
    ]
    assert [[t.piece for t in side] for side in result.segments[0].tokens] == [
        [b"ab", b"c"],
        [b"a", b"bc"],
    ]
    assert result.agreement == 0.4 and result.different == result.segments[:1]
    frame = result.to_frame()
    assert frame.to_dict("records") == [
        {"start": 0, "end": 3, "text": "abc", "left": "ab | c", "right": "a | bc"}
    ]
    assert len(result.to_frame(all_segments=True)) == 2
    assert "left 3, right 3; 40.0% of the bytes" in repr(result)


def test_bytes_of_a_character_are_a_difference():
    result = compare_tokenizers("é漢", {"bytes": OURS, "letters": LADDER})
    assert [(s.start, s.end) for s in result.segments] == [(0, 2), (2, 4), (4, 5)]
    assert (result.segments[1].text, result.segments[1].same) == ("\\xe6\\xbc", False)


def test_no_text_agrees():
    result = compare_tokenizers("", {"a": OURS, "b": LADDER})
    assert result.segments == () and result.agreement == 1


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="aAst1 \n'é漢👍<tool>", max_size=25))
def test_segments_hold_every_token_and_byte_once(text):
    result = compare_tokenizers(text, {"a": OURS, "b": LADDER})
    bounds = [0, *(s.end for s in result.segments)]
    assert bounds[-1] == len(text.encode())
    assert [s.start for s in result.segments] == bounds[:-1]
    for i, tokens in enumerate(result.tokens):
        assert tuple(t for s in result.segments for t in s.tokens[i]) == tokens
    for segment in result.segments:
        if segment.same:
            inside = [{t.end for t in side} for side in segment.tokens]
            assert all(ends <= {segment.start, segment.end} for ends in inside)


def test_a_tokenizer_agrees_with_itself():
    result = compare_tokenizers("It's 12 <tool> é", {"a": OURS, "b": OURS})
    assert result.agreement == 1 and result.to_frame().empty


def test_arguments_are_checked():
    with pytest.raises(ParameterError, match="text: expected str, got int"):
        compare_tokenizers(3, {"a": OURS})
    with pytest.raises(ParameterError, match="expected a Tokenizer or a mapping"):
        compare_tokenizers("a", {})


def their_tokenizer(
    drop=None, drop_token=None, normalizer=None, regex=QWEN2, specials=SPECIALS, reverse=False
):
    tokenizers = pytest.importorskip("tokenizers", reason="a tool that is not a dependency")
    vocab = {text: i for i, text in enumerate(PAIRS["tokenizer.ggml.tokens"]) if text != drop_token}
    merges = [tuple(m.split(" ")) for m in PAIRS["tokenizer.ggml.merges"] if m != drop]
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocab, merges=merges[::-1] if reverse else merges)
    )
    if normalizer is not None:
        made.normalizer = getattr(tokenizers.normalizers, normalizer)()
    pre = tokenizers.pre_tokenizers
    made.pre_tokenizer = pre.Sequence(
        [
            pre.Split(tokenizers.Regex(regex), "isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.add_special_tokens(list(specials))
    return made


TEXT = {"t": "aAs 123 e\u0301 <tool><x>tS"}


def test_equal_tokenizers_are_equal():
    result = compare_tokenizer_json(OURS, their_tokenizer())
    assert result.n_equal == result.n_texts > 40 and result.first is None
    assert result.to_frame().empty


@pytest.mark.parametrize(
    ("change", "stage", "at", "why"),
    [
        ({"specials": SPECIALS[:3]}, "added tokens", 11, "'<tool><x>' is a special token of the G"),
        ({"specials": [*SPECIALS, "As"]}, "added tokens", 1, "'As' is an added token of tok"),
        ({"normalizer": "NFC"}, "normalizer", 8, "NFC changes what the GGUF leaves as it is"),
        ({"normalizer": "Lowercase"}, "normalizer", 1, "the normalizer Lowercase changes"),
        ({"regex": r"\p{N}+|[^\p{N}]+"}, "pre-tokenizer", 0, "pre 'qwen2' cuts words otherwise th"),
        ({"drop": "a A"}, "model", 0, "the merge 'a' + 'A' is missing in tokenizer.json"),
        ({"reverse": True}, "model", 0, "the merges have another order"),
    ],
)
def test_the_first_stage_that_parts_is_named(change, stage, at, why):
    first = compare_tokenizer_json(OURS, their_tokenizer(**change), TEXT).first
    assert (first.stage, first.at) == (stage, at)
    assert why in first.why


def test_a_merge_or_token_that_only_they_have_is_named():
    keys = dict(PAIRS)
    keys["tokenizer.ggml.merges"] = [m for m in keys["tokenizer.ggml.merges"] if m != "a A"]
    first = compare_tokenizer_json(load_tokenizer(keys), their_tokenizer(), "aA").first
    assert (first.stage, first.why) == ("model", "the merge 'a' + 'A' is missing in the GGUF")
    keys["tokenizer.ggml.tokens"] = [
        "aAA" if t == "aA" else t for t in PAIRS["tokenizer.ggml.tokens"]
    ]
    first = compare_tokenizer_json(load_tokenizer(keys), their_tokenizer(), "aA").first
    assert first.why == "the token 'aA' is missing in the GGUF"


def test_tokens_around_the_text_are_the_post_processors():
    tokenizers = pytest.importorskip("tokenizers", reason="a tool that is not a dependency")
    made = their_tokenizer()
    n = len(PAIRS["tokenizer.ggml.tokens"])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", n - 4)]
    )
    first = compare_tokenizer_json(OURS, made, "as").first
    assert (first.stage, first.at) == ("post-processor", 0)
    assert (first.ours, first.theirs) == ("0 in front, 0 behind", "1 in front, 0 behind")
    with_bos = load_tokenizer(PAIRS | {"tokenizer.ggml.add_bos_token": True})
    assert compare_tokenizer_json(with_bos, made, "as").first is None


def test_sentencepiece_beside_its_tokenizer_json():
    tokenizers = pytest.importorskip("tokenizers", reason="a tool that is not a dependency")
    tokens = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), *((c, -9.0, 1) for c in "▁ab")]
    tokens += [("ab", -1.0, 1), ("▁ab", -2.0, 1), ("ba", -3.0, 1)]
    ours = load_tokenizer(spm(tokens, bos_token_id=1, add_bos_token=False))
    vocab = {text: i for i, (text, _, _) in enumerate(tokens)}
    merges = [("a", "b"), ("▁", "ab"), ("b", "a")]

    def theirs(merges):
        made = tokenizers.Tokenizer(
            tokenizers.models.BPE(vocab=vocab, merges=merges, unk_token="<unk>")
        )
        steps = [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
        made.normalizer = tokenizers.normalizers.Sequence(steps)
        made.add_special_tokens(["<unk>", "<s>"])
        return made

    texts = {str(i): text for i, text in enumerate(("ab ab", "baab b", "<s>ab"))}
    assert compare_tokenizer_json(ours, theirs(merges), texts).n_equal == 3
    first = compare_tokenizer_json(ours, theirs(merges[:2]), "ab bba").first
    assert (first.stage, first.at) == ("model", 4)


def test_files_are_read_and_damaged_ones_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(their_tokenizer().to_str(), "utf-8")
    assert compare_tokenizer_json(OURS, path, TEXT).n_equal == 1
    path.write_text("{")
    with pytest.raises(GGUFError, match=r"not a tokenizer\.json"):
        compare_tokenizer_json(OURS, path)
    with pytest.raises(ParameterError, match="cannot be read"):
        compare_tokenizer_json(OURS, tmp_path / "none.json")
    with pytest.raises(ParameterError, match=r"source: expected the path .* got int"):
        compare_tokenizer_json(OURS, 3)
    with pytest.raises(ParameterError, match="texts: expected str or a mapping"):
        compare_tokenizer_json(OURS, their_tokenizer(), 3)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(UnsupportedError, match="run `pip install tokenizers`"):
        compare_tokenizer_json(OURS, "tokenizer.json")


def test_equal_stages_with_other_ids_are_called_whole():
    tokenizers = pytest.importorskip("tokenizers")
    theirs = their_tokenizer()
    n = len(OURS.encode("aAs 123", add_special=False))
    theirs.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", theirs.token_to_id("<s>"))]
    )
    theirs.enable_truncation(n)  # n tokens alone stay, but <s> pushes one out
    first = compare_tokenizer_json(OURS, theirs, "aAs 123").first
    assert (first.stage, first.at) == ("whole", 0)
    assert "joins its parts another way" in first.why
