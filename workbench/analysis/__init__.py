"""What the pictures show, computed: arrays in, frozen dataclasses and tables out.

file_map         what is in a file, and where its bytes go
next_token       a distribution before and after a sampler chain
generated_text   a text with the probability of each of its tokens
"""

from .file_map import (
    Memory,
    Size,
    SizeBy,
    Treemap,
    TreemapRect,
    memory_by_part,
    metadata_table,
    size_by,
    tensor_table,
    treemap,
)
from .generated_text import GeneratedText, generated_text
from .next_token import NextToken, next_token

__all__ = [
    "GeneratedText",
    "Memory",
    "NextToken",
    "Size",
    "SizeBy",
    "Treemap",
    "TreemapRect",
    "generated_text",
    "memory_by_part",
    "metadata_table",
    "next_token",
    "size_by",
    "tensor_table",
    "treemap",
]
