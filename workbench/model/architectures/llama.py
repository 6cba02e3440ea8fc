"""llama and its closest relatives.

Source: llama.cpp src/models/{llama,smollm3,granite,granite-moe}.cpp.
"""

from dataclasses import replace

from .parts import (
    ATTENTION,
    EXPERTS,
    GATED_FFN,
    LAYER_NORMS,
    LONGROPE,
    ROPE_FREQS,
    SHARED_EXPERT,
    top,
)
from .spec import Architecture, optional

__all__ = ["LLAMA", "LLAMA_FAMILY"]

LLAMA = Architecture(
    name="llama",
    rope="norm",
    rotates_whole_head=True,
    tensors=top(True, False, *ROPE_FREQS, *LONGROPE),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=GATED_FFN,
    expert_ffn=EXPERTS + optional(*SHARED_EXPERT),
)
SMOLLM3 = replace(
    LLAMA, name="smollm3", tensors=top(), expert_ffn=(), no_rope_period=4, rotates_whole_head=False
)
GRANITE = replace(
    LLAMA, name="granite", rotates_whole_head=False, divides_logits=True, attention_scale="file"
)
GRANITE_MOE = replace(GRANITE, name="granitemoe")

LLAMA_FAMILY = (LLAMA, SMOLLM3, GRANITE, GRANITE_MOE)
