"""ChatGLM, GLM 4 and its mixture of experts.

Source: llama.cpp src/models/{chatglm,glm4,glm4-moe}.cpp; the three axes that a file may give the
rotation are one and the same for text.
"""

from .parts import (
    ATTENTION,
    EXPERT_BIAS,
    EXPERTS,
    GATED_FFN,
    GATING,
    HEAD_QK_NORMS,
    LAYER_NORMS,
    SANDWICH_NORMS,
    SHARED_EXPERT,
    top,
)
from .phi import FUSED_FFN
from .spec import Architecture, norm, optional

__all__ = ["GLM_FAMILY"]

CHATGLM = Architecture(
    name="chatglm",
    tensors=top(),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=FUSED_FFN,
)
GLM4 = Architecture(
    name="glm4",
    attn_post_norm="post_attention_norm",
    ffn_post_norm="post_ffw_norm",
    tensors=top(),
    layer_tensors=LAYER_NORMS + ATTENTION + SANDWICH_NORMS,
    dense_ffn=FUSED_FFN,
)
GLM4_MOE = Architecture(
    name="glm4moe",
    rope="neox",
    ffn_norm="post_attention_norm",
    tensors=top(),
    layer_tensors=(
        *norm("attn_norm"),
        *norm("post_attention_norm"),
        *ATTENTION,
        *optional(*HEAD_QK_NORMS),
    ),
    dense_ffn=GATED_FFN,
    expert_ffn=EXPERTS + EXPERT_BIAS + optional(*SHARED_EXPERT),
    gating="sigmoid",
    reads=GATING,
    norm_shares=False,
    n_ff_exp="n_ff_of_expert",
    n_ff_shexp="n_ff_of_shared",
)

GLM_FAMILY = (CHATGLM, GLM4, GLM4_MOE)
