"""Qwen 2 and 3, dense and with experts.

Source: llama.cpp src/models/{qwen2,qwen2moe,qwen3,qwen3moe}.cpp.
"""

from dataclasses import replace

from .llama import LLAMA
from .parts import ATTENTION, EXPERTS, LAYER_NORMS, SHARED_EXPERT, top
from .spec import TensorSpec, norm

__all__ = ["QWEN2", "QWEN3", "QWEN_FAMILY"]

QWEN2 = replace(
    LLAMA,
    name="qwen2",
    rope="neox",
    rotates_whole_head=False,
    tensors=top(True, False, TensorSpec("output.bias", ("n_vocab",), optional=True)),
    expert_ffn=(),
)
QWEN2_MOE = replace(
    QWEN2,
    name="qwen2moe",
    tensors=top(),
    dense_ffn=(),
    expert_ffn=(*EXPERTS, TensorSpec("ffn_gate_inp_shexp.weight", ("n_embd",)), *SHARED_EXPERT),
    norm_shares=False,
    n_ff_exp="n_ff_of_expert",
)
QK_NORMS = (*norm("attn_q_norm", "head_dim"), *norm("attn_k_norm", "head_dim"))
QWEN3 = replace(
    QWEN2, name="qwen3", tensors=top(), layer_tensors=LAYER_NORMS + ATTENTION + QK_NORMS
)
QWEN3_MOE = replace(
    QWEN3, name="qwen3moe", dense_ffn=(), expert_ffn=EXPERTS, n_ff_exp="n_ff_of_expert"
)

QWEN_FAMILY = (QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE)
