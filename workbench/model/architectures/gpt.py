"""GPT-2 and other stacks with LayerNorm, biases and an ungated feed-forward network.

Source: llama.cpp src/models/{gpt2,starcoder2,falcon,stablelm,command-r}.cpp.
"""

from dataclasses import replace

from .parts import ATTENTION, EMBEDDING, GATED_FFN, PLAIN_FFN, top
from .spec import Architecture, TensorSpec, norm, optional

__all__ = ["GPT_FAMILY", "LAYER_NORMS_BIASED"]

LAYER_NORMS_BIASED = (*norm("attn_norm", bias=True), *norm("ffn_norm", bias=True))

GPT2 = Architecture(
    name="gpt2",
    rope="none",
    norm="layer_norm",
    activation="gelu",
    tensors=top(True, True, TensorSpec("position_embd.weight", ("n_ctx_train", "n_embd"))),
    layer_tensors=LAYER_NORMS_BIASED + ATTENTION,
    dense_ffn=PLAIN_FFN,
)
STARCODER = replace(GPT2, name="starcoder")
STARCODER2 = replace(GPT2, name="starcoder2", rope="neox", tensors=top(True, True))
FALCON = Architecture(
    name="falcon",
    rope="neox",
    rotates_whole_head=True,
    norm="layer_norm",
    activation="gelu",
    ffn_reads="attn_norm",
    tensors=top(True, True),
    layer_tensors=(
        *norm("attn_norm", bias=True),
        *optional(*norm("attn_norm_2", bias=True)),
        *ATTENTION,
    ),
    dense_ffn=PLAIN_FFN,
)
QK_NORMS = (
    TensorSpec("attn_q_norm.weight", ("n_head", "head_dim"), optional=True),
    TensorSpec("attn_k_norm.weight", ("n_head_kv", "head_dim"), optional=True),
)
STABLELM = Architecture(
    name="stablelm",
    rope="neox",
    norm="layer_norm",
    qk_norm="layer_norm",
    tensors=top(False, True),
    layer_tensors=(
        *norm("attn_norm", bias=True),
        *optional(*norm("ffn_norm", bias=True)),  # without it attention's norm counts for both
        *ATTENTION,
        *QK_NORMS,
    ),
    dense_ffn=GATED_FFN,
)
COMMAND_R = Architecture(
    name="command-r",
    norm="layer_norm",
    qk_norm="layer_norm",
    ffn_reads="attn_norm",
    tensors=(*EMBEDDING, *norm("output_norm")),
    layer_tensors=norm("attn_norm") + ATTENTION + QK_NORMS,
    dense_ffn=GATED_FFN,
)

GPT_FAMILY = (GPT2, STARCODER, STARCODER2, FALCON, STABLELM, COMMAND_R)
