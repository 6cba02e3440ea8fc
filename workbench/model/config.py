"""The numbers of a model, read from a file's metadata once and checked.

Some differ from layer to layer: `config.of_layer(i)` has those of one. What the file leaves out
comes from the architecture.
Source: llama.cpp src/llama-model.cpp (`load_hparams`: keys, defaults), src/models/*.cpp
(`load_arch_hparams`). Left out: the look-ups themselves and the names of keys (config_keys.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UnsupportedError
from .architectures import Architecture, find_architecture
from .config_keys import TRANSLATIONS, Reader, Translation
from .config_layers import layer_windows, rope_of, window_rope
from .rope import RopeConfig

__all__ = ["TRANSLATIONS", "ModelConfig", "Translation"]

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
GATINGS = {1: "softmax", 2: "sigmoid", 3: "softmax_weight"}  # llama.cpp's numbers for them


@dataclass(frozen=True)
class ModelConfig:
    """The numbers of a model, or of one layer; sizes count elements.

    head_dim is the length of a query or key of one head, head_dim_v that of a value; n_rot of its
    numbers are rotated, by rope (None: not at all). n_expert is 0 for a dense model or layer.
    n_swa: positions that a token sees, itself included, 0 for all. Scales are 1 and caps, ALiBi and
    clamps 0 where there are none. layers: what differs, () where nothing does.
    """

    architecture: str
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    head_dim_v: int
    n_rot: int
    n_vocab: int
    n_ctx_train: int
    norm_eps: float
    rope: RopeConfig | None
    n_expert: int = 0
    n_expert_used: int = 0
    n_ff_exp: int = 0
    n_ff_shexp: int = 0
    n_expert_groups: int = 0
    n_group_used: int = 0
    expert_gating: str = "softmax"
    normalizes_shares: bool = True
    expert_weights_scale: float = 1.0
    n_swa: int = 0
    swa_is_chunked: bool = False
    attention_scale: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attn_logit_softcapping: float = 0.0
    final_logit_softcapping: float = 0.0
    max_alibi_bias: float = 0.0
    clamp_kqv: float = 0.0
    parallel_residual: bool = True
    n_layer_nextn: int = 0
    layers: tuple["ModelConfig", ...] = ()

    def of_layer(self, layer: int) -> "ModelConfig":
        """The numbers as they are in one layer."""
        return self.layers[layer] if self.layers else self

    @property
    def n_embd_q(self) -> int:
        """All queries of a token, side by side."""
        return self.n_head * self.head_dim

    @property
    def n_embd_k(self) -> int:
        """All keys of a token, side by side."""
        return self.n_head_kv * self.head_dim

    @property
    def n_embd_v(self) -> int:
        """All values of a token, side by side."""
        return self.n_head_kv * self.head_dim_v

    @property
    def n_embd_qkv(self) -> int:
        """Queries, keys and values of a token, side by side."""
        return self.n_embd_q + self.n_embd_k + self.n_embd_v

    @property
    def n_embd_heads(self) -> int:
        """What all heads give out for a token, side by side."""
        return self.n_head * self.head_dim_v

    @property
    def n_ff_gate_up(self) -> int:
        """Gate and up of the feed-forward network, side by side."""
        return 2 * self.n_ff

    @property
    def n_rot_pairs(self) -> int:
        """Rotated pairs of one head."""
        return self.n_rot // 2

    def kv_slots(self, layer: int) -> tuple[tuple[int, int], tuple[int, int], int]:
        """What the cache holds for a layer: shapes of one row of keys and of values, and how many
        positions a token sees, itself included (0: all)."""
        own = self.of_layer(layer)
        return (own.n_head_kv, own.head_dim), (own.n_head_kv, own.head_dim_v), own.n_swa

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], tensors: Mapping[str, Any] | None = None
    ) -> "ModelConfig":
        """Read and check a model's numbers.

        metadata: of a GGUF file; tensors: its tensors (name -> with a `shape`), asked only for
        the vocabulary's size where the metadata does not say it.
        Raises: GGUFError naming the key that is missing, ill-typed or does not fit the others;
            UnsupportedError for an architecture without code, or sound values that have none.
        """
        read = Reader(metadata)
        architecture = find_architecture(read.architecture)
        if not read.flag("causal", True):
            raise UnsupportedError(
                f"{read.key('causal')}: attention to the future has no code; expected true, "
                "got false; such models make embeddings, not text"
            )
        n_layer_nextn = read.count("n_layer_nextn", 0, least=0)
        n_layer = read.count("n_layer") - n_layer_nextn
        if n_layer > MAX_LAYERS:
            read.fail("n_layer", f"at most {MAX_LAYERS} layers, as in llama.cpp", n_layer)
        if n_layer < 1:
            read.fail("n_layer_nextn", "fewer than all layers", n_layer_nextn)
        read.n_layer = n_layer
        sizes = _sizes(read, tensors or {}, n_layer)
        rope = None if architecture.rope == "none" else rope_of(read, sizes["n_ctx_train"])
        whole = cls(
            **sizes,
            architecture=read.architecture,
            n_layer=n_layer,
            n_layer_nextn=n_layer_nextn,
            norm_eps=_norm_eps(read, architecture),
            rope=rope,
            **_expert_numbers(read, architecture, sizes),
            **_scales(read, architecture, sizes, n_layer),
        )
        return _with_layers(whole, read, architecture)


def _sizes(read: Reader, tensors: Mapping[str, Any], n_layer: int) -> dict[str, int]:
    """Embedding, heads, context and vocabulary."""
    n_embd = read.count("n_embd")
    n_head = max(read.counts("n_head"))
    if read.key("head_dim") not in read.metadata:
        read.demand_divides("n_head", n_head, "n_embd", n_embd)
    head_dim = read.count("head_dim", n_embd // n_head)
    for heads, kv_heads in zip(
        read.counts("n_head"), read.counts("n_head_kv", read.counts("n_head")), strict=True
    ):
        read.demand_divides("n_head_kv", kv_heads, "n_head", heads)
    n_rot = read.count("n_rot", head_dim, least=0)
    if n_rot % 2 or n_rot > head_dim or n_rot == 0:
        read.fail("n_rot", f"an even number up to head_dim {head_dim}", n_rot)
    return {
        "n_embd": n_embd,
        "n_head": n_head,
        "n_head_kv": max(read.counts("n_head_kv", read.counts("n_head"))),
        "head_dim": head_dim,
        "head_dim_v": read.count("head_dim_v", n_embd // n_head),
        "n_rot": n_rot,
        "n_ff": max(read.counts("n_ff", least=0)),
        "n_vocab": _vocabulary_size(read, tensors),
        "n_ctx_train": read.count("n_ctx_train"),
    }


def _norm_eps(read: Reader, architecture: Architecture) -> float:
    ours = "norm_eps" if architecture.norm == "rms_norm" else "norm_eps (layer norm)"
    return read.number(ours, zero_is_sound=True)


def _expert_numbers(
    read: Reader, architecture: Architecture, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """How many experts, how long, and how they are chosen."""
    n_expert = read.count("n_expert", 0, least=0)
    n_expert_used = read.count("n_expert_used", 0, least=0)
    if n_expert_used > n_expert or (n_expert and not n_expert_used):
        read.fail("n_expert_used", f"from 1 to the {n_expert} experts", n_expert_used)
    n_groups = read.count("n_expert_groups", 0, least=0)
    n_group_used = read.count("n_group_used", 0, least=0)
    if n_groups > 1 and (n_expert % n_groups or not 0 < n_group_used < n_groups):
        read.fail("n_expert_groups", f"a divisor of {n_expert} above {n_group_used}", n_groups)
    n_ff = sizes["n_ff"]
    if architecture.n_ff_exp == "n_ff_of_expert" and n_expert_used:
        n_ff //= n_expert_used
    numbers = {
        "n_expert": n_expert,
        "n_expert_used": n_expert_used,
        "n_ff_exp": read.count("n_ff_exp", n_ff, least=0) if n_expert else 0,
        "n_ff_shexp": read.count("n_ff_shexp", 0, least=0),
        "n_expert_groups": n_groups,
        "n_group_used": n_group_used,
        "expert_gating": architecture.gating,
        "normalizes_shares": architecture.norm_shares,
    }
    if architecture.reads_gating and n_expert:
        gating = read.count("expert_gating", 0, least=0)
        if gating and gating not in GATINGS:
            raise UnsupportedError(
                f"{read.key('expert_gating')}: no code for this way to choose experts; expected "
                f"one of {GATINGS}, got {gating}"
            )
        numbers["expert_gating"] = GATINGS.get(gating, architecture.gating)
        numbers["normalizes_shares"] = read.flag("normalizes_shares", architecture.norm_shares)
        numbers["expert_weights_scale"] = (
            read.number("expert_weights_scale", 1.0, zero_is_sound=True) or 1.0
        )
    return numbers


def _scales(
    read: Reader, architecture: Architecture, sizes: Mapping[str, int], n_layer: int
) -> dict[str, Any]:
    """Scales, caps and clamps: the file's, else the architecture's."""
    n_embd = sizes["n_embd"]

    def number(ours: str, default: float) -> float:
        default = architecture.defaults.get(ours, default)
        return read.number(ours, default, zero_is_sound=True)

    wide = architecture.wide_scale_at and n_layer == architecture.wide_scale_at
    length = n_embd // sizes["n_head"] if wide else sizes["head_dim"]
    attention_scale = number("attention_scale", 0) if architecture.attention_scale == "file" else 0
    embedding = architecture.embedding_scale
    embedding = n_embd**0.5 if embedding == "sqrt" else number("embedding_scale", embedding)
    logit_scale = number("logit_scale", architecture.logit_scale) or 1.0
    return {
        "attention_scale": attention_scale or 1 / length**0.5,
        "embedding_scale": embedding or 1.0,
        "residual_scale": number("residual_scale", architecture.residual_scale) or 1.0,
        "logit_scale": 1 / logit_scale if architecture.divides_logits else logit_scale,
        "attn_logit_softcapping": number("attn_logit_softcapping", 0),
        "final_logit_softcapping": number("final_logit_softcapping", 0),
        "max_alibi_bias": number("max_alibi_bias", 0),
        "clamp_kqv": number("clamp_kqv", 0),
        "parallel_residual": read.flag("parallel_residual", True),
    }


def _with_layers(whole: ModelConfig, read: Reader, architecture: Architecture) -> ModelConfig:
    """The numbers together with those of each layer, where any differ."""
    windows = layer_windows(read, architecture, whole.n_layer)
    heads = read.counts("n_head")
    kv_heads, n_ff = read.counts("n_head_kv", heads), read.counts("n_ff", least=0)
    n_dense = read.count("n_layer_dense_lead", 0, least=0)
    period = read.count("expert_period", architecture.expert_period)
    layers = []
    for layer in range(whole.n_layer):
        has_experts = layer >= n_dense and (layer + 1) % period == 0
        layers.append(
            replace(
                whole,
                n_head=heads[layer],
                n_head_kv=kv_heads[layer],
                n_ff=n_ff[layer],
                n_expert=whole.n_expert if has_experts else 0,
                n_swa=windows[layer],
                swa_is_chunked=bool(architecture.window and architecture.window.chunked),
                rope=_layer_rope(whole, read, architecture, layer, windows[layer]),
            )
        )
    if all(layer == layers[0] for layer in layers):
        return layers[0]
    return replace(whole, layers=tuple(layers))


def _layer_rope(
    whole: ModelConfig, read: Reader, architecture: Architecture, layer: int, window: int
) -> RopeConfig | None:
    """How a layer's positions become angles; None where they do not."""
    period = read.count("no_rope_period", architecture.no_rope_period, least=0)
    unrotated = period and (layer + 1) % period == 0
    if whole.rope is None or unrotated or (architecture.rope_only_windowed and not window):
        return None
    if not window or architecture.window is None:
        return whole.rope
    return window_rope(read, whole.rope, architecture.window)


def _vocabulary_size(read: Reader, tensors: Mapping[str, Any]) -> int:
    """Tokens of the tokenizer, else what the metadata says, else rows of the embedding."""
    tokens = read.metadata.get("tokenizer.ggml.tokens")
    if tokens is not None and hasattr(tokens, "__len__") and not isinstance(tokens, str):
        return len(tokens)
    embedding = tensors.get("token_embd.weight")
    rows = embedding.shape[0] if embedding is not None and len(embedding.shape) == 2 else None
    return read.count("n_vocab", rows)
