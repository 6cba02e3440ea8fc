"""Rules on keys and values: names, the types of standard keys, alignment, matching vocabularies.

Source: the GGUF specification (ggml/docs/gguf.md), "Standardized key-value pairs";
`gguf_init_from_reader` in ggml/src/gguf.cpp for the alignment.
Left out: whether an architecture has all its own keys: that is `load_model`'s to say.
"""

import re

from .types import DEFAULT_ALIGNMENT, GGML_TYPES_BY_ID
from .walk import ValueRecord, Walk, text_of

__all__ = ["alignment_of", "check_metadata"]

MAX_KEY_BYTES = 2**16 - 1
KEY_STYLE = re.compile(rb"[a-z0-9_\-]+(\.[a-z0-9_\-]+)*")

# Keys whose type is written in the specification, or that llama.cpp asks for by type.
KEY_TYPES = {
    b"general.architecture": "STRING",
    b"general.name": "STRING",
    b"general.quantization_version": "UINT32",
    b"general.file_type": "UINT32",
    b"tokenizer.ggml.model": "STRING",
    b"tokenizer.ggml.tokens": "ARRAY[STRING]",
    b"tokenizer.ggml.scores": "ARRAY[FLOAT32]",
    b"tokenizer.ggml.token_type": "ARRAY[INT32]",
    b"tokenizer.ggml.merges": "ARRAY[STRING]",
    b"tokenizer.chat_template": "STRING",
}
PLAIN_TYPES = frozenset({"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"})


def check_metadata(walk: Walk) -> None:
    """Apply every rule on keys and values to the pairs that the walk found."""
    by_key: dict[bytes, ValueRecord] = {}
    for pair in walk.pairs:
        walk.place = f"key {text_of(pair.key)}"
        if pair.key in by_key:
            first = by_key[pair.key].start
            walk.note("key-duplicate", f"the key comes twice, first at byte {first}", pair.start)
        _check_key(walk, pair)
        by_key.setdefault(pair.key, pair)
    _check_alignment(walk, by_key.get(b"general.alignment"))
    walk.place = "header"
    if walk.complete:
        _check_presence(walk, by_key)
    _check_vocabulary(walk, by_key)


def _check_key(walk: Walk, pair: ValueRecord) -> None:
    key, at = pair.key, pair.start
    if not key:
        walk.note("key-empty", "the key has no characters, llama.cpp refuses the file", at)
    elif len(key) > MAX_KEY_BYTES:
        text = f"the key has {len(key)} bytes, the specification allows {MAX_KEY_BYTES}"
        walk.note("key-too-long", text, at)
    if not _is_utf8(key):
        walk.note("key-not-utf8", "the key is no UTF-8, the specification wants ASCII", at)
    elif key and not KEY_STYLE.fullmatch(key):
        walk.note("key-style", "the key is not words of a-z, 0-9 and _ with dots between", at)
    expected = KEY_TYPES.get(key, pair.type)
    if pair.type != expected:
        walk.note("key-type", f"the value is {pair.type}, expected {expected}", pair.value_start)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _check_alignment(walk: Walk, pair: ValueRecord | None) -> None:
    if pair is None:
        return
    walk.place, at = "key 'general.alignment'", pair.value_start
    if pair.type != "UINT32":
        walk.note("alignment-type", f"the value is {pair.type}, expected UINT32", at)
    elif pair.value == 0:
        walk.note("alignment-zero", "the alignment is 0, expected a multiple of 8", at)
    else:
        if pair.value % 8:
            text = f"the alignment is {pair.value}, expected a multiple of 8"
            walk.note("alignment-not-multiple-of-8", text, at)
        if pair.value & (pair.value - 1):
            text = f"the alignment {pair.value} is no power of two, llama.cpp refuses the file"
            walk.note("alignment-not-power-of-two", text, at)


def alignment_of(walk: Walk) -> int:
    """The alignment that a file states, or the default where it states none that works."""
    for pair in walk.pairs:
        if pair.key == b"general.alignment" and pair.type == "UINT32" and pair.value:
            return pair.value
    return DEFAULT_ALIGNMENT


def _check_presence(walk: Walk, by_key: dict[bytes, ValueRecord]) -> None:
    number = by_key.get(b"split.no")  # only the first shard of a split model carries all keys
    if number is not None and number.value:
        return
    if b"general.architecture" not in by_key:
        text = "general.architecture is missing, llama.cpp loads no model without it"
        walk.note("architecture-missing", text, 0)
    types = {GGML_TYPES_BY_ID[i.type_id].name for i in walk.infos if i.type_id in GGML_TYPES_BY_ID}
    if types - PLAIN_TYPES and b"general.quantization_version" not in by_key:
        text = "general.quantization_version is missing though tensors are quantized"
        walk.note("quantization-version-missing", text, 0)


def _check_vocabulary(walk: Walk, by_key: dict[bytes, ValueRecord]) -> None:
    tokens = by_key.get(b"tokenizer.ggml.tokens")
    if tokens is None or tokens.array is None:
        return
    for key in (b"tokenizer.ggml.scores", b"tokenizer.ggml.token_type"):
        pair = by_key.get(key)
        if pair is None or pair.array is None or pair.array[1] == tokens.array[1]:
            continue
        walk.place = f"key {text_of(key)}"
        text = f"the array has {pair.array[1]} elements, tokenizer.ggml.tokens {tokens.array[1]}"
        walk.note("vocabulary-lengths", text, pair.value_start)
