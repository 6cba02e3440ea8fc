"""Qwen 1 to 3, dense and with experts; the language part of the ones that see.

Sources: llama.cpp src/models/{qwen,qwen2,qwen2moe,qwen2vl,qwen3,qwen3moe,qwen3vl,qwen3vlmoe}.cpp;
the rotation of the VL models has three axes, which are one and the same for text.
"""

from dataclasses import replace

from .llama import LLAMA
from .parts import ATTENTION, EXPERTS, GATED_FFN, HEAD_QK_NORMS, LAYER_NORMS, SHARED_EXPERT, top
from .spec import TensorSpec, Window

__all__ = ["QWEN2", "QWEN3", "QWEN_FAMILY"]

QWEN2 = replace(
    LLAMA,
    name="qwen2",
    rope="neox",
    rotates_whole_head=False,
    tensors=top(True, False, TensorSpec("output.bias", ("n_vocab",), optional=True)),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=GATED_FFN,
    expert_ffn=(),
)
QWEN2_MOE = replace(
    QWEN2,
    name="qwen2moe",
    tensors=top(False),
    dense_ffn=(),
    expert_ffn=(*EXPERTS, TensorSpec("ffn_gate_inp_shexp.weight", ("n_embd",)), *SHARED_EXPERT),
    norm_shares=False,
    n_ff_exp="n_ff_of_expert",
    n_ff_shexp="n_ff",
)
QWEN3 = replace(
    QWEN2,
    name="qwen3",
    tensors=top(),
    layer_tensors=LAYER_NORMS + ATTENTION + HEAD_QK_NORMS,
    ignored=("cls.output.weight",),
)
QWEN3_MOE = replace(
    QWEN3,
    name="qwen3moe",
    dense_ffn=(),
    expert_ffn=EXPERTS,
    n_ff_exp="n_ff_of_expert",
    ignored=(),
)

QWEN_FAMILY = (
    replace(QWEN2, name="qwen", tensors=top(False), n_ff_divisor=2),
    QWEN2,
    QWEN2_MOE,
    replace(QWEN2, name="qwen2vl", tensors=top(), ignored=("output.bias",)),
    QWEN3,
    QWEN3_MOE,
    replace(QWEN3, name="qwen3vl"),
    replace(QWEN3_MOE, name="qwen3vlmoe"),
    replace(QWEN3_MOE, name="mellum", tensors=top(False), window=Window(period=4, rope="plain")),
)
