"""OLMo, OLMoE, OLMo 2 and 3, and EXAONE 4, which norms in the same places.

Source: llama.cpp src/models/{olmo,olmoe,olmo2,exaone4,exaone-moe}.cpp.
"""

from .parts import (
    ATTENTION,
    EMBEDDING,
    EXPERT_BIAS,
    EXPERTS,
    GATED_FFN,
    GATING,
    HEAD_QK_NORMS,
    LAYER_NORMS,
    OUTPUT,
    ROPE_FREQS,
    SANDWICH_NORMS,
    SHARED_EXPERT,
    top,
)
from .spec import Architecture, Variant, Window, norm

__all__ = ["OLMO_FAMILY"]

WHOLE_QK_NORMS = (*norm("attn_q_norm", "n_embd_q"), *norm("attn_k_norm", "n_embd_k"))

OLMO = Architecture(
    name="olmo",
    norm="layer_norm",
    norms_by_weight=False,
    reads=("clamp_kqv",),
    tensors=EMBEDDING + OUTPUT,
    layer_tensors=ATTENTION,
    dense_ffn=GATED_FFN,
)
OLMOE = Architecture(
    name="olmoe",
    rope="neox",
    tensors=top(False),
    layer_tensors=LAYER_NORMS + ATTENTION + WHOLE_QK_NORMS,
    dense_ffn=(),
    expert_ffn=EXPERTS,
    n_ff_exp="n_ff",
    norm_shares=False,
)
MINIMAX_M2 = Architecture(
    name="minimax-m2",
    rope="neox",
    tensors=top(False),
    layer_tensors=LAYER_NORMS + ATTENTION + WHOLE_QK_NORMS,
    dense_ffn=(),
    expert_ffn=EXPERTS + EXPERT_BIAS,
    n_ff_exp="n_ff",
    reads=("expert_gating",),
)
OLMO2 = Architecture(
    name="olmo2",
    rope="neox",
    rotates_whole_head=True,
    pre_norm=False,
    ffn_norm="",
    attn_post_norm="post_attention_norm",
    ffn_post_norm="post_ffw_norm",
    tensors=top(False),
    layer_tensors=ATTENTION + WHOLE_QK_NORMS + SANDWICH_NORMS,
    dense_ffn=GATED_FFN,
    window=Window(period=4, rope="plain"),
)
EXAONE4 = Architecture(
    name="exaone4",
    rope="neox",
    rope_only_windowed=True,
    pre_norm=False,
    ffn_norm="",
    attn_post_norm="post_attention_norm",
    ffn_post_norm="post_ffw_norm",
    tensors=top(True, False, *ROPE_FREQS),
    layer_tensors=ATTENTION + HEAD_QK_NORMS + SANDWICH_NORMS,
    dense_ffn=GATED_FFN,
    variants=(Variant("n_layer", 64, {"window": Window(size=4096, period=4)}),),
)
EXAONE_MOE = Architecture(
    name="exaone-moe",
    rope="neox",
    rope_only_windowed=True,
    tensors=top(False, False, *ROPE_FREQS),
    layer_tensors=LAYER_NORMS + ATTENTION + HEAD_QK_NORMS,
    dense_ffn=GATED_FFN,
    expert_ffn=EXPERTS + EXPERT_BIAS + SHARED_EXPERT,
    reads=GATING,
    norm_shares=False,
    n_ff_shexp="n_ff_exp",
    window=Window(size=128, period=4),
)

OLMO_FAMILY = (OLMO, OLMOE, MINIMAX_M2, OLMO2, EXAONE4, EXAONE_MOE)
