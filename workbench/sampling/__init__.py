"""Logits -> token: llama.cpp's samplers, one stage each, in a chain that can explain itself."""

from . import stages
from .candidates import Candidates
from .chain import SamplerChain, StageReport
from .params import SamplingParams
from .stages import Stage

__all__ = ["Candidates", "SamplerChain", "SamplingParams", "Stage", "StageReport", "stages"]
