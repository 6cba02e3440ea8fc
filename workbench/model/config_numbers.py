"""The numbers of a model by kind: sizes, experts, scales; what a file says, else its architecture.

Source: llama.cpp src/llama-model.cpp (`load_hparams`), src/models/*.cpp (`load_arch_hparams`).
Left out: windows and rotation (config_layers.py), the names of keys (config_keys.py).
"""

from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedError
from .architectures import Architecture
from .config_keys import Reader
from .rope import RopeConfig

__all__ = ["activation_numbers", "expert_numbers", "norm_eps", "scales", "sizes_of"]

GATINGS = {1: "softmax", 2: "sigmoid", 3: "softmax_weight"}  # llama.cpp's numbers for them
XIELU = ("xielu_alpha_n", "xielu_alpha_p", "xielu_beta", "xielu_eps")


def sizes_of(read: Reader, architecture: Architecture, n_vocab: int) -> dict[str, int]:
    """Embedding, heads, context and vocabulary; of those that differ by layer the greatest."""
    n_embd, heads = read.count("n_embd"), read.counts("n_head")
    n_head, kv_heads = max(heads), read.counts("n_head_kv", heads)
    if read.key("head_dim") not in read.metadata:
        read.demand_divides("n_head", n_head, "n_embd", n_embd)
    for own, own_kv in zip(heads, kv_heads, strict=True):
        read.demand_divides("n_head_kv", own_kv, "n_head", own)
    head_dim = read.count("head_dim", n_embd // n_head)
    head_dim_v = read.count("head_dim_v", n_embd // n_head)
    n_rot = read.count("n_rot", head_dim, least=0)
    if n_rot % 2 or n_rot > head_dim or n_rot == 0:
        read.fail("n_rot", f"an even number up to head_dim {head_dim}", n_rot)
    n_ff = read.counts("n_ff", None if architecture.dense_ffn else (0,), least=0)
    sizes = {
        "n_embd": n_embd,
        "n_head": n_head,
        "n_head_kv": max(kv_heads),
        "head_dim": head_dim,
        "head_dim_v": head_dim_v,
        "n_rot": n_rot,
        "n_ff": max(n_ff) // architecture.n_ff_divisor,
        "n_vocab": n_vocab,
        "n_ctx_train": read.count("n_ctx_train"),
    }
    if architecture.window is not None:
        _refuse_other_sizes_in_windows(read, sizes)
    if any(spec.name == "attn_kv_a_mqa.weight" for spec in architecture.layer_tensors):
        sizes |= _latent_sizes(read, sizes)
    return sizes


def _refuse_other_sizes_in_windows(read: Reader, sizes: Mapping[str, int]) -> None:
    for ours in ("head_dim", "head_dim_v", "n_rot"):
        in_windows = read.count(f"{ours} (window)", sizes[ours])
        if in_windows != sizes[ours]:
            raise UnsupportedError(
                f"{read.key(f'{ours} (window)')}: no code for another {ours} in layers with a "
                f"window; expected {sizes[ours]} as in the others, got {in_windows}"
            )


def _latent_sizes(read: Reader, sizes: Mapping[str, int]) -> dict[str, int]:
    """Of latent attention, whose cache may hold one latent vector for all heads (keys of its own
    say then how long heads are)."""
    head_dim, head_dim_v, n_rot = (sizes[name] for name in ("head_dim", "head_dim_v", "n_rot"))
    head_dim_mla = read.count("head_dim_mla", head_dim)
    kv_lora_rank = read.count("kv_lora_rank")
    if n_rot >= head_dim_mla:
        read.fail("n_rot", f"less than a head's {head_dim_mla} numbers", n_rot)
    is_absorbed = read.key("head_dim_mla") in read.metadata
    if is_absorbed and head_dim != kv_lora_rank + n_rot:
        read.fail("head_dim", f"kv_lora_rank {kv_lora_rank} + n_rot {n_rot}", head_dim)
    if is_absorbed and head_dim_v != kv_lora_rank:
        read.fail("head_dim_v", f"kv_lora_rank {kv_lora_rank}", head_dim_v)
    n_head_kv = 1 if is_absorbed else sizes["n_head"]
    if sizes["n_head_kv"] != n_head_kv:
        read.fail("n_head_kv", f"{n_head_kv} in this form of latent attention", sizes["n_head_kv"])
    return {
        "latent_is_absorbed": is_absorbed,
        "q_lora_rank": read.count("q_lora_rank", 0, least=0),
        "kv_lora_rank": kv_lora_rank,
        "head_dim_mla": head_dim_mla,
        "head_dim_v_mla": read.count("head_dim_v_mla", head_dim_v),
    }


def norm_eps(read: Reader, architecture: Architecture) -> float:
    """What norms add to the mean of squares."""
    ours = "norm_eps" if architecture.norm == "rms_norm" else "norm_eps (layer norm)"
    return read.number(ours, zero_is_sound=True)


def expert_numbers(
    read: Reader, architecture: Architecture, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """How many experts, how long, and how they are chosen."""
    n_expert = read.count("n_expert", 0, least=0)
    if n_expert and not architecture.expert_ffn:
        raise UnsupportedError(
            f"{read.key('n_expert')}: architecture {architecture.name!r} has no code for experts; "
            f"expected 0, got {n_expert}"
        )
    if not n_expert and not architecture.dense_ffn:
        read.fail("n_expert", f"experts, as {architecture.name!r} has nothing else", n_expert)
    n_expert_used = read.count("n_expert_used", 0, least=0)
    if n_expert_used > n_expert or (n_expert and not n_expert_used):
        read.fail("n_expert_used", f"from 1 to the {n_expert} experts", n_expert_used)
    n_groups = read.count("n_expert_groups", 0, least=0)
    n_group_used = read.count("n_group_used", 0, least=0)
    if n_groups > 1 and (n_expert % n_groups or not 0 < n_group_used < n_groups):
        read.fail("n_expert_groups", f"a divisor of {n_expert} above {n_group_used}", n_groups)
    numbers = {
        "n_expert": n_expert,
        "n_expert_used": n_expert_used,
        "n_expert_groups": n_groups,
        "n_group_used": n_group_used,
    }
    if not n_expert:
        return numbers
    lengths = _expert_lengths(read, architecture, sizes["n_ff"], n_expert_used)
    return numbers | lengths | _gating(read, architecture)


def _expert_lengths(
    read: Reader, architecture: Architecture, n_ff: int, n_expert_used: int
) -> dict[str, int]:
    """n_ff of one expert and of the shared one, 0 without."""
    given = 0 if architecture.n_ff_exp == "n_ff" else read.count("n_ff_exp", 0, least=0)
    is_split = architecture.n_ff_exp == "n_ff_of_expert"
    n_ff_exp = given or (n_ff // n_expert_used if is_split else n_ff)
    n_shared = read.count("n_expert_shared", 0, least=0)
    given = read.count("n_ff_shexp", 0, least=0)
    shared = {
        "": given,
        "n_ff": given or n_ff,
        "n_ff_exp": given or n_ff_exp,
        "n_ff_of_shared": n_ff_exp * n_shared,
        "n_ff_of_each_shared": (given or n_ff_exp) * n_shared,
    }
    return {"n_ff_exp": n_ff_exp, "n_ff_shexp": shared[architecture.n_ff_shexp]}


def _gating(read: Reader, architecture: Architecture) -> dict[str, Any]:
    """How router scores become shares."""
    gating = read.count("expert_gating", 0, least=0) if "expert_gating" in architecture.reads else 0
    if gating and gating not in GATINGS:
        raise UnsupportedError(
            f"{read.key('expert_gating')}: no code for this way to choose experts; expected "
            f"one of {GATINGS}, got {gating}"
        )
    norm_shares, scale = architecture.norm_shares, 1.0
    if "normalizes_shares" in architecture.reads:
        norm_shares = read.flag("normalizes_shares", norm_shares)
    if "expert_weights_scale" in architecture.reads:
        scale = read.number("expert_weights_scale", scale, zero_is_sound=True) or 1.0
    return {
        "expert_gating": GATINGS.get(gating, architecture.gating),
        "normalizes_shares": norm_shares,
        "expert_weights_scale": scale,
    }


def scales(
    read: Reader, architecture: Architecture, sizes: Mapping[str, int], rope: RopeConfig | None
) -> dict[str, Any]:
    """Scales, caps and clamps: the file's, else the architecture's."""

    def number(ours: str, default: float = 0.0) -> float:
        default = architecture.defaults.get(ours, default)
        if callable(default):
            default = default(n_layer=read.n_layer, n_embd=sizes["n_embd"])
        if ours not in architecture.reads:
            return default
        return read.number(ours, default, zero_is_sound=True)

    logit_scale = number("logit_scale") or 1.0
    numbers = {
        "attention_scale": _attention_scale(read, architecture, sizes, rope),
        "embedding_scale": number("embedding_scale") or 1.0,
        "residual_scale": number("residual_scale") or 1.0,
        "logit_scale": 1 / logit_scale if architecture.divides_logits else logit_scale,
        "attn_logit_softcapping": number("attn_logit_softcapping"),
        "final_logit_softcapping": number("final_logit_softcapping"),
        "max_alibi_bias": number("max_alibi_bias"),
        "clamp_kqv": number("clamp_kqv"),
        **_temperature(read, architecture, rope),
    }
    if architecture.embedding_scale == "sqrt":
        numbers["embedding_scale"] = sizes["n_embd"] ** 0.5
    if "parallel_residual" in architecture.reads:
        numbers["parallel_residual"] = read.flag("parallel_residual", True)
    return numbers


def _attention_scale(
    read: Reader, architecture: Architecture, sizes: Mapping[str, int], rope: RopeConfig | None
) -> float:
    """What scores are multiplied by."""
    plain = 1 / sizes["head_dim"] ** 0.5
    kind = architecture.attention_scale
    if kind == "file":
        return read.number("attention_scale", 0.0, zero_is_sound=True) or plain
    if kind == "output_scale":
        default = architecture.defaults["attention_output_scale"]
        return read.number("attention_output_scale", default, zero_is_sound=True)
    if kind == "mscale":
        return rope.latent_growth**2 / sizes["head_dim_mla"] ** 0.5
    if kind == "n_embd":
        return 1 / max(sizes["n_embd"] // sizes["n_head"], 1) ** 0.5
    return 1 / sizes["head_dim"] if kind == "1/head_dim" else plain


def _temperature(
    read: Reader, architecture: Architecture, rope: RopeConfig | None
) -> dict[str, Any]:
    """How queries grow with their position."""
    temperature = architecture.temperature
    if temperature is None or rope is None:
        return {}
    scale = temperature.scale or read.number("temperature_scale", 0.0, zero_is_sound=True)
    length = temperature.length or rope.n_ctx_orig
    if temperature.length_key and scale:
        length = read.count("temperature_length")
    return {
        "temperature_scale": scale,
        "temperature_length": length,
        "temperature_offset": temperature.offset,
    }


def activation_numbers(read: Reader, architecture: Architecture) -> list[tuple[float, ...]]:
    """For each layer, the numbers of its activation, () for most."""
    if architecture.activation != "xielu":
        return [()] * read.n_layer
    return list(zip(*(read.numbers(name) for name in XIELU), strict=True))
