"""Command R and other layers whose feed-forward network reads what attention reads.

Sources: llama.cpp src/models/{command-r,cohere2,plamo}.cpp.
"""

from dataclasses import replace

from .gpt import PER_HEAD_QK_NORMS
from .parts import ATTENTION, EMBEDDING, GATED_FFN, top
from .spec import Architecture, Window, norm

__all__ = ["COMMAND_R_FAMILY"]

COMMAND_R = Architecture(
    name="command-r",
    norm="layer_norm",
    qk_norm="layer_norm",
    ffn_reads="attn_norm",
    reads=("logit_scale",),
    tensors=(*EMBEDDING, *norm("output_norm")),
    layer_tensors=norm("attn_norm") + ATTENTION + PER_HEAD_QK_NORMS,
    dense_ffn=GATED_FFN,
)
COHERE2 = replace(
    COMMAND_R,
    name="cohere2",
    layer_tensors=norm("attn_norm") + ATTENTION,
    rope_only_windowed=True,
    window=Window(period=4),
)
PLAMO = replace(COHERE2, name="plamo", norm="rms_norm", rope="neox", tensors=top(False))

COMMAND_R_FAMILY = (
    COMMAND_R,
    COHERE2,
    replace(PLAMO, rope_only_windowed=False, window=None, reads=()),
)
