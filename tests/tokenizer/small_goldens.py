"""Checks against tests/data/vocabularies.json: what llama.cpp does with our own vocabularies."""

import json
from pathlib import Path

from tests.tokenizer.small_models import variants
from workbench.tokenizer import Tokenizer, load_tokenizer

GOLDENS = json.loads((Path(__file__).parents[1] / "data" / "vocabularies.json").read_text())
SHOWN = ((False, True), (True, False), (False, False))  # remove_special, unparse_special


def names(model: str) -> list[str]:
    """The variants of one model."""
    return [name for name in GOLDENS["models"] if name.split(" ")[0] == model]


def assert_equal_to_llama_cpp(name: str) -> None:
    """Ids with all flags, bytes, traces, pieces, attributes, roles and flags of one variant."""
    tokenizer, golden = load_tokenizer(variants()[name]), GOLDENS["models"][name]
    for text, wanted in zip(GOLDENS["texts"], golden["texts"], strict=True):
        _assert_text(tokenizer, text, wanted)
    for token_id, (attribute, piece, with_special) in enumerate(golden["pieces"]):
        assert int(tokenizer.attribute(token_id)) == attribute, token_id
        assert tokenizer.piece(token_id).hex() == piece, token_id
        assert tokenizer.piece(token_id, special=True).hex() == with_special, token_id
    for role, token_id in golden["roles"].items():
        assert getattr(tokenizer.special, role) == (None if token_id < 0 else token_id), role
    assert sorted(tokenizer.eog_ids) == golden["eog"]
    rules = tokenizer.rules
    assert [rules.add_bos, rules.add_eos, rules.add_sep] == golden["flags"]


def _assert_text(tokenizer: Tokenizer, text: str, wanted: dict) -> None:
    for key in ("ff", "ft", "tf", "tt"):
        ids = tokenizer.encode(text, key[0] == "t", key[1] == "t")
        assert ids == wanted[key], (text, key)
    shown = [tokenizer.decode_bytes(wanted["tt"], *flags).hex() for flags in SHOWN]
    assert shown == wanted["bytes"], text
    trace = tokenizer.trace(text, parse_special=True)
    assert trace.ids == trace.replay() == wanted["tt"], text
