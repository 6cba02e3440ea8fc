"""Controls: ipywidgets joined to `analysis` and `plots`, one plain class a panel.

A panel has `.widget`, its controls as attributes, `.summary()` for the next cell to print, and
draws into Image and HTML widgets.
"""

from .ablation import AblationPanel
from .chat import ChatPanel
from .kv_cache import KVCachePanel
from .memory_calculator import MemoryCalculator
from .quantization import QuantizationPanel
from .sampling import SamplingPanel
from .token_stepper import TokenStepper

__all__ = [
    "AblationPanel",
    "ChatPanel",
    "KVCachePanel",
    "MemoryCalculator",
    "QuantizationPanel",
    "SamplingPanel",
    "TokenStepper",
]
