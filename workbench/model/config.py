"""The numbers of a model, read from a file's metadata once and checked.

Here stands the one table that translates between our names, GGUF's keys and Hugging Face's
config.json; nothing outside this file knows GGUF's keys of a model.
Source: llama.cpp src/llama-model.cpp (`load_hparams`: keys, defaults), src/llama-arch.cpp (names).
Left out: per-layer numbers (refused unless all are equal), windows, soft caps, "longrope".
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import GGUFError, UnsupportedError
from .rope import SCALING_TYPES, RopeConfig

__all__ = ["TRANSLATIONS", "ModelConfig", "Translation"]

COUNT_LIMIT = 2**31  # no number of a model reaches it; beyond lie damaged files


class Translation(NamedTuple):
    """One number of a model in three languages; `{arch}.` stands before each GGUF key."""

    ours: str
    gguf: str
    hugging_face: str


TRANSLATIONS = (
    Translation("n_ctx_train", "context_length", "max_position_embeddings"),
    Translation("n_embd", "embedding_length", "hidden_size"),
    Translation("n_layer", "block_count", "num_hidden_layers"),
    Translation("n_ff", "feed_forward_length", "intermediate_size"),
    Translation("n_head", "attention.head_count", "num_attention_heads"),
    Translation("n_head_kv", "attention.head_count_kv", "num_key_value_heads"),
    Translation("head_dim", "attention.key_length", "head_dim"),
    Translation("head_dim_v", "attention.value_length", "v_head_dim"),
    Translation("n_rot", "rope.dimension_count", "rotary_dim"),
    Translation("n_vocab", "vocab_size", "vocab_size"),
    Translation("norm_eps", "attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    Translation("n_expert", "expert_count", "num_local_experts"),
    Translation("n_expert_used", "expert_used_count", "num_experts_per_tok"),
    Translation("causal", "attention.causal", "is_causal"),
    Translation("rope.base", "rope.freq_base", "rope_theta"),
    Translation("rope.scaling", "rope.scaling.type", "rope_scaling.rope_type"),
    Translation("rope.factor", "rope.scaling.factor", "rope_scaling.factor"),
    Translation("rope.factor (old)", "rope.scale_linear", "rope_scaling.factor"),
    Translation(
        "rope.n_ctx_orig",
        "rope.scaling.original_context_length",
        "rope_scaling.original_max_position_embeddings",
    ),
    Translation("rope.attn_factor", "rope.scaling.attn_factor", "rope_scaling.attention_factor"),
)
_GGUF_KEY = {entry.ours: entry.gguf for entry in TRANSLATIONS}


@dataclass(frozen=True)
class ModelConfig:
    """The numbers of a model; sizes count elements.

    head_dim is the length of a query or key of one head, head_dim_v that of a value; n_rot of its
    numbers are rotated. n_expert is 0 for a dense model.
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
    rope: RopeConfig
    n_expert: int = 0
    n_expert_used: int = 0

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
    def n_embd_heads(self) -> int:
        """What all heads give out for a token, side by side."""
        return self.n_head * self.head_dim_v

    @property
    def n_rot_pairs(self) -> int:
        """Rotated pairs of one head."""
        return self.n_rot // 2

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], tensors: Mapping[str, Any] | None = None
    ) -> "ModelConfig":
        """Read and check a model's numbers.

        metadata: of a GGUF file; tensors: its tensors (name -> with a `shape`), asked only for
        the vocabulary's size where the metadata does not say it.
        Raises: GGUFError naming the key that is missing, ill-typed or does not fit the others;
            UnsupportedError for sound values that the forward pass has no code for.
        """
        read = _Reader(metadata)
        n_embd = read.count("n_embd")
        n_head = read.count("n_head")
        if read.key("head_dim") not in metadata:
            read.demand_divides("n_head", n_head, "n_embd", n_embd)
        head_dim = read.count("head_dim", n_embd // n_head)
        n_head_kv = read.count("n_head_kv", n_head)
        read.demand_divides("n_head_kv", n_head_kv, "n_head", n_head)
        n_rot = read.count("n_rot", head_dim)
        if n_rot % 2 or n_rot > head_dim:
            read.fail("n_rot", f"an even number up to head_dim {head_dim}", n_rot)
        n_ctx_train = read.count("n_ctx_train")
        n_expert, n_expert_used = _expert_counts(read)
        if not read.flag("causal", True):
            raise UnsupportedError(
                f"{read.key('causal')}: attention to the future has no code; expected true, "
                "got false; such models make embeddings, not text"
            )
        return cls(
            architecture=read.architecture,
            n_layer=read.count("n_layer"),
            n_embd=n_embd,
            n_ff=read.count("n_ff"),
            n_head=n_head,
            n_head_kv=n_head_kv,
            head_dim=head_dim,
            head_dim_v=read.count("head_dim_v", n_embd // n_head),
            n_rot=n_rot,
            n_vocab=_vocabulary_size(read, tensors or {}),
            n_ctx_train=n_ctx_train,
            norm_eps=read.number("norm_eps", zero_is_sound=True),
            rope=_rope_config(read, n_ctx_train),
            n_expert=n_expert,
            n_expert_used=n_expert_used,
        )


def _expert_counts(read: "_Reader") -> tuple[int, int]:
    n_expert = read.count("n_expert", 0, least=0)
    n_expert_used = read.count("n_expert_used", 0, least=0)
    if n_expert_used > n_expert or (n_expert and not n_expert_used):
        read.fail("n_expert_used", f"from 1 to the {n_expert} experts", n_expert_used)
    return n_expert, n_expert_used


def _vocabulary_size(read: "_Reader", tensors: Mapping[str, Any]) -> int:
    """Tokens of the tokenizer, else what the metadata says, else rows of the embedding."""
    tokens = read.metadata.get("tokenizer.ggml.tokens")
    if tokens is not None and hasattr(tokens, "__len__") and not isinstance(tokens, str):
        return len(tokens)
    embedding = tensors.get("token_embd.weight")
    rows = embedding.shape[0] if embedding is not None and len(embedding.shape) == 2 else None
    return read.count("n_vocab", rows)


def _rope_config(read: "_Reader", n_ctx_train: int) -> RopeConfig:
    scaling = read.text("rope.scaling", "linear")
    if scaling not in SCALING_TYPES:
        raise UnsupportedError(
            f"{read.key('rope.scaling')}: no code for {scaling!r}; expected one of "
            f"{', '.join(SCALING_TYPES)}, got {scaling!r}"
        )
    old_factor = read.number("rope.factor (old)", 1.0, zero_is_sound=True)
    factor = read.number("rope.factor", old_factor, zero_is_sound=True)
    base = read.number("rope.base", 10000.0)
    if scaling == "yarn" and base <= 1:
        read.fail("rope.base", "a number above 1 for yarn", base)
    return RopeConfig(
        base=base,
        scaling=scaling,
        factor=factor or 1.0,  # llama.cpp takes 0 as "not scaled"
        n_ctx_orig=read.count("rope.n_ctx_orig", n_ctx_train, least=0) or n_ctx_train,
        attn_factor=read.number("rope.attn_factor", 1.0),
    )


class _Reader:
    """Typed look-ups in metadata under one architecture's prefix, failing with the key's name."""

    def __init__(self, metadata: Mapping[str, Any]):
        self.metadata = metadata
        name = metadata.get("general.architecture")
        if not isinstance(name, str):
            raise GGUFError(
                f"general.architecture: no architecture; expected a string, got {name!r}; "
                "the file does not say which model it holds"
            )
        self.architecture = name

    def key(self, ours: str) -> str:
        return f"{self.architecture}.{_GGUF_KEY[ours]}"

    def fail(self, ours: str, expected: str, got: Any) -> None:
        raise GGUFError(
            f"{self.key(ours)}: wrong value for {ours}; expected {expected}, got {got!r:.80}; "
            "the file is damaged or was converted wrongly"
        )

    def value(self, ours: str, default: Any) -> Any:
        """The value of a key; an array of equal numbers (one a layer) counts as that number."""
        value = self.metadata.get(self.key(ours), default)
        if value is None:
            near = difflib.get_close_matches(self.key(ours), map(str, self.metadata), n=1)
            raise GGUFError(
                f"{self.key(ours)}: missing; expected a value for {ours}, got none"
                + (f" (the nearest key is {near[0]})" if near else "")
                + "; a file made for inference has it"
            )
        if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.size:
            if (value != value[0]).any():
                raise UnsupportedError(
                    f"{self.key(ours)}: {ours} differs from layer to layer, which has no code; "
                    f"expected one number, got {value.tolist()!r:.80}"
                )
            return value[0].item()
        return value

    def count(self, ours: str, default: int | None = None, least: int = 1) -> int:
        value = self.value(ours, default)
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_integer or not least <= value < COUNT_LIMIT:
            self.fail(ours, f"an integer of at least {least} and below 2^31", value)
        return int(value)

    def number(self, ours: str, default: float | None = None, zero_is_sound: bool = False) -> float:
        value = self.value(ours, default)
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0 or not (value or zero_is_sound):
            self.fail(ours, "a finite positive number", value)
        return float(value)

    def text(self, ours: str, default: str) -> str:
        value = self.value(ours, default)
        if not isinstance(value, str):
            self.fail(ours, "a string", value)
        return value

    def flag(self, ours: str, default: bool) -> bool:
        value = self.value(ours, default)
        if not isinstance(value, bool | np.bool_):
            self.fail(ours, "true or false", value)
        return bool(value)

    def demand_divides(self, ours: str, part: int, whole_name: str, whole: int) -> None:
        if whole % part:
            self.fail(ours, f"a divisor of {whole_name} {whole}", part)
