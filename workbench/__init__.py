"""The GGUF Research Workbench: study the very `.gguf` file you run.

import workbench as wb

    wb.open_gguf(path)        what is in the file                     gguf/, quants/
    wb.load_tokenizer(gguf)   text <-> token ids                      tokenizer/
    wb.load_model(path)       the transformer, its KV cache, traces   model/
    wb.generate(model, text)  tokens, one record a step               sampling/, generate.py
    wb.analysis, wb.plots, wb.panels                                  loaded when first used
"""

from importlib import import_module
from types import ModuleType

from . import sampling
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
from .gguf import write_gguf
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
    "generate",
    "load_model",
    "load_tokenizer",
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
    "to_numpy",
    "validate_gguf",
    "write_gguf",
    "write_imatrix",
]

LATER = frozenset({"analysis", "panels", "plots"})  # they bring pandas, matplotlib, ipywidgets


def __getattr__(name: str) -> ModuleType:
    if name in LATER:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
