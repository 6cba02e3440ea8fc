"""Layer 1, bytes on disk: read and write GGUF files, without knowing what the blocks mean."""

from .metadata import Metadata
from .reader import GGUFFile, open_gguf
from .strings import StringArray
from .tensor_info import TensorInfo
from .types import GGMLType, ValueType
from .writer import write_gguf

__all__ = [
    "GGMLType",
    "GGUFFile",
    "Metadata",
    "StringArray",
    "TensorInfo",
    "ValueType",
    "open_gguf",
    "write_gguf",
]
