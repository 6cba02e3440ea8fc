"""Special tokens: which ids play a role, which end generation, and where they stand in a text.

Roles come from keys, else from the model's defaults, else from well-known texts such as
"<|im_end|>". Where several such texts are present llama.cpp takes the one its hash table lists
first, which depends on the C++ library; here it is the last in the vocabulary.

Source: `llama_vocab::impl::load` (special ids, end of generation, attributes by model name) and
`tokenizer_st_partition` in llama.cpp src/llama-vocab.cpp. Left out: suppressed tokens.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .vocab import TokenAttribute, Vocabulary, read_key

__all__ = ["SpecialIds", "SpecialToken", "find_specials", "load_specials", "special_tokens"]


@dataclass(frozen=True)
class SpecialIds:
    """The ids with a role, None where the vocabulary has none, and all that end generation."""

    bos: int | None = None  # begin of sequence
    eos: int | None = None  # end of sequence
    eot: int | None = None  # end of turn
    eom: int | None = None  # end of message
    unk: int | None = None
    sep: int | None = None
    pad: int | None = None
    mask: int | None = None
    fim_pre: int | None = None  # fill in the middle: prefix, suffix, middle, …
    fim_suf: int | None = None
    fim_mid: int | None = None
    fim_pad: int | None = None
    fim_rep: int | None = None
    fim_sep: int | None = None
    eog: frozenset[int] = frozenset()


@dataclass(frozen=True)
class SpecialToken:
    """A token that is found in the text before anything else is done with it."""

    token_id: int
    text: str
    only_parsed: bool  # control and unknown tokens count only with parse_special
    lstrip: bool  # swallows ASCII white space to its left
    rstrip: bool


KEYS = (  # (the key without "tokenizer.ggml.", role); the last three are deprecated names
    ("bos_token_id", "bos"),
    ("eos_token_id", "eos"),
    ("eot_token_id", "eot"),
    ("eom_token_id", "eom"),
    ("unknown_token_id", "unk"),
    ("seperator_token_id", "sep"),
    ("padding_token_id", "pad"),
    ("mask_token_id", "mask"),
    ("fim_pre_token_id", "fim_pre"),
    ("fim_suf_token_id", "fim_suf"),
    ("fim_mid_token_id", "fim_mid"),
    ("fim_pad_token_id", "fim_pad"),
    ("fim_rep_token_id", "fim_rep"),
    ("fim_sep_token_id", "fim_sep"),
    ("prefix_token_id", "fim_pre"),
    ("suffix_token_id", "fim_suf"),
    ("middle_token_id", "fim_mid"),
)
TEXTS = {  # texts that give a role no key gives
    "eot": "<|eot_id|> <|im_end|> <|end|> <end_of_turn> <|endoftext|> <|end_of_text|> <EOT> _<EOT>"
    " [EOT] <｜end▁of▁sentence｜> <end_of_utterance>",
    "eom": "<|eom_id|>",
    "fim_pre": "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE>"
    " <|code_prefix|> <|prefix|>",
    "fim_suf": "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF>"
    " <|code_suffix|> <|suffix|>",
    "fim_mid": "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID>"
    " <|code_middle|> <|middle|>",
    "fim_pad": "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    "fim_rep": "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    "fim_sep": "<|file_sep|>",
}
END_TEXTS = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn>"
    " <|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance>"
    " <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~["
)
HARMONY_TEXTS = "<|channel|> <|message|> <|start|> <|constrain|>"  # part of the answer's format
END_ROLES = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
FOUND_IN_TEXT = TokenAttribute.CONTROL | TokenAttribute.USER_DEFINED | TokenAttribute.UNKNOWN
ONLY_PARSED = int(TokenAttribute.CONTROL | TokenAttribute.UNKNOWN)
C_SPACES = " \t\n\v\f\r"


def load_specials(
    metadata: Mapping[str, Any], vocab: Vocabulary, defaults: Mapping[str, int]
) -> tuple[SpecialIds, Vocabulary]:
    """Find every role from the keys, the model's defaults and the well-known texts.

    defaults: role -> id, used where the file has no key. A key whose id is outside the vocabulary
    is passed over with a warning, as llama.cpp does.
    Returns: the ids, and the vocabulary with the attributes that follow from them corrected.
    Raises: GGUFError for a key of another type.
    """
    roles = _roles_of_keys(metadata, len(vocab.tokens), defaults)
    found = {role: _ids_of(vocab, texts) for role, texts in TEXTS.items() if role not in roles}
    by_text = {role: max(ids) for role, ids in found.items() if ids}
    roles |= by_text
    ends = _ids_of(vocab, END_TEXTS)
    eog = {roles[role] for role in END_ROLES if role in roles} | set(ends)
    no_ends = _no_ends(vocab, eog)

    vocab = replace(vocab, attributes=vocab.attributes.copy())
    _add(vocab, by_text.values(), TokenAttribute.CONTROL)
    unused = [
        i for i in vocab.with_attribute(TokenAttribute.CONTROL) if "unused" in vocab.tokens[i]
    ]
    _add(vocab, unused, TokenAttribute.UNUSED)
    _add(vocab, ends, TokenAttribute.CONTROL)
    harmony = dict.fromkeys(_ids_of(vocab, HARMONY_TEXTS), TokenAttribute.USER_DEFINED)
    for token_id, attribute in (harmony | no_ends).items():
        vocab.attributes[token_id] = attribute
    _add_strips(metadata, vocab)
    return SpecialIds(**roles, eog=frozenset(eog - set(no_ends))), vocab


def _roles_of_keys(
    metadata: Mapping[str, Any], n: int, defaults: Mapping[str, int]
) -> dict[str, int]:
    roles = {role: token_id for role, token_id in defaults.items() if token_id < n}
    for key, role in KEYS:
        token_id = read_key(metadata, f"tokenizer.ggml.{key}", int, None)
        if token_id is not None and 0 <= token_id < n:
            roles[role] = token_id
        elif token_id is not None:
            warnings.warn(
                f"tokenizer.ggml.{key} is {token_id}, outside the vocabulary of {n} tokens; "
                f"using {roles.get(role)}",
                stacklevel=5,
            )
    return roles


def _ids_of(vocab: Vocabulary, texts: str) -> list[int]:
    return [vocab.ids[text] for text in texts.split(" ") if text in vocab.ids]


def _no_ends(vocab: Vocabulary, eog: Iterable[int]) -> dict[int, TokenAttribute]:
    """Tokens that look like an end but are none in gpt-oss, Solar, Gemma 4 and PLaMo."""
    ids = {vocab.tokens[token_id]: token_id for token_id in eog}
    calls = "<|return|>" in ids and ("<|call|>" in ids or "<|calls|>" in ids)
    flushes = "<|flush|>" in ids and ("<|call|>" in ids or "<|calls|>" in ids)
    no_ends = {}
    if "<|end|>" in ids and (calls or flushes):
        no_ends[ids["<|end|>"]] = TokenAttribute.USER_DEFINED
    if "</s>" in ids and ("<|tool_response>" in ids or "<|plamo:eos|>" in ids):
        no_ends[ids["</s>"]] = TokenAttribute.NORMAL
    return no_ends


def _add_strips(metadata: Mapping[str, Any], vocab: Vocabulary) -> None:
    """Add the stripping that GGUF cannot express, by the name of the model."""
    name = read_key(metadata, "general.name", str, "").lower()
    architecture = read_key(metadata, "general.architecture", str, "")
    pre = read_key(metadata, "tokenizer.ggml.pre", str, "")
    jina = any(part in pre for part in ("jina-v2-de", "jina-v2-es", "jina-v2-code"))
    if jina or "nomic-bert-moe" in architecture or "jina-bert-v3" in architecture:
        _add(vocab, _ids_of(vocab, "<mask>"), TokenAttribute.LSTRIP)
    elif "phi-3" in name or "phi3" in name:
        strip = {*vocab.with_attribute(FOUND_IN_TEXT), *_ids_of(vocab, "</s>")}
        strip -= set(_ids_of(vocab, "<unk> <s> <|endoftext|>"))
        _add(vocab, strip, TokenAttribute.RSTRIP)
    elif "modern-bert" in name:
        _add(vocab, _ids_of(vocab, "[MASK]"), TokenAttribute.LSTRIP)


def _add(vocab: Vocabulary, ids: Iterable[int], flag: TokenAttribute) -> None:
    vocab.attributes[np.fromiter(ids, np.intp)] |= np.uint16(flag)


def special_tokens(vocab: Vocabulary) -> list[SpecialToken]:
    """The tokens to look for in a text, longest text (in bytes) first, then by id."""
    found = []
    for token_id in vocab.with_attribute(FOUND_IN_TEXT):
        attribute = int(vocab.attributes[token_id])
        found.append(
            SpecialToken(
                token_id,
                vocab.tokens[token_id],
                bool(attribute & ONLY_PARSED),
                bool(attribute & TokenAttribute.LSTRIP),
                bool(attribute & TokenAttribute.RSTRIP),
            )
        )
    return sorted(found, key=lambda token: -len(token.text.encode("utf-8", "surrogateescape")))


def find_specials(
    text: str, tokens: Iterable[SpecialToken], parse_special: bool
) -> list[tuple[int, int, int]]:
    """Find the special tokens of a text: each token in turn takes what earlier ones left.

    Returns: (start, end, token id) in text order, without overlap; start and end include the
    white space that the token swallows.
    """
    found = []
    taken = bytearray(len(text))
    present: dict[str, bool] = {}  # is this prefix anywhere? Hundreds of tokens begin with "[PAD"
    for token in tokens:
        if token.only_parsed and not parse_special:
            continue
        prefix = token.text[:4]
        if prefix not in present:
            present[prefix] = prefix in text
        if not present[prefix] or token.text not in text:
            continue
        size, at = len(token.text), text.find(token.text)
        while at >= 0:
            start, end = at, at + size
            if taken.find(1, start, end) >= 0:
                at = text.find(token.text, at + 1)
                continue
            while token.lstrip and start and text[start - 1] in C_SPACES and not taken[start - 1]:
                start -= 1
            while token.rstrip and end < len(text) and text[end] in C_SPACES and not taken[end]:
                end += 1
            taken[start:end] = b"\x01" * (end - start)
            found.append((start, end, token.token_id))
            at = text.find(token.text, end)
    return sorted(found)
