"""Pictures: a dataclass of `analysis` and an axes in, the axes out. Nothing is computed here.

Colours stay apart for colour-blind readers; axes carry units.
"""

from .file_map import plot_memory, plot_size_by, plot_treemap
from .generated_text import generated_text_html, plot_generated_text
from .next_token import plot_next_token

__all__ = [
    "generated_text_html",
    "plot_generated_text",
    "plot_memory",
    "plot_next_token",
    "plot_size_by",
    "plot_treemap",
]
