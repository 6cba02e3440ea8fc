"""What `import workbench` gives, and from where: `__init__.py` imports a name at its first use."""

from . import analysis, panels, plots, sampling
from .analysis import diff_gguf
from .chat_session import ChatSession
from .errors import (
    ContextFullError,
    GGUFError,
    GGUFNotFoundError,
    ParameterError,
    UnsupportedError,
    WorkbenchError,
)
from .generate import Step, generate
from .gguf import edit_gguf, hash_gguf, merge_gguf, split_gguf, write_gguf
from .model import (
    ActivationTrace,
    KVCache,
    KVRecorder,
    KVRun,
    Model,
    ModelConfig,
    load_model,
    predict_cache_bytes,
    to_numpy,
)
from .quants import dequantize, open_gguf, quantize, validate_gguf
from .quants.imatrix import read_imatrix, write_imatrix
from .quants.whole_file import quantize_file
from .records import Recorder, RunRecord, replay
from .resources import builtin_model_path, model_path
from .sampling import SamplerChain, SamplingParams
from .speculative import Acceptance, ModelDraft, NgramDraft, speculate
from .tokenizer import load_tokenizer

__all__ = [
    "Acceptance",
    "ActivationTrace",
    "ChatSession",
    "ContextFullError",
    "GGUFError",
    "GGUFNotFoundError",
    "KVCache",
    "KVRecorder",
    "KVRun",
    "Model",
    "ModelConfig",
    "ModelDraft",
    "NgramDraft",
    "ParameterError",
    "Recorder",
    "RunRecord",
    "SamplerChain",
    "SamplingParams",
    "Step",
    "UnsupportedError",
    "WorkbenchError",
    "analysis",
    "builtin_model_path",
    "dequantize",
    "diff_gguf",
    "edit_gguf",
    "generate",
    "hash_gguf",
    "load_model",
    "load_tokenizer",
    "merge_gguf",
    "model_path",
    "open_gguf",
    "panels",
    "plots",
    "predict_cache_bytes",
    "quantize",
    "quantize_file",
    "read_imatrix",
    "replay",
    "sampling",
    "speculate",
    "split_gguf",
    "to_numpy",
    "validate_gguf",
    "write_gguf",
    "write_imatrix",
]
