"""Pictures: a dataclass of `analysis` and an axes in, the axes out. Nothing is computed here.

Colours stay apart for colour-blind readers; axes carry units.
"""

from .file_map import plot_memory, plot_size_by, plot_treemap
from .generated_text import generated_text_html, plot_generated_text
from .next_token import plot_next_token
from .quant_error import (
    plot_block,
    plot_code_usage,
    plot_error_by_value,
    plot_error_change,
    plot_error_heatmap,
    plot_error_map,
    plot_frontier,
    plot_scales,
)

__all__ = [
    "generated_text_html",
    "plot_block",
    "plot_code_usage",
    "plot_error_by_value",
    "plot_error_change",
    "plot_error_heatmap",
    "plot_error_map",
    "plot_frontier",
    "plot_generated_text",
    "plot_memory",
    "plot_next_token",
    "plot_scales",
    "plot_size_by",
    "plot_treemap",
]
