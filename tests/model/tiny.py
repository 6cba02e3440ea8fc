"""Tiny random models for the tests, as metadata and tensors to be changed and written."""

import numpy as np

from workbench.gguf import write_gguf
from workbench.model import load_model

METADATA = {
    "general.architecture": "llama",
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.block_count": 2,
    "llama.feed_forward_length": 48,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.vocab_size": 40,
}


def metadata(**changes):
    """METADATA with changes to the keys below "llama."; None removes one."""
    changed = METADATA | {
        "llama." + key.replace("__", "."): value for key, value in changes.items()
    }
    return {key: value for key, value in changed.items() if value is not None}


def tensors(n_expert=0, seed=0):
    """float32 tensors that fit METADATA; attention pays sharp attention."""
    rng = np.random.default_rng(seed)
    layer = {
        "attn_norm.weight": (32,),
        "attn_q.weight": (32, 32),
        "attn_k.weight": (16, 32),
        "attn_v.weight": (16, 32),
        "attn_output.weight": (32, 32),
        "ffn_norm.weight": (32,),
    }
    experts = (n_expert,) if n_expert else ()
    kind = "_exps" if n_expert else ""
    layer |= {f"ffn_{part}{kind}.weight": (*experts, 48, 32) for part in ("gate", "up")}
    layer |= {f"ffn_down{kind}.weight": (*experts, 32, 48)}
    if n_expert:
        layer["ffn_gate_inp.weight"] = (n_expert, 32)
    shapes = {"token_embd.weight": (40, 32), "output_norm.weight": (32,)}
    for index in range(2):
        shapes |= {f"blk.{index}.{name}": shape for name, shape in layer.items()}
    return {
        name: (rng.standard_normal(shape) / 4 + (len(shape) == 1)).astype(np.float32)
        for name, shape in shapes.items()
    }


def write(folder, keys=None, weights=None, name="tiny.gguf"):
    path = folder / name
    keys = METADATA if keys is None else keys
    write_gguf(path, keys, tensors() if weights is None else weights)
    return path


def load(folder, keys=None, weights=None, **arguments):
    return load_model(write(folder, keys, weights), **arguments)


def f32_cache(model, n_ctx=None):
    return model.new_cache(n_ctx, type_k="f32", type_v="f32")
