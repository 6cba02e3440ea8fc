"""OLMo, OLMoE, OLMo 2 and 3.

Source: llama.cpp src/models/{olmo,olmoe,olmo2}.cpp.
"""

from .parts import ATTENTION, EMBEDDING, EXPERTS, GATED_FFN, LAYER_NORMS, OUTPUT, top
from .spec import Architecture, Window, norm

__all__ = ["OLMO_FAMILY"]

WHOLE_QK_NORMS = (*norm("attn_q_norm", "n_embd_q"), *norm("attn_k_norm", "n_embd_k"))

OLMO = Architecture(
    name="olmo",
    norm="layer_norm",
    norms_by_weight=False,
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
    norm_shares=False,
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
    layer_tensors=(
        *ATTENTION,
        *WHOLE_QK_NORMS,
        *norm("post_attention_norm"),
        *norm("post_ffw_norm"),
    ),
    dense_ffn=GATED_FFN,
    window=Window(period=4, rope="plain"),
)

OLMO_FAMILY = (OLMO, OLMOE, OLMO2)
