"""Phi 2, 3 and its mixture of experts.

Source: llama.cpp src/models/{phi2,phi3,phimoe}.cpp; the window that a file of Phi 3 may have is not
used there either.
"""

from .parts import (
    ATTENTION,
    ATTENTION_BIASED,
    EXPERTS,
    LAYER_NORMS,
    LAYER_NORMS_BIASED,
    LONGROPE,
    OUTPUT_BIAS,
    PLAIN_FFN_BIASED,
    top,
)
from .spec import Architecture, matrices, norm

__all__ = ["FUSED_FFN", "PHI_FAMILY"]

FUSED_FFN = matrices(ffn_up=("n_ff_gate_up", "n_embd"), ffn_down=("n_embd", "n_ff"))

PHI2 = Architecture(
    name="phi2",
    rope="neox",
    norm="layer_norm",
    activation="gelu",
    ffn_reads="attn_norm",
    scales_queries=True,
    tensors=top(False, True, OUTPUT_BIAS),
    layer_tensors=norm("attn_norm", bias=True) + ATTENTION_BIASED,
    dense_ffn=PLAIN_FFN_BIASED,
)
PHI3 = Architecture(
    name="phi3",
    rope="neox",
    scales_queries=True,
    tensors=top(True, False, *LONGROPE),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=FUSED_FFN,
)
PHIMOE = Architecture(
    name="phimoe",
    rope="neox",
    scales_queries=True,
    tensors=top(False, True, OUTPUT_BIAS, *LONGROPE),
    layer_tensors=LAYER_NORMS_BIASED + ATTENTION_BIASED,
    dense_ffn=(),
    expert_ffn=EXPERTS,
    n_ff_exp="n_ff",
)

PHI_FAMILY = (PHI2, PHI3, PHIMOE)
