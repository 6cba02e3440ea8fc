"""Special tokens: where they are found, which ids play a role, what ends generation."""

import pytest

from tests.tokenizer.vocabularies import CONTROL, NORMAL, USER_DEFINED, bpe, ladder_spm
from workbench.errors import GGUFError
from workbench.tokenizer import TokenAttribute, load_tokenizer
from workbench.tokenizer.special import SpecialToken, find_specials


def tokens(*texts, **attributes):
    flags = {"only_parsed": False, "lstrip": False, "rstrip": False} | attributes
    return [SpecialToken(i, text, **flags) for i, text in enumerate(texts)]


def named(*texts, types=None, **keys):
    plain = ["a", "b", *texts]
    types = types or [NORMAL] * len(plain)
    return load_tokenizer(bpe(plain, [], token_type=types, pre="qwen2", **keys))


def test_earlier_tokens_take_their_text_first():
    assert find_specials("xabc", tokens("abc", "xab"), True) == [(1, 4, 0)]
    assert find_specials("xababc", tokens("abc", "xab"), True) == [(0, 3, 1), (3, 6, 0)]


def test_occurrences_do_not_overlap():
    assert find_specials("aaaaa", tokens("aa"), True) == [(0, 2, 0), (2, 4, 0)]


def test_strips_swallow_white_space_up_to_the_next_token():
    both = tokens("<m>", lstrip=True, rstrip=True)
    assert find_specials("a <m>\n <m>\u3000", both, True) == [(1, 7, 0), (7, 10, 0)]


def test_control_tokens_count_only_when_parsed():
    control = tokens("<s>", only_parsed=True)
    assert find_specials("<s>", control, parse_special=False) == []
    assert find_specials("<s>", control, parse_special=True) == [(0, 3, 0)]


def test_longest_special_token_wins_over_its_prefix():
    tok = named("<x>", "<x><y>", types=[NORMAL, NORMAL, USER_DEFINED, USER_DEFINED])
    assert tok.encode("a<x><y><x>") == [0, 3, 2]


def test_end_of_generation_by_text():
    tok = named("<|im_end|>", "<|endoftext|>", "</s>", "<|file_sep|>")
    assert tok.eog_ids == {2, 3, 4, 5}
    assert tok.eot_id == 3  # of several the last; llama.cpp's choice depends on its hash table
    assert tok.attribute(2) == TokenAttribute.NORMAL | TokenAttribute.CONTROL
    assert tok.piece(2) == b"" and tok.piece(2, special=True) == b"<|im_end|>"


def test_end_is_no_end_in_the_format_of_gpt_oss():
    tok = named(
        "<|end|>", "<|return|>", "<|call|>", "<|channel|>", types=[NORMAL] * 2 + [CONTROL] * 4
    )
    assert tok.eog_ids == {3, 4}
    assert tok.attribute(2) == tok.attribute(5) == TokenAttribute.USER_DEFINED


def test_unused_control_tokens_are_marked():
    tok = named("<unused1>", types=[NORMAL, NORMAL, CONTROL])
    assert tok.attribute(2) == TokenAttribute.CONTROL | TokenAttribute.UNUSED


def test_keys_give_roles_and_old_names_still_count():
    tok = named("<pre>", bos_token_id=1, eom_token_id=0, prefix_token_id=2)
    assert (tok.bos_id, tok.special.eom, tok.special.fim_pre) == (1, 0, 2)
    assert 0 in tok.eog_ids


def test_roles_without_key_or_text_are_none():
    assert (named().bos_id, named().eos_id, named().eot_id) == (None, None, None)
    assert named().eog_ids == frozenset()


def test_role_outside_the_vocabulary_is_passed_over_with_a_warning():
    with pytest.warns(UserWarning, match="bos_token_id is 99999, outside the vocabulary"):
        assert load_tokenizer(ladder_spm(bos_token_id=99999)).bos_id == 1
    with pytest.warns(UserWarning, match="padding_token_id is -1"):
        assert load_tokenizer(ladder_spm(padding_token_id=-1)).special.pad is None


def test_flag_without_its_token_is_an_error():
    with pytest.raises(GGUFError, match="add_bos_token is true, but the file has no BOS"):
        named(add_bos_token=True)


def test_phi_3_strips_behind_its_tokens():
    metadata = ladder_spm() | {"general.name": "Phi-3 mini"}
    tok = load_tokenizer(metadata)
    assert TokenAttribute.RSTRIP in tok.attribute(2)
    assert TokenAttribute.RSTRIP not in tok.attribute(1)
    assert tok.encode("</s>  \na", False, True) == tok.encode("</s>a", False, True)
