"""Building a tokenizer from the metadata of a GGUF file.

Source: `llama_vocab::impl::load` in llama.cpp src/llama-vocab.cpp. Left out: the tokenizer models
bert, t5, rwkv, plamo2 and gemma4 (the error names those that work).
"""

from collections.abc import Mapping
from typing import Any

from ..errors import GGUFError, ParameterError, UnsupportedError
from .bpe import BytePairEncoder, load_merges
from .pretokenize import find_pre_tokenizer
from .special import SpecialIds, load_specials
from .spm import SpmEncoder
from .tokenizer import TextRules, Tokenizer
from .vocab import load_vocabulary, read_key

__all__ = ["load_tokenizer"]

SUPPORTED = ("gpt2", "llama")
SPM_DEFAULTS = {"bos": 1, "eos": 2, "unk": 0}
BPE_DEFAULTS = {"bos": 11, "eos": 11}


def load_tokenizer(source: Any, pre: str | None = None) -> Tokenizer:
    """Build the tokenizer of a GGUF file.

    source: a GGUFFile, or a mapping of its metadata; pre: the name of a pre-tokenizer to use
    instead of `tokenizer.ggml.pre`, for byte-level byte-pair encoding only.
    Returns: a Tokenizer.
    Raises: GGUFError for missing or damaged keys, UnsupportedError for a tokenizer model or a
    pre-tokenizer this version does not know, ParameterError for another `source` or `pre`.
    Source: `llama_vocab::impl::load` in llama.cpp src/llama-vocab.cpp.
    """
    metadata = getattr(source, "metadata", source)
    if not isinstance(metadata, Mapping):
        raise ParameterError(
            "load_tokenizer: source has no metadata; expected a GGUFFile or a mapping, "
            f"got {type(source).__name__}"
        )
    model = read_key(metadata, "tokenizer.ggml.model", str)
    if model not in SUPPORTED:
        raise UnsupportedError(
            f"tokenizer.ggml.model: {model[:40]!a} is not supported; "
            f"expected one of {', '.join(SUPPORTED)}"
        )
    if model == "llama":
        return _load_spm(metadata, pre)
    return _load_bpe(metadata, pre)


def _load_spm(metadata: Mapping[str, Any], pre: str | None) -> Tokenizer:
    if pre is not None:
        raise ParameterError(
            f"load_tokenizer: pre is {pre!r}, but this file's tokenizer model is 'llama', which "
            "has no pre-tokenizer; leave it out"
        )
    special, vocab = load_specials(metadata, load_vocabulary(metadata), SPM_DEFAULTS)
    add_space_prefix = read_key(metadata, "tokenizer.ggml.add_space_prefix", bool, True)
    rules = TextRules(
        **_added_tokens(metadata, special, add_bos=True, add_sep=False),
        add_space_prefix=add_space_prefix,
        prefix_words=add_space_prefix,
        clean_spaces=False,
    )
    return Tokenizer("llama", None, vocab, special, rules, SpmEncoder(vocab))


def _load_bpe(metadata: Mapping[str, Any], pre: str | None) -> Tokenizer:
    name = read_key(metadata, "tokenizer.ggml.pre", str, "") if pre is None else pre
    pre_tokenizer = find_pre_tokenizer(
        name or "default", "tokenizer.ggml.pre" if pre is None else "load_tokenizer: pre"
    )
    defaults = dict(BPE_DEFAULTS)
    if not pre_tokenizer.default_bos:
        del defaults["bos"]
    special, vocab = load_specials(metadata, load_vocabulary(metadata), defaults)
    rules = TextRules(
        **_added_tokens(metadata, special, pre_tokenizer.add_bos, pre_tokenizer.add_sep),
        add_space_prefix=read_key(metadata, "tokenizer.ggml.add_space_prefix", bool, False),
        prefix_words=False,
        clean_spaces=pre_tokenizer.clean_spaces,
    )
    encoder = BytePairEncoder(vocab, load_merges(metadata, vocab.ids), pre_tokenizer)
    return Tokenizer("gpt2", name or "default", vocab, special, rules, encoder)


def _added_tokens(
    metadata: Mapping[str, Any], special: SpecialIds, add_bos: bool, add_sep: bool
) -> dict[str, bool]:
    """The add_bos, add_eos and add_sep flags; a flag that is set needs its token."""
    flags = {"bos": add_bos, "eos": False, "sep": add_sep}
    for role, default in flags.items():
        key = f"tokenizer.ggml.add_{role}_token"
        flags[role] = read_key(metadata, key, bool, default)
        if flags[role] and getattr(special, role) is None:
            raise GGUFError(
                f"tokenizer: {key} is true, but the file has no {role.upper()} token; "
                "expected the key of its id, or false"
            )
    return {f"add_{role}": flag for role, flag in flags.items()}
