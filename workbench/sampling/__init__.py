"""Logits -> token: llama.cpp's samplers, one stage each, in a chain that can explain itself."""

from . import grammar, stages
from .candidates import Candidates
from .chain import SamplerChain, StageReport
from .parameters import Parameter
from .params import PARAMETERS, SamplingParams
from .stages import Stage

__all__ = [
    "Candidates",
    "PARAMETERS",
    "Parameter",
    "SamplerChain",
    "SamplingParams",
    "Stage",
    "StageReport",
    "grammar",
    "stages",
]
