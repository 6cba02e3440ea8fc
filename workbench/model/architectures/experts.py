"""Other mixtures of experts: gpt-oss, llama 4, dbrx, grok, arctic, SmallThinker.

Sources: llama.cpp src/models/{openai-moe,llama4,dbrx,grok,arctic,smallthinker}.cpp.
"""

from .parts import (
    ATTENTION,
    ATTENTION_BIASED,
    EXPERTS,
    FACTORS,
    GATED_FFN,
    LAYER_NORMS,
    SHARED_EXPERT,
    top,
)
from .spec import (
    Architecture,
    Temperature,
    TensorSpec,
    Variant,
    Window,
    biased,
    matrices,
    norm,
)

__all__ = ["EXPERTS_FAMILY"]

GPT_OSS = Architecture(
    name="gpt-oss",
    rope="neox",
    ffn_norm="post_attention_norm",
    activation="swiglu_oai",
    tensors=top(False),
    layer_tensors=(
        *norm("attn_norm"),
        *norm("post_attention_norm"),
        *ATTENTION_BIASED,
        TensorSpec("attn_sinks.weight", ("n_head",)),
    ),
    dense_ffn=(),
    expert_ffn=biased(*EXPERTS, required=True),
    gating="softmax_weight",
    norm_shares=False,
    window=Window(period=2, rope="file"),
)
LLAMA4 = Architecture(
    name="llama4",
    reads=("expert_period",),
    tensors=top(True, False, *FACTORS),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=GATED_FFN,
    expert_ffn=EXPERTS + SHARED_EXPERT,
    no_rope_period=4,
    qk_norm_after_rope=True,
    qk_norm_bare=True,
    temperature=Temperature(scale=0.1, length=8192, offset=1, unrotated=True),
    gating="sigmoid",
    norm_shares=False,
    select_by_logits=True,
    weigh_first=True,
    n_ff_shexp="n_ff_exp",
    window=Window(size=8192, period=4, chunked=True, fixed=True, rope="file"),
    variants=(Variant("n_expert", 128, {"qk_norm_bare": False}),),
)
DBRX = Architecture(
    name="dbrx",
    reads=("clamp_kqv",),
    rope="neox",
    norm="layer_norm",
    ffn_norm="attn_output_norm",
    tensors=top(False),
    layer_tensors=(*norm("attn_norm"), *norm("attn_output_norm"), *ATTENTION),
    dense_ffn=(),
    expert_ffn=EXPERTS,
    n_ff_exp="n_ff",
)
GROK = Architecture(
    name="grok",
    rope="neox",
    activation="geglu",
    attention_scale="output_scale",
    scales_queries=True,
    attn_post_norm="attn_output_norm",
    ffn_post_norm="post_ffw_norm",
    yarn_keys=("beta_fast", "beta_slow", "yarn_attn_factor"),
    reads=("logit_scale", "embedding_scale", "attn_logit_softcapping", "final_logit_softcapping"),
    tensors=top(),
    layer_tensors=(
        *LAYER_NORMS,
        *norm("attn_output_norm"),
        TensorSpec("layer_output_norm.weight", ("n_embd",), unless="post_ffw_norm"),
        TensorSpec("post_ffw_norm.weight", ("n_embd",), unless="layer_output_norm"),
        *ATTENTION,
    ),
    dense_ffn=(),
    expert_ffn=EXPERTS
    + tuple(TensorSpec(spec.name, spec.shape, optional=True) for spec in GATED_FFN),
    beside_scale=0.5**0.5,
    defaults={
        "rope.beta_fast": 8.0,
        "logit_scale": 0.5773502691896257,
        "embedding_scale": 78.38367176906169,
        "attention_output_scale": 0.08838834764831845,
        "attn_logit_softcapping": 30.0,
    },
)
ARCTIC = Architecture(
    name="arctic",
    tensors=top(),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=(),
    expert_ffn=(
        *EXPERTS,
        *norm("ffn_norm_exps"),
        *matrices(
            ffn_gate=("n_embd", "n_embd"),
            ffn_up=("n_embd", "n_embd"),
            ffn_down=("n_embd", "n_embd"),
        ),
    ),
    experts_norm="ffn_norm_exps",
    n_ff_exp="n_ff",
)
SMALLTHINKER = Architecture(
    name="smallthinker",
    rope="neox",
    no_rope_period=4,
    no_rope_first=True,
    variants=(Variant("n_layer", 4, {"no_rope_period": 0}),),  # llama.cpp's way to say "never"
    activation="reglu",
    tensors=top(),
    layer_tensors=LAYER_NORMS + ATTENTION,
    dense_ffn=(),
    expert_ffn=EXPERTS,
    reads=("expert_gating",),
    routes_layer_input=True,
    window=Window(
        size=4096, period=4, dense_first=True, fixed=True, only_if_given=True, rope="file"
    ),
)

EXPERTS_FAMILY = (GPT_OSS, LLAMA4, DBRX, GROK, ARCTIC, SMALLTHINKER)
