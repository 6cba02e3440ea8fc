"""Phi 2 and 3.

Source: llama.cpp src/models/{phi2,phi3}.cpp.
"""

from .parts import ATTENTION, EXPERTS, LAYER_NORMS, LONGROPE, PLAIN_FFN, top
from .spec import Architecture, TensorSpec, matrices, norm

__all__ = ["PHI_FAMILY"]

PHI2 = Architecture(
    name="phi2",
    rope="neox",
    norm="layer_norm",
    activation="gelu",
    ffn_reads="attn_norm",
    scales_queries=True,
    tensors=top(False, True, TensorSpec("output.bias", ("n_vocab",))),
    layer_tensors=norm("attn_norm", bias=True) + ATTENTION,
    dense_ffn=PLAIN_FFN,
)
FUSED_FFN = matrices(ffn_up=("n_ff_gate_up", "n_embd"), ffn_down=("n_embd", "n_ff"))
PHI3 = Architecture(
    name="phi3",
    rope="neox",
    scales_queries=True,
    tensors=top(True, False, *LONGROPE),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=FUSED_FFN,
)
LAYER_NORMS_BIASED = (*norm("attn_norm", bias=True), *norm("ffn_norm", bias=True))
PHIMOE = Architecture(
    name="phimoe",
    rope="neox",
    scales_queries=True,
    tensors=top(False, True, TensorSpec("output.bias", ("n_vocab",)), *LONGROPE),
    layer_tensors=LAYER_NORMS_BIASED + ATTENTION,
    dense_ffn=(),
    expert_ffn=EXPERTS,
)

PHI_FAMILY = (PHI2, PHI3, PHIMOE)
