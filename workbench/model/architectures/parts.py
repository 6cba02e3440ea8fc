"""Groups of tensors that many architectures share.

Source: llama.cpp src/llama-model.cpp (`create_tensor_qkv`: q, k, v apart or in one, with or without
biases, for every architecture).
"""

from .spec import TensorSpec, biased, matrices, norm, optional

__all__ = [
    "ATTENTION",
    "ATTENTION_BIASED",
    "EMBEDDING",
    "EXPERTS",
    "EXPERT_BIAS",
    "FACTORS",
    "FUSED_EXPERTS",
    "GATED_FFN",
    "GATED_FFN_BIASED",
    "GATING",
    "HEAD",
    "HEAD_QK_NORMS",
    "LAYER_NORMS",
    "LAYER_NORMS_BIASED",
    "LONGROPE",
    "OUTPUT",
    "OUTPUT_BIAS",
    "PLAIN_FFN",
    "PLAIN_FFN_BIASED",
    "ROPE_FREQS",
    "SANDWICH_NORMS",
    "SHARED_EXPERT",
    "top",
]

EMBEDDING = matrices(token_embd=("n_vocab", "n_embd"))
HEAD = matrices(output=("n_vocab", "n_embd"))
OUTPUT = optional(*HEAD)  # else token_embd.weight
OUTPUT_BIAS = TensorSpec("output.bias", ("n_vocab",))
ROPE_FREQS = (TensorSpec("rope_freqs.weight", ("n_rot_pairs",), optional=True),)
LONGROPE = tuple(
    TensorSpec(f"rope_factors_{which}.weight", ("n_rot_pairs",), optional=True)
    for which in ("long", "short")
)
FACTORS = ROPE_FREQS + LONGROPE
LAYER_NORMS = (*norm("attn_norm"), *norm("ffn_norm"))
LAYER_NORMS_BIASED = (*norm("attn_norm", bias=True), *norm("ffn_norm", bias=True))
SANDWICH_NORMS = (*norm("post_attention_norm"), *norm("post_ffw_norm"))
HEAD_QK_NORMS = (*norm("attn_q_norm", "head_dim"), *norm("attn_k_norm", "head_dim"))

QKV = (
    *optional(*biased(TensorSpec("attn_qkv.weight", ("n_embd_qkv", "n_embd")))),
    *biased(
        TensorSpec("attn_q.weight", ("n_embd_q", "n_embd"), unless="attn_qkv"),
        TensorSpec("attn_k.weight", ("n_embd_k", "n_embd"), unless="attn_qkv"),
        TensorSpec("attn_v.weight", ("n_embd_v", "n_embd"), unless="attn_qkv"),
    ),
)
ATTENTION = QKV + matrices(attn_output=("n_embd", "n_embd_heads"))
ATTENTION_BIASED = QKV + biased(*matrices(attn_output=("n_embd", "n_embd_heads")))
GATED_FFN = matrices(
    ffn_gate=("n_ff", "n_embd"), ffn_up=("n_ff", "n_embd"), ffn_down=("n_embd", "n_ff")
)
GATED_FFN_BIASED = biased(*GATED_FFN)
PLAIN_FFN = matrices(ffn_up=("n_ff", "n_embd"), ffn_down=("n_embd", "n_ff"))
PLAIN_FFN_BIASED = biased(*PLAIN_FFN)
EXPERTS = matrices(
    ffn_gate_inp=("n_expert", "n_embd"),
    ffn_gate_exps=("n_expert", "n_ff_exp", "n_embd"),
    ffn_up_exps=("n_expert", "n_ff_exp", "n_embd"),
    ffn_down_exps=("n_expert", "n_embd", "n_ff_exp"),
)
FUSED_EXPERTS = (
    EXPERTS[0],
    TensorSpec("ffn_gate_up_exps.weight", ("n_expert", "n_ff_exp_gate_up", "n_embd"), True),
    *(TensorSpec(spec.name, spec.shape, unless="ffn_gate_up_exps") for spec in EXPERTS[1:3]),
    EXPERTS[3],
)
EXPERT_BIAS = (TensorSpec("exp_probs_b.bias", ("n_expert",), optional=True),)
SHARED_EXPERT = matrices(
    ffn_gate_shexp=("n_ff_shexp", "n_embd"),
    ffn_up_shexp=("n_ff_shexp", "n_embd"),
    ffn_down_shexp=("n_embd", "n_ff_shexp"),
)


GATING = ("expert_gating", "normalizes_shares", "expert_weights_scale", "n_layer_dense_lead")


def top(tied: bool = True, bias: bool = False, *more: TensorSpec) -> tuple[TensorSpec, ...]:
    """Embedding, last norm and head. tied: the head may be missing; bias: of the norm."""
    return (*EMBEDDING, *norm("output_norm", bias=bias), *(OUTPUT if tied else HEAD), *more)
