"""Gemma 1 to 3: scaled embeddings, norms on both sides, windows, soft caps.

Source: llama.cpp src/models/{gemma,gemma2,gemma3}.cpp.
"""

from dataclasses import replace

from .parts import ATTENTION, EMBEDDING, GATED_FFN, HEAD_QK_NORMS, LAYER_NORMS, SANDWICH_NORMS, top
from .spec import Architecture, Variant, Window, norm

__all__ = ["GEMMA_FAMILY"]

GEMMA = Architecture(
    name="gemma",
    rope="neox",
    activation="geglu",
    embedding_scale="sqrt",
    scales_queries=True,
    residual_tap="sa_out",
    tensors=(*EMBEDDING, *norm("output_norm")),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=GATED_FFN,
)
GEMMA2 = replace(
    GEMMA,
    name="gemma2",
    layer_tensors=LAYER_NORMS + ATTENTION + SANDWICH_NORMS,
    attn_post_norm="post_attention_norm",
    ffn_post_norm="post_ffw_norm",
    window=Window(size=4096, period=2, rope="file"),
    reads=("attn_logit_softcapping", "final_logit_softcapping"),
    defaults={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    variants=(Variant("n_layer", 46, {"attention_scale": "n_embd"}),),
)
GEMMA3 = replace(
    GEMMA2,
    name="gemma3",
    tensors=top(),
    layer_tensors=GEMMA2.layer_tensors + HEAD_QK_NORMS,
    window=Window(period=6, rope="own"),
    reads=("final_logit_softcapping",),
    defaults={},
    variants=(Variant("n_layer", 62, {"attention_scale": "n_embd"}),),
    ignored=("dense_2.weight", "dense_3.weight"),
)

GEMMA_FAMILY = (GEMMA, GEMMA2, GEMMA3)
