"""Building a tokenizer from the metadata of a GGUF file.

    tokenizer.ggml.model   llama   SentencePiece with scores, byte fallback     spm.py
                           gpt2    byte-pair encoding                           bpe.py
                           gemma4  the same on characters, "▁" for the space    bpe.py
                           bert    WordPiece: longest prefixes                  wpm.py
                           t5      unigram: the best path through all tokens    ugm.py
                           rwkv    longest match on bytes                       rwkv.py
                           plamo2  the best path, from the end                  plamo2.py

Source: `llama_vocab::impl::load` in llama.cpp src/llama-vocab.cpp. Left out: other models (the
error names those that work).
"""

from collections.abc import Mapping
from typing import Any

from ..errors import GGUFError, ParameterError, UnsupportedError
from .bpe import MERGES, BytePairEncoder, load_merges
from .charsmap import load_charsmap
from .chat import chat_templates
from .normalize import FoldTable
from .plamo2 import Plamo2Encoder
from .prefixes import raw_text
from .pretokenize import find_pre_tokenizer
from .rwkv import RwkvEncoder
from .special import SpecialIds, load_specials
from .spm import SpmEncoder
from .tokenizer import TextRules, Tokenizer
from .ugm import UgmEncoder
from .ugm_text import UgmText
from .vocab import TokenAttribute, load_vocabulary, read_key
from .wpm import WpmEncoder

__all__ = ["load_tokenizer"]

SPM_DEFAULTS = {"bos": 1, "eos": 2, "unk": 0}
BPE_DEFAULTS = {"bos": 11, "eos": 11}
GEMMA4 = "gemma4"
WPM_DEFAULTS = {"bos": 101, "unk": 100, "sep": 102, "pad": 0, "mask": 103}
UGM_DEFAULTS = {"eos": 1, "unk": 2, "pad": 0}
PLAMO2_DEFAULTS = {"bos": 1, "eos": 2, "unk": 0, "pad": 3}


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
    if model not in LOADERS:
        raise UnsupportedError(
            f"tokenizer.ggml.model: {model[:40]!a} is not supported; "
            f"expected one of {', '.join(sorted(LOADERS))}"
        )
    if LOADERS[model] is _load_bpe:
        return _with_chat(_load_bpe(metadata, pre), metadata)
    if pre is not None:
        raise ParameterError(
            f"load_tokenizer: pre is {pre!r}, but this file's tokenizer model is {model!r}, which "
            "has no pre-tokenizer; leave it out"
        )
    return _with_chat(LOADERS[model](metadata), metadata)


