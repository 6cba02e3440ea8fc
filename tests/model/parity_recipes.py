"""Tiny random models as recipes: an architecture, its numbers, and weights that follow from a seed.

A golden then needs no weights: tests/data/parity.npz holds llama.cpp's tensor shapes and logits,
and the weights are made again, bit by bit, from raw PCG64 integers (NumPy keeps those stable).
Source: keys and defaults as llama.cpp's src/models/*.cpp (`load_arch_hparams`) reads them.
Left out: what a tokenizer does (the files have none; prompts are random ids).
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
    "RECIPES",
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
    "stablelm starcoder starcoder2".split()
)
# Spread of a random matrix times the root of its row length, by the part of the name it ends in.
GAINS = {"attn_q": 1.7, "attn_k": 1.7, "ffn_gate_inp": 3.0, "attn_q_b": 2.5, "attn_k_b": 1.5}
SPREADS = {"token_embd": 1.0, "position_embd": 0.7, "attn_sinks": 1.5, "exp_probs_b": 0.3}


@dataclass(frozen=True)
class Recipe:
    """A model: numbers are GGUF keys behind the architecture's name, beyond those of BASE.

    without: globs of the tensors that llama.cpp could read but this model does not have; fused:
    q, k and v are one matrix
    """

    architecture: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    fused: bool = False


BASE = {
    "vocab_size": N_VOCAB,
    "context_length": 512,
    "embedding_length": 32,
    "block_count": 3,
    "feed_forward_length": 48,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}
WINDOW = {"attention.sliding_window": 24}
EXPERTS = {"expert_count": 6, "expert_used_count": 2}
SIZED = EXPERTS | {"expert_feed_forward_length": 24}
SHARED = SIZED | {"expert_shared_count": 2, "leading_dense_block_count": 1}
ROUTED = SHARED | {"expert_weights_scale": 1.6, "expert_weights_norm": True}
SIGMOID = ROUTED | {"expert_gating_func": 2}
WIDE = {"attention.key_length": 20, "attention.value_length": 20}  # a head is not n_embd / n_head
MHA = {"attention.head_count_kv": 4}
SCALES = {"logit_scale": 1.7, "residual_scale": 0.7, "embedding_scale": 3.0}
YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}
MLA = SHARED | {
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 20,
    "attention.kv_lora_rank": 16,
    "attention.key_length": 24,
    "attention.value_length": 16,
    "attention.key_length_mla": 20,
    "attention.value_length_mla": 12,
    "rope.dimension_count": 8,
}
LEGACY_MLA = {key: value for key, value in MLA.items() if not key.endswith("_mla")} | {
    "attention.head_count_kv": 4,
    "attention.key_length": 20,
    "attention.value_length": 12,
}
XIELU = {"xielu.alpha_p": [0.8, 0.5, 1.1], "xielu.alpha_n": [0.3, 0.6, 0.9]}
XIELU |= {"xielu.beta": [0.5, 0.4, 0.6], "xielu.eps": [-1e-6, -1e-2, -1e-6]}
UNUSED = ("*.scale", "*.input_scale", "cls.*")  # of NVFP4 matrices, of classifiers
NO_BIAS = (
    "*attn_[qkv].bias",
    "*attn_output.bias",
    "*ffn_gate.bias",
    "*ffn_up.bias",
    "*ffn_down.bias",
)
NO_FACTORS = ("rope_f*", "blk.*.rope_f*")
TIED = ("output.weight",)

RECIPES = {
    "llama": Recipe("llama", {}, NO_BIAS + NO_FACTORS),
    "llama-biases": Recipe("llama", {"rope.freq_base": 500.0}, ("rope_factors*", *TIED)),
    "llama-fused": Recipe("llama", {"rope.freq_base": 5e5}, NO_FACTORS, fused=True),
    "llama-yarn": Recipe("llama", YARN | MHA, NO_BIAS + NO_FACTORS),
    "llama-experts": Recipe("llama", EXPERTS, NO_BIAS + NO_FACTORS),
    "llama-head20": Recipe(
        "llama", WIDE | {"rope.dimension_count": 20, "attention.scale": 0.3}, NO_BIAS + NO_FACTORS
    ),
    "llama-window": Recipe("llama", WINDOW, NO_BIAS + NO_FACTORS),
    "qwen2": Recipe("qwen2", {"rope.freq_base": 1e5}),
    "qwen2moe": Recipe("qwen2moe", SIZED | {"expert_shared_feed_forward_length": 40}),
    "qwen3": Recipe("qwen3", WIDE | {"attention.head_count_kv": 1}, NO_BIAS),
    "qwen3moe": Recipe("qwen3moe", SIZED | WIDE, NO_BIAS),
    "gemma": Recipe("gemma", WIDE | {"attention.head_count_kv": 1}, NO_BIAS),
    "gemma2": Recipe(
        "gemma2", WINDOW | WIDE | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}
    ),
    "gemma2-46": Recipe("gemma2", WINDOW | WIDE | {"block_count": 46}, NO_BIAS),
    "gemma3": Recipe("gemma3", WINDOW | {"block_count": 7, "rope.freq_base": 1e6}, NO_BIAS),
    "gemma3-linear": Recipe(
        "gemma3",
        WINDOW | {"block_count": 7, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
        NO_BIAS + TIED,
    ),
    "phi2": Recipe("phi2", MHA | {"rope.dimension_count": 6}),
    "phi2-fused": Recipe("phi2", MHA | {"rope.dimension_count": 4}, fused=True),
    "phi3": Recipe("phi3", {"rope.scaling.attn_factor": 1.2}, NO_FACTORS + NO_BIAS, fused=True),
    "phi3-longrope": Recipe(
        "phi3",
        {"rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": 1.2},
        NO_BIAS,
        fused=True,
    ),
    "phimoe": Recipe("phimoe", EXPERTS),
    "gpt2": Recipe("gpt2", MHA, fused=True),
    "starcoder": Recipe("starcoder", {"attention.head_count_kv": 1}, fused=True),
    "starcoder2": Recipe("starcoder2"),
    "stablelm": Recipe("stablelm", {"rope.dimension_count": 4}, ("*_norm.weight_no",)),
    "stablelm-parallel": Recipe(
        "stablelm", {"rope.dimension_count": 4}, ("*ffn_norm*", "*_q_norm*", "*_k_norm*")
    ),
    "stablelm-plain": Recipe("stablelm", {}, ("*_q_norm*", "*_k_norm*", "blk.*attn_?.bias")),
    "falcon-7b": Recipe("falcon", {"attention.head_count_kv": 1}, ("*attn_norm_2*",), fused=True),
    "falcon-40b": Recipe("falcon", {}, fused=True),
    "command-r": Recipe("command-r", {"logit_scale": 0.3}),
    "command-r-plain": Recipe("command-r", {}, ("*_q_norm*", "*_k_norm*", *NO_BIAS)),
    "olmo": Recipe("olmo", {"attention.clamp_kqv": 1.5}, NO_BIAS),
    "olmo2": Recipe("olmo2", {}, NO_BIAS),
    "olmo3": Recipe("olmo2", WINDOW | YARN | {"block_count": 5}, NO_BIAS),
    "olmoe": Recipe("olmoe", EXPERTS | MHA, NO_BIAS),
    "smollm3": Recipe("smollm3", {"block_count": 5}, NO_BIAS),
    "granite": Recipe("granite", SCALES | {"attention.scale": 0.2}, NO_BIAS + NO_FACTORS),
    "granite-nope": Recipe(
        "granite", SCALES | {"rope.scaling.finetuned": False}, NO_BIAS + NO_FACTORS
    ),
    "granitemoe": Recipe(
        "granite" + "moe",
        SCALES | EXPERTS | {"expert_shared_feed_forward_length": 20, "attention.scale": 0.2},
        NO_BIAS + NO_FACTORS,
    ),
    "gpt-oss": Recipe("gpt-oss", SIZED | WINDOW | YARN | {"block_count": 4}),
    "deepseek2": Recipe("deepseek2", MLA | {"expert_weights_scale": 2.0}),
    "deepseek3": Recipe(
        "deepseek2",
        MLA | YARN | SIGMOID | MLA | {"rope.scaling.yarn_log_multiplier": 0.1},
    ),
    "deepseek2-legacy": Recipe("deepseek2", LEGACY_MLA),
    "deepseek2-lite": Recipe("deepseek2", MLA | {"block_count": 27, "embedding_length": 16}),
    "deepseek": Recipe("deepseek", SHARED | MHA | {"expert_weights_scale": 1.4}, NO_BIAS),
    "gptneox": Recipe(
        "gptneox", MHA | {"use_parallel_residual": True, "rope.dimension_count": 4}, fused=True
    ),
    "gptneox-serial": Recipe("gptneox", MHA | {"use_parallel_residual": False}, fused=True),
    "bloom": Recipe("bloom", MHA, fused=True),
    "mpt": Recipe(
        "mpt", MHA | {"attention.max_alibi_bias": 8.0, "attention.clamp_kqv": 1.5}, fused=True
    ),
    "mpt-plain": Recipe(
        "mpt",
        {"attention.max_alibi_bias": 4.0},
        ("*.bias", "*_q_norm*", "*_k_norm*", "position*", "*.scales", *TIED),
        fused=True,
    ),
    "glm4": Recipe("glm4", {"rope.dimension_count": 4}, fused=False),
    "chatglm": Recipe("chatglm", {"rope.dimension_count": 4}, fused=True),
    "glm4moe": Recipe("glm4moe", SIGMOID | {"rope.dimension_count": 4}),
    "nemotron": Recipe("nemotron", {"rope.dimension_count": 4}),
    "internlm2": Recipe("internlm2", {}, NO_BIAS),
    "exaone": Recipe("exaone", {}, NO_BIAS),
    "exaone4": Recipe("exaone4", {}, NO_BIAS),
    "exaone4-window": Recipe("exaone4", WINDOW | {"block_count": 64}, NO_BIAS + NO_FACTORS),
    "cohere2": Recipe("cohere2", WINDOW | {"block_count": 5, "logit_scale": 0.3}, NO_BIAS),
    "llama4": Recipe(
        "llama4", SIZED | {"block_count": 5, "interleave_moe_layer_step": 2}, NO_BIAS + NO_FACTORS
    ),
    "minicpm": Recipe("minicpm", {}, NO_BIAS + NO_FACTORS),
    "orion": Recipe("orion", MHA, NO_BIAS),
    "baichuan": Recipe("baichuan", MHA, NO_BIAS),
    "baichuan-alibi": Recipe("baichuan", MHA | {"block_count": 40}, NO_BIAS),
    "xverse": Recipe("xverse", MHA, NO_BIAS),
    "arctic": Recipe("arctic", EXPERTS, NO_BIAS),
    "dbrx": Recipe("dbrx", EXPERTS | {"attention.clamp_kqv": 1.5}, NO_BIAS, fused=True),
    "jais": Recipe("jais", MHA | {"attention.max_alibi_bias": 8.0}, fused=True),
    "codeshell": Recipe("codeshell", {}, fused=True),
    "refact": Recipe("refact", {"attention.head_count_kv": 1}, NO_BIAS),
    "dots1": Recipe("dots1", SIGMOID | MHA),
    "ernie4_5": Recipe("ernie4_5"),
    "ernie4_5-moe": Recipe(
        "ernie4_5-moe",
        SHARED | {"expert_shared_feed_forward_length": 20, "interleave_moe_layer_step": 1},
    ),
    "hunyuan-moe": Recipe("hunyuan-moe", SIZED | {"expert_shared_feed_forward_length": 20}),
    "hunyuan-dense": Recipe("hunyuan-dense"),
    "bailingmoe": Recipe("bailingmoe", ROUTED),
    "bailingmoe2": Recipe("bailingmoe2", SIGMOID | {"expert_shared_feed_forward_length": 20}),
    "seed_oss": Recipe("seed_oss"),
    "arcee": Recipe("arcee", {}, NO_BIAS + NO_FACTORS),
    "plamo": Recipe("plamo", MHA, NO_BIAS),
    "qwen": Recipe("qwen", MHA, fused=True),
    "smallthinker": Recipe(
        "smallthinker", SIZED | WINDOW | {"block_count": 5, "expert_gating_func": 2}, NO_BIAS
    ),
    "smallthinker-full": Recipe("smallthinker", SIZED | {"expert_gating_func": 1}, NO_BIAS),
    "openelm": Recipe(
        "openelm",
        {
            "attention.head_count": [4, 8, 4],
            "attention.head_count_kv": [2, 4, 1],
            "attention.key_length": 8,
            "attention.value_length": 8,
            "feed_forward_length": [48, 64, 40],
        },
        NO_BIAS,
        fused=True,
    ),
    "mistral3": Recipe("mistral3", YARN | {"attention.temperature_scale": 0.3}, NO_BIAS),
    "apertus": Recipe("apertus", XIELU, NO_BIAS),
    "grok": Recipe("grok", EXPERTS | {"embedding_scale": 4.0}, NO_BIAS),
    "exaone-moe": Recipe("exaone-moe", SIGMOID | WINDOW | {"block_count": 5}, NO_BIAS),
    "minimax-m2": Recipe("minimax-m2", SIZED | {"expert_gating_func": 2}, NO_BIAS),
    "pangu-embedded": Recipe("pangu-embedded"),
    "maincoder": Recipe("maincoder", {}, NO_BIAS),
    "bitnet": Recipe("bitnet", {}, NO_BIAS),
    "deci": Recipe(
        "deci",
        {
            "attention.head_count": [4, 4, 4],
            "attention.head_count_kv": [2, 4, 1],
            "feed_forward_length": [48, 64, 40],
        },
        NO_BIAS + NO_FACTORS,
    ),
}


def metadata_of(recipe: Recipe) -> dict[str, Any]:
    """The model's metadata; without a tokenizer, as llama.cpp spells it."""
    kind = "" if recipe.architecture in LAYER_NORM else "_rms"
    numbers = BASE | {f"attention.layer_norm{kind}_epsilon": 1e-3} | recipe.numbers
    prefixed = {
        (key if key.startswith("xielu") else f"{recipe.architecture}.{key}"): value
        for key, value in numbers.items()
    }
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
    names = [n for n in shapes if not any(fnmatch(n, glob) for glob in without)]
    result = {name: tuple(shapes[name]) for name in names}
    for name in names if recipe.fused else ():
        if ".attn_q." in name:
            parts = [result.pop(name.replace("attn_q.", f"attn_{part}.")) for part in "qkv"]
            rows = sum(shape[0] for shape in parts)
            result[name.replace("attn_q.", "attn_qkv.")] = (rows, *parts[0][1:])
    return result


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
    name: str,
    seed: str,
    shapes: Mapping[str, tuple[int, ...]],
    head_scale: float,
) -> None:
    """Write the model of a recipe as a GGUF file."""
    wb.write_gguf(path, metadata_of(RECIPES[name]), random_weights(seed, shapes, head_scale))
