"""A transformer read from a GGUF file: config, weights, KV cache, forward pass, traces.

architectures  what differs between families, as data     config   the numbers, checked
weights        tensors, packed                            rope     angles of positions
kv_cache       keys and values of all positions           trace    looking inside
kv_recorder    what the cache sees, token by token        kv_run   the same, saved and reopened
transformer    the one forward pass                       load     load_model and Model
devices        where it computes
"""

from .architectures import ARCHITECTURES, Architecture
from .config import ModelConfig
from .kv_bytes import CacheBytes, predict_cache_bytes
from .kv_cache import KVCache
from .kv_recorder import KVRecorder
from .kv_run import KVRun
from .load import Model, load_model, to_numpy
from .rope import RopeConfig
from .taps import tap_names
from .trace import ActivationTrace

__all__ = [
    "ARCHITECTURES",
    "ActivationTrace",
    "Architecture",
    "CacheBytes",
    "KVCache",
    "KVRecorder",
    "KVRun",
    "Model",
    "ModelConfig",
    "RopeConfig",
    "load_model",
    "predict_cache_bytes",
    "tap_names",
    "to_numpy",
]
