"""Text to token ids and back, from a GGUF file's metadata alone, equal to llama.cpp.

`load_tokenizer(gguf)` gives a Tokenizer with `encode`, `decode`, `piece`, and `trace`: every stage.
SentencePiece with scores (model "llama"), byte-pair encoding ("gpt2"), WordPiece ("bert"), unigram
("t5"), longest match on bytes ("rwkv") and PLaMo-2's best path ("plamo2").
"""

from .load import load_tokenizer
from .pretokenize import PRE_TOKENIZERS, PreTokenizer
from .special import SpecialIds
from .tokenizer import TextRules, Tokenizer
from .trace import TokenTrace, TracedToken
from .trace_snapshot import TraceSnapshot
from .vocab import TokenAttribute

__all__ = [
    "PRE_TOKENIZERS",
    "PreTokenizer",
    "SpecialIds",
    "TextRules",
    "TokenAttribute",
    "TokenTrace",
    "Tokenizer",
    "TraceSnapshot",
    "TracedToken",
    "load_tokenizer",
]
