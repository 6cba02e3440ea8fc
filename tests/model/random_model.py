"""Tiny random models as recipes: an architecture, its numbers, and weights that follow from a seed.

A golden then needs no weights: tests/data/parity.npz holds llama.cpp's tensor shapes and logits,
and the weights are made again, bit by bit, from raw PCG64 integers (NumPy keeps those stable).
Source: our own. Left out: tokenizers (prompts are random ids).
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

import workbench as wb

__all__ = [
    "Recipe",
    "kept_shapes",
    "metadata_of",
    "prompt_of",
    "random_weights",
    "write_model",
]

N_VOCAB = 64
N_PROMPT = 100
LAYER_NORM = frozenset(  # architectures whose epsilon has the other key
    "bloom codeshell cohere2 command-r dbrx falcon gpt2 gptneox jais mpt nemotron olmo orion phi2 "
    "stablelm starcoder starcoder2 jais2".split()
)
# Spread of a random matrix times the root of its row length, by the part of the name it ends in.
GAINS = {"attn_q": 1.7, "attn_k": 1.7, "ffn_gate_inp": 3.0, "attn_q_b": 2.5, "attn_k_b": 1.5}
SPREADS = {"token_embd": 1.0, "position_embd": 0.7, "attn_sinks": 1.5, "exp_probs_b": 0.3}
UNUSED = ("*.scale", "*.input_scale", "cls.*")  # of NVFP4 matrices, of classifiers
BASE = {
    "vocab_size": N_VOCAB,
    "context_length": 512,
    "embedding_length": 32,
    "block_count": 3,
    "feed_forward_length": 48,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}


@dataclass(frozen=True)
class Recipe:
    """A model: numbers are GGUF keys behind the architecture's name, beyond those of BASE.

    without: globs of the tensors that llama.cpp could read but this model does not have; fused: q,
    k and v are one matrix; fused_experts: so are the experts' gate and up;
    n_nextn: of the layers so many at the end guess tokens further ahead, which nobody computes
    """

    architecture: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    fused: bool = False
    fused_experts: bool = False
    n_nextn: int = 0


def metadata_of(recipe: Recipe) -> dict[str, Any]:
    """The model's metadata; without a tokenizer, as llama.cpp spells it."""
    kind = "" if recipe.architecture in LAYER_NORM else "_rms"
    numbers = BASE | {f"attention.layer_norm{kind}_epsilon": 1e-3} | recipe.numbers
    prefixed = {
        (key if key.startswith("xielu") else f"{recipe.architecture}.{key}"): value
        for key, value in numbers.items()
    }
    if recipe.n_nextn:
        prefixed[f"{recipe.architecture}.nextn_predict_layers"] = recipe.n_nextn
    return {
        "general.architecture": recipe.architecture,
        **prefixed,
        "tokenizer.ggml.model": "none",
    }


def prompt_of(name: str, n_tokens: int = N_PROMPT) -> np.ndarray:
    """(n_tokens,) int32 random ids."""
    raw = np.random.PCG64(zlib.crc32(f"{name} prompt".encode())).random_raw(n_tokens)
    return ((raw >> np.uint64(40)) % np.uint64(N_VOCAB)).astype(np.int32)


def kept_shapes(
    recipe: Recipe, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Of the tensors that llama.cpp can read, those that the model has."""
    without = (*recipe.without, *UNUSED)
    result = {
        name: tuple(shape)
        for name, shape in shapes.items()
        if not any(fnmatch(name, glob) for glob in without)
    }
    if recipe.fused:
        _join(result, ("attn_q", "attn_k", "attn_v"), "attn_qkv", axis=0)
    if recipe.fused_experts:
        _join(result, ("ffn_gate_exps", "ffn_up_exps"), "ffn_gate_up_exps", axis=1)
    numbers = BASE | recipe.numbers
    n_layer, n_embd = numbers["block_count"], numbers["embedding_length"]
    for layer in range(n_layer - recipe.n_nextn, n_layer):
        result[f"blk.{layer}.nextn.eh_proj.weight"] = (n_embd, 2 * n_embd)
        result |= {f"blk.{layer}.nextn.{part}norm.weight": (n_embd,) for part in "eh"}
    return result


def _join(shapes: dict[str, tuple[int, ...]], parts: tuple[str, ...], whole: str, axis: int):
    """Put one tensor in place of several, their rows one after the other."""
    for name in [name for name in shapes if f".{parts[0]}." in name]:
        joined = [shapes.pop(name.replace(parts[0], part)) for part in parts]
        shape = list(joined[0])
        shape[axis] = sum(part[axis] for part in joined)
        shapes[name.replace(parts[0], whole)] = tuple(shape)


def random_weights(
    seed: str, shapes: Mapping[str, tuple[int, ...]], head_scale: float = 1.0
) -> dict[str, np.ndarray]:
    """Float32 weights by tensor name, uniform; each follows from the seed and the tensor's name.

    head_scale: multiplies the tensor that sets the size of the logits.
    """
    heads = ("output.weight", "output_norm.weight", "token_embd.weight")
    head = next(name for name in heads if name in shapes)
    weights = {name: _weight(seed, name, tuple(shape)) for name, shape in shapes.items()}
    weights[head] = weights[head] * np.float32(head_scale)
    return weights


def _weight(seed: str, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
    raw = np.random.PCG64(zlib.crc32(f"{seed} {tensor}".encode())).random_raw(math.prod(shape))
    uniform = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    centre, spread = _centre_and_spread(tensor, shape)
    values = np.float32(centre) + uniform * np.float32(spread)
    return values.astype(np.float32).reshape(shape)


def _centre_and_spread(tensor: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Weights lie within centre ± spread."""
    path, kind = tensor.rsplit(".", 1)
    part = path.rsplit(".", 1)[-1]
    if part in SPREADS:
        return 0.0, SPREADS[part]
    if kind == "bias":
        return 0.0, 0.3
    if part.startswith("rope_f"):
        return 2.0, 1.0
    if "norm" in part or len(shape) == 1:
        return 1.0, 0.5
    return 0.0, GAINS.get(part, 1.0) * math.sqrt(3 / shape[-1])


def write_model(
    path: Path,
    recipe: Recipe,
    seed: str,
    shapes: Mapping[str, tuple[int, ...]],
    head_scale: float,
) -> None:
    """Write the model of a recipe as a GGUF file."""
    wb.write_gguf(path, metadata_of(recipe), random_weights(seed, shapes, head_scale))
