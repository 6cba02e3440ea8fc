"""What the pictures show, computed: arrays in, frozen dataclasses and tables out.

file_map         what is in a file, and where its bytes go
next_token       a distribution before and after a sampler chain
generated_text   a text with the probability of each of its tokens
quant_error      what quantization does to a tensor; quant_maps: where in it
quant_codes      how codes and scales are used, and one block looked at closely
quant_model      the same for every tensor of a file, or between two files
imatrix          the importance of columns, from a text
quant_lattice    signs that weights were quantized before
speed            how fast the package is beside others
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
from .imatrix import ImatrixStatistics, collect_imatrix, imatrix_statistics
from .next_token import NextToken, next_token
from .quant_codes import BlockZoom, CodeUsage, ScaleSpread, block_zoom, code_usage, scale_spread
from .quant_error import QuantError, frontier, quant_error
from .quant_lattice import LatticeEvidence, find_lattice, lattice_table
from .quant_maps import ErrorByValue, ErrorMap, error_by_value, error_map
from .quant_model import (
    error_change,
    error_pivot,
    file_errors,
    matrices,
    model_errors,
    weight_types,
)
from .speed import dequantize_speed

__all__ = [
    "BlockZoom",
    "CodeUsage",
    "ErrorByValue",
    "ErrorMap",
    "GeneratedText",
    "ImatrixStatistics",
    "LatticeEvidence",
    "Memory",
    "NextToken",
    "QuantError",
    "ScaleSpread",
    "Size",
    "SizeBy",
    "Treemap",
    "TreemapRect",
    "block_zoom",
    "code_usage",
    "collect_imatrix",
    "dequantize_speed",
    "error_by_value",
    "error_change",
    "error_map",
    "error_pivot",
    "file_errors",
    "find_lattice",
    "frontier",
    "generated_text",
    "imatrix_statistics",
    "lattice_table",
    "matrices",
    "memory_by_part",
    "metadata_table",
    "model_errors",
    "next_token",
    "quant_error",
    "scale_spread",
    "size_by",
    "tensor_table",
    "treemap",
    "weight_types",
]
