"""Gemma 1 to 3: scaled embeddings, norms on both sides, windows, soft caps.

Source: llama.cpp src/models/{gemma,gemma2,gemma3}.cpp.
"""

from dataclasses import replace

from .parts import ATTENTION, EMBEDDING, GATED_FFN, LAYER_NORMS, top
from .spec import Architecture, Window, norm

__all__ = ["GEMMA", "GEMMA_FAMILY"]

POST_NORMS = (*norm("post_attention_norm"), *norm("post_ffw_norm"))

GEMMA = Architecture(
    name="gemma",
    rope="neox",
    activation="geglu",
    embedding_scale="sqrt",
    scales_queries=True,
    tensors=(*EMBEDDING, *norm("output_norm")),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=GATED_FFN,
)
GEMMA2 = replace(
    GEMMA,
    name="gemma2",
    layer_tensors=LAYER_NORMS + ATTENTION + POST_NORMS,
    attn_post_norm="post_attention_norm",
    ffn_post_norm="post_ffw_norm",
    wide_scale_at=46,
    window=Window(size=4096, period=2),
    defaults={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    residual_tap="sa_out",
)
GEMMA3 = replace(
    GEMMA2,
    name="gemma3",
    tensors=top(),
    layer_tensors=(
        *GEMMA2.layer_tensors,
        *norm("attn_q_norm", "head_dim"),
        *norm("attn_k_norm", "head_dim"),
    ),
    wide_scale_at=62,
    window=Window(period=6, rope="own"),
    defaults={},
)

GEMMA_FAMILY = (GEMMA, GEMMA2, GEMMA3)
