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
from .architectures.inspected import INSPECTED, inspected_architecture
from .config_keys import TRANSLATIONS, Reader, Translation
from .config_layers import layer_ropes, layer_windows, rope_of
from .config_numbers import activation_numbers, expert_numbers, norm_eps, scales, sizes_of
from .rope import RopeConfig

__all__ = ["TRANSLATIONS", "ModelConfig", "Translation", "architecture_of"]

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS


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
    temperature_scale: float = 0.0
    temperature_length: int = 0
    temperature_offset: int = 0
    activation_numbers: tuple[float, ...] = ()
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    head_dim_mla: int = 0
    head_dim_v_mla: int = 0
    latent_is_absorbed: bool = False
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
        return self.n_head * (self.head_dim_v_mla or self.head_dim_v)

    @property
    def n_embd_q_mla(self) -> int:
        """All queries of a token, side by side, in latent attention."""
        return self.n_head * self.head_dim_mla

    @property
    def head_dim_nope(self) -> int:
        """Numbers of a head's query that are not rotated, in latent attention."""
        return self.head_dim_mla - self.n_rot

    @property
    def n_kv_a(self) -> int:
        """What latent attention keeps of a token: the latent vector and the rotated key."""
        return self.kv_lora_rank + self.n_rot

    @property
    def n_kv_b(self) -> int:
        """Unrotated keys and values of all heads, side by side, made from the latent vector."""
        return self.n_head * (self.head_dim_nope + self.head_dim_v_mla)

    @property
    def n_ff_gate_up(self) -> int:
        """Gate and up of the feed-forward network, side by side."""
        return 2 * self.n_ff

    @property
    def n_ff_exp_gate_up(self) -> int:
        """Gate and up of an expert, side by side."""
        return 2 * self.n_ff_exp

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
        An architecture of llama.cpp's that has no code here is read all the same: its numbers say
        what its weights and its cache take.
        Raises: GGUFError naming the key that is missing, ill-typed or does not fit the others;
            UnsupportedError for an architecture that is not known, or sound values without code.
        """
        read = Reader(metadata)
        if read.architecture not in INSPECTED:
            find_architecture(read.architecture)
            read.flag("causal", True)
        n_layer_nextn = _count_layers(read)
        architecture = _architecture(read)
        sizes = sizes_of(read, architecture, _vocabulary_size(read, tensors or {}))
        rope = None
        if architecture.rope != "none":
            rope = rope_of(read, architecture, sizes["n_ctx_train"], sizes["head_dim"])
        whole = cls(
            **sizes,
            architecture=read.architecture,
            n_layer=read.n_layer,
            n_layer_nextn=n_layer_nextn,
            norm_eps=norm_eps(read, architecture),
            rope=rope,
            **expert_numbers(read, architecture, sizes),
            **scales(read, architecture, sizes, rope),
        )
        return _with_layers(whole, read, architecture)


def architecture_of(metadata: Mapping[str, Any]) -> Architecture:
    """The entry of a file's architecture, with what differs at the file's size, to compute by it.

    Raises: UnsupportedError naming what is supported; GGUFError.
    """
    read = Reader(metadata)
    find_architecture(read.architecture)
    if not read.flag("causal", True):
        raise UnsupportedError(
            f"{read.key('causal')}: attention to the future has no code; expected true, "
            "got false; such models make embeddings, not text"
        )
    _count_layers(read)
    return _architecture(read)


def _architecture(read: Reader) -> Architecture:
    if read.architecture in INSPECTED:
        return inspected_architecture(read.architecture, read.key("norm_eps") in read.metadata)
    architecture = find_architecture(read.architecture)
    return architecture.of_size(read.n_layer, read.count("n_expert", 0, least=0))


def _count_layers(read: Reader) -> int:
    """Tell the reader how many layers there are. Returns: how many more guess tokens ahead."""
    n_layer_nextn = read.count("n_layer_nextn", 0, least=0)
    n_layer = read.count("n_layer") - n_layer_nextn
    if n_layer > MAX_LAYERS:
        read.fail("n_layer", f"at most {MAX_LAYERS} layers, as in llama.cpp", n_layer)
    if n_layer < 1:
        read.fail("n_layer_nextn", "fewer than all layers", n_layer_nextn)
    read.n_layer = n_layer
    return n_layer_nextn


def _with_layers(whole: ModelConfig, read: Reader, architecture: Architecture) -> ModelConfig:
    """The numbers together with those of each layer, where any differ."""
    windows = layer_windows(read, architecture, whole.n_layer)
    ropes = layer_ropes(read, architecture, whole.rope, windows)
    heads = read.counts("n_head")
    kv_heads = read.counts("n_head_kv", heads)
    n_ff = tuple(n // architecture.n_ff_divisor for n in read.counts("n_ff", (0,), least=0))
    reads = architecture.reads
    n_dense = read.count("n_layer_dense_lead", 0, least=0) if "n_layer_dense_lead" in reads else 0
    period = read.count("expert_period", 1) if "expert_period" in reads else 1
    activations = activation_numbers(read, architecture)
    layers = []
    for layer in range(whole.n_layer):
        has_experts = not architecture.dense_ffn or (layer >= n_dense and (layer + 1) % period == 0)
        own = replace(
            whole,
            n_head=heads[layer],
            n_head_kv=kv_heads[layer],
            n_ff=n_ff[layer],
            n_expert=whole.n_expert if has_experts else 0,
            n_swa=windows[layer],
            swa_is_chunked=bool(architecture.window and architecture.window.chunked),
            rope=ropes[layer],
            activation_numbers=activations[layer],
        )
        layers.append(_with_temperature(own, architecture, any(windows)))
    if all(layer == layers[0] for layer in layers):
        return layers[0]
    return replace(whole, layers=tuple(layers))


def _with_temperature(
    own: ModelConfig, architecture: Architecture, has_windows: bool
) -> ModelConfig:
    """A layer's numbers, without a temperature where it has none."""
    temperature = architecture.temperature
    if temperature and temperature.unrotated and (own.rope is not None or not has_windows):
        return replace(own, temperature_scale=0.0)
    return own


def _vocabulary_size(read: Reader, tensors: Mapping[str, Any]) -> int:
    """Tokens of the tokenizer, else what the metadata says, else rows of the embedding."""
    tokens = read.metadata.get("tokenizer.ggml.tokens")
    if tokens is not None and hasattr(tokens, "__len__") and not isinstance(tokens, str):
        return len(tokens)
    embedding = tensors.get("token_embd.weight")
    rows = embedding.shape[0] if embedding is not None and len(embedding.shape) == 2 else None
    return read.count("n_vocab", rows)