def _with_chat(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> Tokenizer:
    tokenizer.chat_templates = chat_templates(metadata)
    return tokenizer


def _load_spm(metadata: Mapping[str, Any]) -> Tokenizer:
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
    model = read_key(metadata, "tokenizer.ggml.model", str)
    own = GEMMA4 if model == GEMMA4 else read_key(metadata, "tokenizer.ggml.pre", str, "")
    name = (own if pre is None else pre) or "default"
    chosen = find_pre_tokenizer(
        name, "tokenizer.ggml.pre" if pre is None else "load_tokenizer: pre"
    )
    defaults = {} if model == GEMMA4 else dict(BPE_DEFAULTS)
    if not chosen.default_bos:
        defaults.pop("bos", None)
    special, vocab = load_specials(metadata, load_vocabulary(metadata), defaults)
    added = _added_tokens(metadata, special, chosen.add_bos, chosen.add_sep)
    if chosen.force_bos and special.bos is None:
        raise GGUFError(
            f"tokenizer: pre-tokenizer {name!r} always adds BOS, but the file has no BOS token; "
            "expected tokenizer.ggml.bos_token_id"
        )
    rules = TextRules(
        **added | {"add_bos": added["add_bos"] or chosen.force_bos},
        add_space_prefix=read_key(metadata, "tokenizer.ggml.add_space_prefix", bool, False),
        prefix_words=False,
        clean_spaces=chosen.clean_spaces,
    )
    without = not chosen.needs_merges and MERGES not in metadata
    merges = {} if without else load_merges(metadata, vocab.ids)
    return Tokenizer(model, name, vocab, special, rules, BytePairEncoder(vocab, merges, chosen))


def _load_wpm(metadata: Mapping[str, Any]) -> Tokenizer:
    special, vocab = load_specials(metadata, load_vocabulary(metadata), WPM_DEFAULTS)
    for token_id in vocab.with_attribute(TokenAttribute.BYTE):
        raise GGUFError(
            f"tokenizer: token {token_id} has the type byte, which model 'bert' does not have; "
            "expected another type"
        )
    lowercase = read_key(metadata, "tokenizer.ggml.normalizer.lowercase", bool, True)
    key = "tokenizer.ggml.normalizer.strip_accents"
    fold = FoldTable(lowercase, read_key(metadata, key, bool, lowercase))
    rules = TextRules(
        **_add_flags(metadata, add_bos=True, add_sep=True),
        add_space_prefix=read_key(metadata, "tokenizer.ggml.add_space_prefix", bool, False),
        prefix_words=False,
        clean_spaces=True,
        ends="always",
    )
    return Tokenizer("bert", None, vocab, special, rules, WpmEncoder(vocab, special.unk, fold))


def _load_ugm(metadata: Mapping[str, Any]) -> Tokenizer:
    in_file = load_vocabulary(metadata)
    special, vocab = load_specials(metadata, in_file, UGM_DEFAULTS)
    prefix = read_key(metadata, "tokenizer.ggml.add_space_prefix", bool, False)
    merge = read_key(metadata, "tokenizer.ggml.remove_extra_whitespaces", bool, False)
    rules = TextRules(
        **_added_tokens(metadata, special, add_bos=False, add_sep=False, add_eos=True),
        add_space_prefix=prefix,
        prefix_words=False,
        clean_spaces=False,
        remove_extra_spaces=merge,
    )
    kept = [raw_text(vocab.tokens[i]) for i in in_file.with_attribute(TokenAttribute.USER_DEFINED)]
    text = UgmText(load_charsmap(metadata), kept, prefix, merge)
    encoder = UgmEncoder(vocab, in_file.attributes, special.unk, text)
    return Tokenizer("t5", None, vocab, special, rules, encoder)


def _load_rwkv(metadata: Mapping[str, Any]) -> Tokenizer:
    special, vocab = load_specials(metadata, load_vocabulary(metadata), {})
    encoder = RwkvEncoder(vocab, special.unk)
    return Tokenizer("rwkv", None, vocab, special, _bare_rules(metadata), encoder)


def _load_plamo2(metadata: Mapping[str, Any]) -> Tokenizer:
    in_file = load_vocabulary(metadata)
    special, vocab = load_specials(metadata, in_file, PLAMO2_DEFAULTS)
    encoder = Plamo2Encoder(in_file)
    return Tokenizer("plamo2", None, vocab, special, _bare_rules(metadata), encoder)


def _bare_rules(metadata: Mapping[str, Any]) -> TextRules:
    """The rules of models that add no token, whatever the flags say, and print their own way."""
    return TextRules(
        **_add_flags(metadata, add_bos=False, add_sep=False),
        add_space_prefix=read_key(metadata, "tokenizer.ggml.add_space_prefix", bool, False),
        prefix_words=False,
        clean_spaces=False,
        ends="never",
        own_pieces=True,
    )


def _add_flags(
    metadata: Mapping[str, Any], add_bos: bool, add_sep: bool, add_eos: bool = False
) -> dict[str, bool]:
    """The add_bos, add_eos and add_sep flags of the file, else the defaults given."""
    flags = {"bos": add_bos, "eos": add_eos, "sep": add_sep}
    return {
        f"add_{role}": read_key(metadata, f"tokenizer.ggml.add_{role}_token", bool, default)
        for role, default in flags.items()
    }


def _added_tokens(
    metadata: Mapping[str, Any],
    special: SpecialIds,
    add_bos: bool,
    add_sep: bool,
    add_eos: bool = False,
) -> dict[str, bool]:
    """`_add_flags` for a model that acts on BOS and EOS: a flag that is set needs its token."""
    flags = _add_flags(metadata, add_bos, add_sep, add_eos)
    for role in ("bos", "eos"):
        if flags[f"add_{role}"] and getattr(special, role) is None:
            raise GGUFError(
                f"tokenizer: tokenizer.ggml.add_{role}_token is true, but the file has no "
                f"{role.upper()} token; expected the key of its id, or false"
            )
    return flags


LOADERS = {
    "bert": _load_wpm,
    "gemma4": _load_bpe,
    "gpt2": _load_bpe,
    "llama": _load_spm,
    "plamo2": _load_plamo2,
    "rwkv": _load_rwkv,
    "t5": _load_ugm,
}
