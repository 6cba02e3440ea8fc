"""Text to token ids and back, from a GGUF file's metadata alone, equal to llama.cpp.

`load_tokenizer(gguf)` gives a Tokenizer with `encode`, `decode`, `decode_bytes` and `piece`.
SentencePiece with scores (model "llama") and byte-level byte-pair encoding ("gpt2").
"""

from .load import load_tokenizer
from .pretokenize import PRE_TOKENIZERS, PreTokenizer
from .special import SpecialIds
from .tokenizer import TextRules, Tokenizer
from .vocab import TokenAttribute

__all__ = [
    "PRE_TOKENIZERS",
    "PreTokenizer",
    "SpecialIds",
    "TextRules",
    "TokenAttribute",
    "Tokenizer",
    "load_tokenizer",
]
