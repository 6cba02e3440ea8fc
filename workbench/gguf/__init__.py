"""Layer 1, bytes on disk: read and write GGUF files, without knowing what the blocks mean."""

from .edit import EditedFile, edit_gguf
from .hashes import FileHashes, hash_gguf
from .layout import FileLayout, Span
from .metadata import Metadata
from .reader import GGUFFile, open_gguf
from .shards import Shard
from .split import merge_gguf, split_gguf
from .strings import StringArray
from .tensor_info import TensorInfo
from .types import GGMLType, ValueType
from .writer import write_gguf

__all__ = [
    "EditedFile",
    "FileHashes",
    "FileLayout",
    "GGMLType",
    "GGUFFile",
    "Metadata",
    "Shard",
    "Span",
    "StringArray",
    "TensorInfo",
    "ValueType",
    "edit_gguf",
    "hash_gguf",
    "merge_gguf",
    "open_gguf",
    "split_gguf",
    "write_gguf",
]
