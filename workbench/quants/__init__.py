"""Quantized blocks to float32 and back, bit-equal to ggml, in NumPy: the truth of the package.

`convert` holds the table of types, `codec` what a type is; one module a family of types.
"""

from .codec import Codec
from .convert import CODECS, codec_of, dequantize, quantize
from .file import open_gguf
from .online import quantize_online
from .validate_data import validate_gguf

__all__ = [
    "CODECS",
    "Codec",
    "codec_of",
    "dequantize",
    "open_gguf",
    "quantize",
    "quantize_online",
    "validate_gguf",
]
