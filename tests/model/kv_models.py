"""Small random models with heads of 32, 64 and 128 numbers, for caches of every type."""

from pathlib import Path

import numpy as np

from tests.model.random_model import random_weights
from workbench.gguf import write_gguf

__all__ = ["HEAD_DIMS", "N_CONTINUED", "N_HEAD_KV", "N_LAYER", "PAIRS", "prompt", "write_kv_model"]

HEAD_DIMS = (32, 64, 128)
PAIRS = (  # of types of keys and values
    ("f32", "f32"),
    ("f16", "f16"),
    ("bf16", "bf16"),
    ("q8_0", "q8_0"),
    ("q5_1", "q5_1"),
    ("q5_0", "q5_0"),
    ("q4_1", "q4_1"),
    ("q4_0", "q4_0"),
    ("iq4_nl", "iq4_nl"),
    ("q8_0", "q4_0"),
)
N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_VOCAB, N_LAYER = 64, 96, 4, 2, 64, 2
N_CONTINUED = 4  # tokens that go through one at a time after the prompt


def prompt(n_tokens: int = 60) -> np.ndarray:
    """(n_tokens,) ids."""
    raw = np.random.PCG64(7).random_raw(n_tokens)
    return ((raw >> np.uint64(40)) % np.uint64(N_VOCAB)).astype(np.int64)


def write_kv_model(path: Path, head_dim: int) -> Path:
    """A llama model in F32; its weights follow from the head's length."""
    metadata = {
        "general.architecture": "llama",
        "llama.vocab_size": N_VOCAB,
        "llama.context_length": 256,
        "llama.embedding_length": N_EMBD,
        "llama.block_count": N_LAYER,
        "llama.feed_forward_length": N_FF,
        "llama.attention.head_count": N_HEAD,
        "llama.attention.head_count_kv": N_HEAD_KV,
        "llama.attention.key_length": head_dim,
        "llama.attention.value_length": head_dim,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": head_dim,
        "tokenizer.ggml.model": "none",
    }
    layer = {
        "attn_norm.weight": (N_EMBD,),
        "attn_q.weight": (N_HEAD * head_dim, N_EMBD),
        "attn_k.weight": (N_HEAD_KV * head_dim, N_EMBD),
        "attn_v.weight": (N_HEAD_KV * head_dim, N_EMBD),
        "attn_output.weight": (N_EMBD, N_HEAD * head_dim),
        "ffn_norm.weight": (N_EMBD,),
        "ffn_gate.weight": (N_FF, N_EMBD),
        "ffn_up.weight": (N_FF, N_EMBD),
        "ffn_down.weight": (N_EMBD, N_FF),
    }
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    for index in range(N_LAYER):
        shapes |= {f"blk.{index}.{name}": shape for name, shape in layer.items()}
    write_gguf(path, metadata, random_weights(f"kv {head_dim}", shapes))
    return path
