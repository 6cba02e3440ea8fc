"""DeepSeek 1 to 3 and others with shared experts and latent attention.

Sources: llama.cpp src/models/{deepseek,deepseek2,dots1,afmoe,bailingmoe,bailingmoe2,minicpm3,
plm}.cpp; Liu et al., arXiv:2405.04434 (latent attention).
"""

from dataclasses import replace

from .parts import (
    ATTENTION,
    EXPERT_BIAS,
    EXPERTS,
    FACTORS,
    FUSED_EXPERTS,
    GATED_FFN,
    GATING,
    HEAD_QK_NORMS,
    LAYER_NORMS,
    PLAIN_FFN,
    SANDWICH_NORMS,
    SHARED_EXPERT,
    top,
)
from .spec import Architecture, Temperature, TensorSpec, Window, matrices, norm, optional

__all__ = ["DEEPSEEK_FAMILY"]

QUERIES = (
    TensorSpec("attn_q_a.weight", ("q_lora_rank", "n_embd"), unless="attn_q"),
    TensorSpec("attn_q_a_norm.weight", ("q_lora_rank",), unless="attn_q"),
    TensorSpec("attn_q_b.weight", ("n_embd_q_mla", "q_lora_rank"), unless="attn_q"),
    TensorSpec("attn_q.weight", ("n_embd_q_mla", "n_embd"), optional=True),
)
LATENT = (
    *matrices(attn_kv_a_mqa=("n_kv_a", "n_embd")),
    *norm("attn_kv_a_norm", "kv_lora_rank"),
    TensorSpec("attn_kv_b.weight", ("n_kv_b", "kv_lora_rank"), unless="attn_k_b"),
    TensorSpec("attn_k_b.weight", ("n_head", "kv_lora_rank", "head_dim_nope"), unless="attn_kv_b"),
    TensorSpec("attn_v_b.weight", ("n_head", "head_dim_v_mla", "kv_lora_rank"), unless="attn_kv_b"),
    *matrices(attn_output=("n_embd", "n_embd_heads")),
)

DEEPSEEK = Architecture(
    name="deepseek",
    tensors=top(),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=GATED_FFN,
    expert_ffn=EXPERTS + SHARED_EXPERT,
    reads=("expert_weights_scale", "n_layer_dense_lead"),
    norm_shares=False,
    n_ff_shexp="n_ff_of_shared",
)
DOTS1 = replace(
    DEEPSEEK,
    name="dots1",
    reads=GATING,
    rope="neox",
    tensors=top(False),
    layer_tensors=LAYER_NORMS + ATTENTION + HEAD_QK_NORMS,
    expert_ffn=EXPERTS + EXPERT_BIAS + SHARED_EXPERT,
)
DEEPSEEK2 = replace(
    DEEPSEEK,
    name="deepseek2",
    reads=GATING,
    attention_scale="mscale",
    yarn_keys=("latent_log_mul",),
    temperature=Temperature(length_key=True),
    tensors=top(),
    layer_tensors=LAYER_NORMS + QUERIES + LATENT,
    expert_ffn=FUSED_EXPERTS + EXPERT_BIAS + SHARED_EXPERT,
)
AFMOE = replace(
    DOTS1,
    name="afmoe",
    embedding_scale="sqrt",
    no_rope_period=4,
    attn_post_norm="post_attention_norm",
    ffn_post_norm="post_ffw_norm",
    tensors=top(),
    layer_tensors=(
        *DOTS1.layer_tensors,
        *SANDWICH_NORMS,
        *matrices(attn_gate=("n_embd_heads", "n_embd")),
    ),
    expert_ffn=EXPERTS + EXPERT_BIAS + optional(*SHARED_EXPERT),
    gating="sigmoid",
    window=Window(period=4, rope="file"),
)
BAILING_MOE2 = replace(
    DOTS1, name="bailingmoe2", residual_tap="sa_out", n_ff_shexp="n_ff_of_each_shared"
)
MINICPM3 = Architecture(
    name="minicpm3",
    rope="neox",
    defaults={
        "embedding_scale": 12.0,
        "residual_scale": lambda n_layer, n_embd: 1.4 / n_layer**0.5,
        "logit_scale": lambda n_layer, n_embd: 256 / n_embd,
    },
    tensors=top(True, False, *FACTORS),
    layer_tensors=LAYER_NORMS + QUERIES + LATENT,
    dense_ffn=GATED_FFN,
)
PLM = Architecture(
    name="plm",
    activation="relu_squared",
    tensors=(*top()[:1], *norm("output_norm")),
    layer_tensors=LAYER_NORMS + QUERIES + LATENT,
    dense_ffn=PLAIN_FFN,
)

DEEPSEEK_FAMILY = (
    DEEPSEEK,
    DOTS1,
    AFMOE,
    DEEPSEEK2,
    replace(
        DEEPSEEK,
        name="bailingmoe",
        tensors=top(False),
        dense_ffn=(),
        reads=("normalizes_shares", "expert_weights_scale"),
    ),
    BAILING_MOE2,
    MINICPM3,
    PLM,
)
