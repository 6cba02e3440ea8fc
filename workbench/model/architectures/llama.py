"""llama and its closest relatives, which differ in a number or a norm.

Sources: llama.cpp src/models/{llama,smollm3,granite,granite-moe,minicpm,mistral3,refact,arcee,
internlm2,xverse,baichuan,orion,exaone,seed-oss,pangu-embed,maincoder,bitnet,deci,apertus,openelm,
ernie4-5,ernie4-5-moe,hunyuan-vl,hunyuan-moe}.cpp.
"""

from dataclasses import replace

from .parts import (
    ATTENTION,
    ATTENTION_BIASED,
    EXPERT_BIAS,
    EXPERTS,
    FACTORS,
    GATED_FFN,
    GATED_FFN_BIASED,
    HEAD_QK_NORMS,
    LAYER_NORMS,
    LAYER_NORMS_BIASED,
    PLAIN_FFN,
    ROPE_FREQS,
    SHARED_EXPERT,
    top,
)
from .spec import Architecture, Temperature, Variant, norm, optional

__all__ = ["LLAMA", "LLAMA_FAMILY"]

LLAMA = Architecture(
    name="llama",
    rope="norm",
    rotates_whole_head=True,
    tensors=top(True, False, *FACTORS),
    layer_tensors=LAYER_NORMS + ATTENTION_BIASED,
    dense_ffn=GATED_FFN_BIASED,
    expert_ffn=EXPERTS + optional(*SHARED_EXPERT),
    n_ff_exp="n_ff",
)
PLAIN = replace(
    LLAMA,
    name="",
    rotates_whole_head=False,
    tensors=top(),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=GATED_FFN,
    expert_ffn=(),
)
GRANITE = replace(
    LLAMA,
    name="granite",
    rotates_whole_head=False,
    divides_logits=True,
    attention_scale="file",
    reads=("logit_scale", "residual_scale", "embedding_scale"),
    rope_if_finetuned=True,
)
MINICPM = replace(
    LLAMA,
    name="minicpm",
    rotates_whole_head=False,
    divides_logits=True,
    reads=GRANITE.reads,
    defaults={
        "embedding_scale": 12.0,
        "residual_scale": lambda n_layer, n_embd: 1.4 / n_layer**0.5,
        "logit_scale": lambda n_layer, n_embd: 256 / n_embd,
    },
)
MISTRAL3 = replace(
    LLAMA,
    name="mistral3",
    rotates_whole_head=False,
    yarn_keys=("beta_fast", "beta_slow", "log_mul"),
    temperature=Temperature(),
)
BAICHUAN = replace(
    PLAIN,
    name="baichuan",
    tensors=top(False),
    rope="none",
    variants=(
        Variant("n_layer", 32, {"rope": "norm"}),
        Variant("n_layer", 40, {"defaults": {"max_alibi_bias": 8.0}}),
    ),
)
BITNET = replace(
    PLAIN,
    name="bitnet",
    rope="neox",
    tensors=(*top(False)[:1], *norm("output_norm")),
    layer_tensors=(*LAYER_NORMS, *norm("attn_sub_norm"), *ATTENTION),
    dense_ffn=(*GATED_FFN, *norm("ffn_sub_norm", "n_ff")),
)
APERTUS = replace(
    PLAIN,
    name="apertus",
    rope="neox",
    activation="xielu",
    tensors=top(False, False, *FACTORS),
    layer_tensors=(
        *LAYER_NORMS,
        *ATTENTION_BIASED,
        *HEAD_QK_NORMS,
    ),
    ignored=("attn_q_norm.bias", "attn_k_norm.bias"),
    dense_ffn=PLAIN_FFN,
)
ERNIE = replace(PLAIN, name="ernie4_5", ignored=("attn_output.bias",))
HUNYUAN = replace(
    PLAIN,
    name="hunyuan-dense",
    rope="neox",
    rope_alpha=True,
    qk_norm_after_rope=True,
    layer_tensors=LAYER_NORMS + ATTENTION + HEAD_QK_NORMS,
)

LLAMA_FAMILY = (
    LLAMA,
    replace(PLAIN, name="smollm3", no_rope_period=4),
    GRANITE,
    replace(GRANITE, name="granitemoe", rope_if_finetuned=False),
    MINICPM,
    MISTRAL3,
    replace(LLAMA, name="refact", rope="none", defaults={"max_alibi_bias": 8.0}),
    replace(
        PLAIN,
        name="arcee",
        activation="relu_squared",
        dense_ffn=PLAIN_FFN,
        tensors=top(True, False, *ROPE_FREQS),
    ),
    replace(PLAIN, name="internlm2", tensors=top(False)),
    replace(PLAIN, name="xverse", tensors=top(False)),
    BAICHUAN,
    replace(
        PLAIN,
        name="orion",
        rope="neox",
        norm="layer_norm",
        tensors=top(False, True),
        layer_tensors=LAYER_NORMS_BIASED + ATTENTION,
    ),
    replace(PLAIN, name="exaone", rope="neox", tensors=top(True, False, *ROPE_FREQS)),
    replace(
        PLAIN,
        name="seed_oss",
        rope="neox",
        ffn_norm="post_attention_norm",
        layer_tensors=(*norm("attn_norm"), *norm("post_attention_norm"), *ATTENTION),
    ),
    replace(
        PLAIN,
        name="pangu-embedded",
        rope="neox",
        ignored=("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"),
        layer_tensors=LAYER_NORMS + ATTENTION_BIASED,
    ),
    replace(
        PLAIN,
        name="maincoder",
        qk_norm_after_rope=True,
        layer_tensors=LAYER_NORMS + ATTENTION + HEAD_QK_NORMS,
    ),
    BITNET,
    replace(LLAMA, name="deci", expert_ffn=()),
    APERTUS,
    replace(
        PLAIN,
        name="openelm",
        rope="neox",
        tensors=(*top(False)[:1], *norm("output_norm")),
        layer_tensors=LAYER_NORMS + ATTENTION + HEAD_QK_NORMS,
    ),
    ERNIE,
    replace(
        ERNIE,
        name="ernie4_5-moe",
        reads=("n_layer_dense_lead", "expert_period"),
        expert_ffn=EXPERTS + EXPERT_BIAS + optional(*SHARED_EXPERT),
        n_ff_exp="file",
    ),
    HUNYUAN,
    replace(HUNYUAN, name="hunyuan_vl"),
    replace(
        HUNYUAN,
        name="hunyuan-moe",
        rope_alpha=False,
        dense_ffn=(),
        expert_ffn=EXPERTS + SHARED_EXPERT,
        n_ff_shexp="n_ff",
    ),
)
