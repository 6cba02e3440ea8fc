"""Groups of tensors that many architectures share.

Source: llama.cpp src/llama-model.cpp (`create_tensor_qkv`: q, k, v apart or in one, with or without
biases, for every architecture).
"""

from .spec import TensorSpec, biased, matrices, norm, optional

__all__ = [
    "ATTENTION",
    "EMBEDDING",
    "EXPERTS",
    "GATED_FFN",
    "HEAD",
    "LAYER_NORMS",
    "LONGROPE",
    "OUTPUT",
    "PLAIN_FFN",
    "ROPE_FREQS",
    "SHARED_EXPERT",
    "top",
]

EMBEDDING = matrices(token_embd=("n_vocab", "n_embd"))
HEAD = matrices(output=("n_vocab", "n_embd"))
OUTPUT = optional(*HEAD)  # else token_embd.weight
ROPE_FREQS = (TensorSpec("rope_freqs.weight", ("n_rot_pairs",), optional=True),)
LONGROPE = tuple(
    TensorSpec(f"rope_factors_{which}.weight", ("n_rot_pairs",), optional=True)
    for which in ("long", "short")
)
LAYER_NORMS = (*norm("attn_norm"), *norm("ffn_norm"))

ATTENTION = (
    *optional(*biased(TensorSpec("attn_qkv.weight", ("n_embd_qkv", "n_embd")))),
    *biased(
        TensorSpec("attn_q.weight", ("n_embd_q", "n_embd"), unless="attn_qkv"),
        TensorSpec("attn_k.weight", ("n_embd_k", "n_embd"), unless="attn_qkv"),
        TensorSpec("attn_v.weight", ("n_embd_v", "n_embd"), unless="attn_qkv"),
        TensorSpec("attn_output.weight", ("n_embd", "n_embd_heads")),
    ),
)
GATED_FFN = biased(
    *matrices(ffn_gate=("n_ff", "n_embd"), ffn_up=("n_ff", "n_embd"), ffn_down=("n_embd", "n_ff"))
)
PLAIN_FFN = biased(*matrices(ffn_up=("n_ff", "n_embd"), ffn_down=("n_embd", "n_ff")))
EXPERTS = matrices(
    ffn_gate_inp=("n_expert", "n_embd"),
    ffn_gate_exps=("n_expert", "n_ff_exp", "n_embd"),
    ffn_up_exps=("n_expert", "n_ff_exp", "n_embd"),
    ffn_down_exps=("n_expert", "n_embd", "n_ff_exp"),
)
SHARED_EXPERT = matrices(
    ffn_gate_shexp=("n_ff_shexp", "n_embd"),
    ffn_up_shexp=("n_ff_shexp", "n_embd"),
    ffn_down_shexp=("n_embd", "n_ff_shexp"),
)


def top(tied: bool = True, bias: bool = False, *more: TensorSpec) -> tuple[TensorSpec, ...]:
    """Embedding, last norm and head. tied: the head may be missing; bias: of the norm."""
    return (*EMBEDDING, *norm("output_norm", bias=bias), *(OUTPUT if tied else HEAD), *more)
