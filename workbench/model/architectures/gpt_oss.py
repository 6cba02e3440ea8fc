"""gpt-oss: attention sinks, windows, yarn, biased experts with a clamped SwiGLU.

Source: llama.cpp src/models/openai-moe.cpp.
"""

from .parts import ATTENTION, EXPERTS, top
from .spec import Architecture, TensorSpec, Window, biased, norm

__all__ = ["GPT_OSS"]

GPT_OSS = Architecture(
    name="gpt-oss",
    rope="neox",
    ffn_norm="post_attention_norm",
    activation="swiglu_oai",
    tensors=top(False),
    layer_tensors=(
        *norm("attn_norm"),
        *norm("post_attention_norm"),
        *ATTENTION,
        TensorSpec("attn_sinks.weight", ("n_head",)),
    ),
    dense_ffn=(),
    expert_ffn=biased(*EXPERTS, required=True),
    gating="softmax_weight",
    norm_shares=False,
    window=Window(period=2),
)
