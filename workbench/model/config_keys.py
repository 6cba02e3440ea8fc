"""Looking numbers up in metadata, and the one table of their names.

The table translates between our names, GGUF's keys and Hugging Face's config.json; nothing outside
this file knows GGUF's keys of a model.
Source: llama.cpp src/llama-arch.cpp (names), src/llama-model-loader.cpp (`get_key_or_arr`).
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..errors import GGUFError, UnsupportedError

__all__ = ["TRANSLATIONS", "Reader", "Translation"]

COUNT_LIMIT = 2**31  # no number of a model reaches it; beyond lie damaged files


class Translation(NamedTuple):
    """One number of a model in three languages; `{arch}.` stands before GGUF keys but xielu's."""

    ours: str
    gguf: str
    hugging_face: str


TRANSLATIONS = (
    Translation("n_ctx_train", "context_length", "max_position_embeddings"),
    Translation("n_embd", "embedding_length", "hidden_size"),
    Translation("n_layer", "block_count", "num_hidden_layers"),
    Translation("n_layer_nextn", "nextn_predict_layers", "num_nextn_predict_layers"),
    Translation("n_ff", "feed_forward_length", "intermediate_size"),
    Translation("n_head", "attention.head_count", "num_attention_heads"),
    Translation("n_head_kv", "attention.head_count_kv", "num_key_value_heads"),
    Translation("head_dim", "attention.key_length", "head_dim"),
    Translation("head_dim_v", "attention.value_length", "v_head_dim"),
    Translation("head_dim (window)", "attention.key_length_swa", "swa_head_dim"),
    Translation("head_dim_v (window)", "attention.value_length_swa", "swa_v_head_dim"),
    Translation("n_rot (window)", "rope.dimension_count_swa", "swa_rotary_dim"),
    Translation("n_rot", "rope.dimension_count", "rotary_dim"),
    Translation("n_vocab", "vocab_size", "vocab_size"),
    Translation("norm_eps", "attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    Translation("norm_eps (layer norm)", "attention.layer_norm_epsilon", "layer_norm_eps"),
    Translation("n_expert", "expert_count", "num_local_experts"),
    Translation("n_expert_used", "expert_used_count", "num_experts_per_tok"),
    Translation("n_ff_exp", "expert_feed_forward_length", "moe_intermediate_size"),
    Translation(
        "n_ff_shexp", "expert_shared_feed_forward_length", "shared_expert_intermediate_size"
    ),
    Translation("n_expert_shared", "expert_shared_count", "n_shared_experts"),
    Translation("n_expert_groups", "expert_group_count", "n_group"),
    Translation("n_group_used", "expert_group_used_count", "topk_group"),
    Translation("n_layer_dense_lead", "leading_dense_block_count", "first_k_dense_replace"),
    Translation("expert_period", "interleave_moe_layer_step", "interleave_moe_layer_step"),
    Translation("expert_gating", "expert_gating_func", "scoring_func"),
    Translation("normalizes_shares", "expert_weights_norm", "norm_topk_prob"),
    Translation("expert_weights_scale", "expert_weights_scale", "routed_scaling_factor"),
    Translation("causal", "attention.causal", "is_causal"),
    Translation("n_swa", "attention.sliding_window", "sliding_window"),
    Translation("swa_pattern", "attention.sliding_window_pattern", "layer_types"),
    Translation("attention_scale", "attention.scale", "attention_multiplier"),
    Translation("embedding_scale", "embedding_scale", "embedding_multiplier"),
    Translation("residual_scale", "residual_scale", "residual_multiplier"),
    Translation("logit_scale", "logit_scale", "logit_scale"),
    Translation("attn_logit_softcapping", "attn_logit_softcapping", "attn_logit_softcapping"),
    Translation("final_logit_softcapping", "final_logit_softcapping", "final_logit_softcapping"),
    Translation("max_alibi_bias", "attention.max_alibi_bias", "alibi_bias_max"),
    Translation("clamp_kqv", "attention.clamp_kqv", "clip_qkv"),
    Translation("parallel_residual", "use_parallel_residual", "use_parallel_residual"),
    Translation("rope.base", "rope.freq_base", "rope_theta"),
    Translation("rope.base (window)", "rope.freq_base_swa", "rope_local_base_freq"),
    Translation("rope.scaling", "rope.scaling.type", "rope_scaling.rope_type"),
    Translation("rope.factor", "rope.scaling.factor", "rope_scaling.factor"),
    Translation("rope.factor (old)", "rope.scale_linear", "rope_scaling.linear.factor"),
    Translation(
        "rope.n_ctx_orig",
        "rope.scaling.original_context_length",
        "rope_scaling.original_max_position_embeddings",
    ),
    Translation("rope.attn_factor", "rope.scaling.attn_factor", "rope_scaling.attention_factor"),
    Translation("rope.yarn_attn_factor", "rope.scaling.yarn_attn_factor", "rope_scaling.mscale"),
    Translation("rope.log_mul", "rope.scaling.yarn_log_multiplier", "rope_scaling.mscale_all_dim"),
    Translation("rope.beta_fast", "rope.scaling.yarn_beta_fast", "rope_scaling.beta_fast"),
    Translation("rope.beta_slow", "rope.scaling.yarn_beta_slow", "rope_scaling.beta_slow"),
    Translation("rope.finetuned", "rope.scaling.finetuned", "rope_scaling.finetuned"),
    Translation("q_lora_rank", "attention.q_lora_rank", "q_lora_rank"),
    Translation("kv_lora_rank", "attention.kv_lora_rank", "kv_lora_rank"),
    Translation("head_dim_mla", "attention.key_length_mla", "qk_head_dim"),
    Translation("head_dim_v_mla", "attention.value_length_mla", "v_head_dim (latent)"),
    Translation("attention_output_scale", "attention.output_scale", "attn_output_multiplier"),
    Translation("temperature_scale", "attention.temperature_scale", "llama_4_scaling.beta"),
    Translation("temperature_length", "attention.temperature_length", "attn_temperature_len"),
    Translation("rope.alpha", "rope.scaling.alpha", "rope_scaling.alpha"),
    *(
        Translation(f"xielu_{name}", f"xielu.{name}", name)
        for name in ("alpha_n", "alpha_p", "beta", "eps")
    ),
)
UNPREFIXED = "xielu."  # keys that llama.cpp reads without the architecture's name in front
_GGUF_KEY = {entry.ours: entry.gguf for entry in TRANSLATIONS}


class Reader:
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
        self.n_layer = 1

    def key(self, ours: str) -> str:
        """The GGUF key of a number."""
        key = _GGUF_KEY[ours]
        return key if key.startswith(UNPREFIXED) else f"{self.architecture}.{key}"

    def fail(self, ours: str, expected: str, got: Any) -> NoReturn:
        """Raises: GGUFError."""
        raise GGUFError(
            f"{self.key(ours)}: wrong value for {ours}; expected {expected}, got {got!r:.80}; "
            "the file is damaged or was converted wrongly"
        )

    def value(self, ours: str, default: Any) -> Any:
        """The value of a key; an array of equal numbers (one a layer) counts as that number."""
        value = self._given(ours, default)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.size:
            if (value != value.flat[0]).any():
                raise UnsupportedError(
                    f"{self.key(ours)}: {ours} differs from layer to layer, which has no code; "
                    f"expected one number, got {value.tolist()!r:.80}"
                )
            return value.flat[0].item()
        return value

    def _given(self, ours: str, default: Any) -> Any:
        value = self.metadata.get(self.key(ours), default)
        if value is None:
            near = difflib.get_close_matches(self.key(ours), map(str, self.metadata), n=1)
            raise GGUFError(
                f"{self.key(ours)}: missing; expected a value for {ours}, got none"
                + (f" (the nearest key is {near[0]})" if near else "")
                + "; a file made for inference has it"
            )
        return value

    def count(self, ours: str, default: int | None = None, least: int = 1) -> int:
        """An integer."""
        return self._checked_count(ours, self.value(ours, default), least)

    def counts(
        self, ours: str, default: Sequence[int] | None = None, least: int = 1
    ) -> tuple[int, ...]:
        """An integer of each layer; one for all may stand in the file, or at least as many."""
        value = self._given(ours, default)
        if not isinstance(value, np.ndarray | tuple):
            return (self._checked_count(ours, value, least),) * self.n_layer
        if len(value) < self.n_layer:
            self.fail(ours, f"a number of each of {self.n_layer} layers", list(value))
        numbers = value.tolist() if isinstance(value, np.ndarray) else value
        return tuple(self._checked_count(ours, n, least) for n in numbers[: self.n_layer])

    def _checked_count(self, ours: str, value: Any, least: int) -> int:
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_integer or not least <= value < COUNT_LIMIT:
            self.fail(ours, f"an integer of at least {least} and below 2^31", value)
        return int(value)

    def number(self, ours: str, default: float | None = None, zero_is_sound: bool = False) -> float:
        """A finite number that is not negative."""
        value = self.value(ours, default)
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0 or not (value or zero_is_sound):
            self.fail(ours, "a finite positive number", value)
        return float(value)

    def numbers(self, ours: str) -> tuple[float, ...]:
        """A finite number of each layer; one for all may stand in the file."""
        value = self._given(ours, None)
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all() or array.ndim > 1:
            self.fail(ours, "finite numbers", value)
        if array.ndim and len(array) < self.n_layer:
            self.fail(ours, f"a number of each of {self.n_layer} layers", value)
        each = array[: self.n_layer] if array.ndim else np.full(self.n_layer, array)
        return tuple(each.tolist())

    def text(self, ours: str, default: str) -> str:
        """A string."""
        value = self.value(ours, default)
        if not isinstance(value, str):
            self.fail(ours, "a string", value)
        return value

    def flag(self, ours: str, default: bool) -> bool:
        """True or false."""
        value = self.value(ours, default)
        if not isinstance(value, bool | np.bool_):
            self.fail(ours, "true or false", value)
        return bool(value)

    def demand_divides(self, ours: str, part: int, whole_name: str, whole: int) -> None:
        """Raises: GGUFError where part does not divide the whole."""
        if not part or whole % part:
            self.fail(ours, f"a divisor of {whole_name} {whole}", part)
