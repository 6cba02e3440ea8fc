"""GPT-2 and other stacks with LayerNorm; learned positions, ALiBi or rotation.

Sources: llama.cpp src/models/{gpt2,starcoder,starcoder2,gptneox,bloom,mpt,jais,jais2,codeshell,
falcon,stablelm,nemotron,phi2}.cpp.
"""

from dataclasses import replace

from .parts import (
    ATTENTION,
    ATTENTION_BIASED,
    GATED_FFN,
    GATED_FFN_BIASED,
    LAYER_NORMS_BIASED,
    PLAIN_FFN,
    PLAIN_FFN_BIASED,
    top,
)
from .spec import Architecture, TensorSpec, norm, optional

__all__ = ["GPT_FAMILY", "PER_HEAD_QK_NORMS"]

POSITIONS = TensorSpec("position_embd.weight", ("n_ctx_train", "n_embd"))
PER_HEAD_QK_NORMS = optional(
    *norm("attn_q_norm", "n_head", "head_dim"), *norm("attn_k_norm", "n_head_kv", "head_dim")
)

GPT2 = Architecture(
    name="gpt2",
    rope="none",
    norm="layer_norm",
    activation="gelu",
    tensors=top(True, True, POSITIONS),
    layer_tensors=LAYER_NORMS_BIASED + ATTENTION_BIASED,
    dense_ffn=PLAIN_FFN_BIASED,
)
STARCODER2 = replace(GPT2, name="starcoder2", rope="neox", tensors=top(True, True))
FALCON = replace(
    GPT2,
    name="falcon",
    rope="neox",
    rotates_whole_head=True,
    ffn_reads="attn_norm",
    tensors=top(True, True),
    layer_tensors=(
        *norm("attn_norm", bias=True),
        *optional(*norm("attn_norm_2", bias=True)),
        *ATTENTION,
    ),
    dense_ffn=PLAIN_FFN,
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
        *PER_HEAD_QK_NORMS,
    ),
    dense_ffn=GATED_FFN,
)
BLOOM = replace(
    GPT2,
    name="bloom",
    tensors=top(True, True, *norm("token_embd_norm", bias=True)),
    defaults={"max_alibi_bias": 8.0},
)
MPT = replace(
    GPT2,
    name="mpt",
    reads=("clamp_kqv", "max_alibi_bias"),
    tensors=(
        *top(True, False, *optional(POSITIONS)),
        *optional(TensorSpec("output_norm.bias", ("n_embd",))),
    ),
    layer_tensors=(
        *norm("attn_norm"),
        *norm("ffn_norm"),
        *optional(*norm("attn_norm", bias=True)[1:], *norm("ffn_norm", bias=True)[1:]),
        *ATTENTION_BIASED,
    ),
    dense_ffn=(*PLAIN_FFN_BIASED, TensorSpec("ffn.act.scales", ("n_ff",), optional=True)),
)
JAIS = replace(
    GPT2,
    name="jais",
    reads=("max_alibi_bias",),
    activation="swiglu",
    attention_scale="1/head_dim",
    tensors=top(False, True),
    dense_ffn=GATED_FFN_BIASED,
)

GPT_FAMILY = (
    GPT2,
    replace(GPT2, name="starcoder"),
    STARCODER2,
    replace(STARCODER2, name="codeshell"),
    replace(
        STARCODER2,
        name="gptneox",
        tensors=top(False, True),
        ffn_reads="layer_input",
        reads=("parallel_residual",),
    ),
    replace(STARCODER2, name="nemotron", tensors=top(False, True), activation="relu_squared"),
    replace(STARCODER2, name="jais2", activation="relu_squared"),
    FALCON,
    STABLELM,
    BLOOM,
    MPT,
    JAIS,
)
