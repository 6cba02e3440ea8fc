"""The rules of the mixes: for a file type and the place of a tensor in the model, its type.

    file type, model ──┐
    role, layer, shape ┴─► type_in_mix ─► "Q6_K"

One function a role. Where llama.cpp counts tensors instead of reading the layer from the name, the
count is the layer here as well; of models with experts it reads the name.
Source: llama.cpp src/llama-quant.cpp, `llama_tensor_get_type_impl`; src/models/*.cpp for 70B.
Left out: which tensors are quantized at all, and rows that do not fit (`mixes`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import GGUFError
from ..gguf.types import GGML_TYPES

__all__ = ["MixModel", "Place", "layer_of", "type_in_mix"]

# Architecture -> layers of the models whose attn_v is spared as in Llama 2 70B.
_LAYERS_OF_70B = {"deci": 80, "jais2": 68, "llama": 80, "llama-embed": 80, "olmo": 80, "qwen2": 80}
_SMALLEST = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")

_OUTPUT_Q5_K = (*_SMALLEST, "IQ3_XXS")
_TOKEN_EMBD = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "Q2_K"),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "IQ3_S"),
    **dict.fromkeys(("TQ1_0", "TQ2_0", "Q2_0"), "Q4_K"),
}
_ATTN_V = {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
_ATTN_V_SHARED = {  # by four or more heads: a small matrix, worth more bits
    **dict.fromkeys(("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S"), "Q4_K"),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), "Q5_K"),
}
_ATTN_Q = {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}
_ATTN_OUTPUT = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}
_ATTN_OUTPUT |= {"IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K"}
_ATTN_OUTPUT_Q5_K = (  # with eight experts
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M"),
    *("IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS"),
)
_FFN_DOWN_FIRST = {"Q2_K_S": "Q4_K", "Q4_K_S": "Q5_K", "IQ3_M": "Q4_K"}  # the first eighth
_FFN_DOWN_FIRST_PLAIN = {"IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K"}  # without imatrix
_FFN_DOWN_FIRST_IMATRIX = {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}
_FFN_DOWN_FALCON = {"Q3_K_M": ("Q5_K", "Q4_K", "Q3_K"), "Q4_K_M": ("Q6_K", "Q5_K", "Q4_K")}


@dataclass(frozen=True)
class MixModel:
    """The numbers of a model that the mixes look at; n_gqa: query heads that share a KV head."""

    architecture: str
    n_layer: int
    n_gqa: int
    n_expert: int
    is_70b: bool

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "MixModel":
        """Reads them from a file's metadata.

        Raises: GGUFError where the architecture or the number of layers is missing or no number.
        """
        name = metadata.get("general.architecture")
        if not isinstance(name, str):
            raise GGUFError(
                f"general.architecture: no architecture; expected a string, got {name!r}; the "
                "mixes depend on it"
            )
        n_layer = _count(metadata, f"{name}.block_count")
        n_head = _count(metadata, f"{name}.attention.head_count", 0)
        n_head_kv = _count(metadata, f"{name}.attention.head_count_kv", n_head)
        n_expert = _count(metadata, f"{name}.expert_count", 0)
        is_70b = _LAYERS_OF_70B.get(name) == n_layer
        if name in ("llama", "llama-embed"):  # one with as many KV heads as heads is the 65B
            is_70b = is_70b and n_head != n_head_kv and n_expert != 8
        return cls(name, n_layer, n_head // n_head_kv if n_head_kv else 0, n_expert, is_70b)


@dataclass(frozen=True)
class Place:
    """Where a tensor stands.

    mix: the file type's name; default: its type; role: as `mixes.role_in_mix` calls it; layer: its
    number, of n_layer; shape: NumPy order; tied: the model has no output matrix of its own.
    """

    mix: str
    default: str
    model: MixModel
    has_imatrix: bool
    tied: bool
    role: str
    layer: int
    n_layer: int
    shape: tuple[int, ...]

    @property
    def is_early(self) -> bool:
        """In the first eighth of the layers."""
        return self.layer < self.n_layer // 8

    @property
    def is_middle(self) -> bool:
        """Neither in the first nor in the last eighth."""
        return not self.is_early and self.layer < 7 * self.n_layer // 8

    @property
    def is_spared(self) -> bool:
        """In the first or last eighth, or every third layer between."""
        return not self.is_middle or (self.layer - self.n_layer // 8) % 3 == 2


def type_in_mix(place: Place) -> str:
    """The type that the mix gives to a tensor, whether its rows fit or not.

    Source: llama.cpp src/llama-quant.cpp, `llama_tensor_get_type_impl`.
    """
    if place.role == "output" or (place.tied and place.role == "token_embd"):
        return _output(place)
    if place.mix == "MXFP4_MOE":
        has_experts = len(place.shape) > 2 and place.shape[-3] > 1
        return "MXFP4" if has_experts else "Q8_0"
    if place.role == "token_embd":
        return _TOKEN_EMBD.get(place.mix, place.default)
    if place.mix in _SMALLEST:
        return _smallest(place)
    rule = _RULES.get(place.role)
    return rule(place) if rule else place.default


def layer_of(name: str, role: str, n_before: int, mix: str, model: MixModel) -> int:
    """The layer of a tensor of which n_before others with its role came before.

    Raises: GGUFError for a tensor of an expert model without its layer in the name.
    """
    if model.n_expert <= 1 or not role.startswith("ffn_") or mix in _SMALLEST:
        return n_before
    match = re.match(r"blk\.(\d+)\.", name)
    if match is None or int(match[1]) >= model.n_layer:
        raise GGUFError(
            f"{name}: its layer is not to be seen; expected a name such as blk.0.{role}.weight "
            f"with a layer below {model.n_layer}, got {name!r}; rename it or quantize pure"
        )
    return int(match[1])


def _output(place: Place) -> str:
    """The matrix before the logits, which may be the embedding as well."""
    fits = place.shape[-1] % GGML_TYPES[place.default].block_size == 0
    if place.mix == "MXFP4_MOE" or place.model.architecture == "falcon" or not fits:
        return "Q8_0"
    if place.mix in _OUTPUT_Q5_K:
        return "Q5_K"
    return place.default if place.default == "Q8_0" else "Q6_K"


def _smallest(place: Place) -> str:
    """Every role in the mixes below three bits."""
    model, larger = place.model, "IQ3_S" if place.mix in ("IQ2_S", "IQ2_M") else "Q2_K"
    if place.role == "attn_v":
        return "Q4_K" if model.n_gqa >= 4 or model.n_expert >= 4 else larger
    if place.role == "attn_k" and model.n_expert == 8:
        return "Q4_K"
    if place.role == "ffn_down" and place.is_early:
        return larger
    if place.role == "attn_output":
        if model.n_expert == 8:
            return "Q5_K"
        small = {"IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}
        return small.get(place.mix, place.default)
    return place.default


def _attn_v(place: Place) -> str:
    type_ = _attn_v_of_mix(place)
    if place.model.is_70b and type_ in ("Q3_K", "Q4_K"):
        type_ = "Q5_K"
    return "Q8_0" if place.model.n_expert == 8 else type_


def _attn_v_of_mix(place: Place) -> str:
    mix = place.mix
    if place.model.n_gqa >= 4 and mix in _ATTN_V_SHARED:
        return _ATTN_V_SHARED[mix]
    if mix == "IQ3_XXS" and not place.has_imatrix:
        return "IQ3_S"
    if mix == "Q3_K_M":
        return "Q5_K" if place.layer < 2 else "Q4_K"
    if mix in ("Q4_K_M", "Q5_K_M") and place.is_spared:
        return "Q6_K"
    if mix == "Q4_K_S" and place.layer < 4:
        return "Q5_K"
    return _ATTN_V.get(mix, place.default)


def _attn_k(place: Place) -> str:
    return "Q8_0" if place.model.n_expert == 8 else _attn_q(place)


def _attn_q(place: Place) -> str:
    return _ATTN_Q.get(place.mix, place.default)


def _attn_output(place: Place) -> str:
    if place.model.architecture == "falcon":
        return "Q4_K" if place.mix == "Q3_K_L" else place.default
    if place.model.n_expert == 8:
        return "Q5_K" if place.mix in _ATTN_OUTPUT_Q5_K else place.default
    return _ATTN_OUTPUT.get(place.mix, place.default)


def _ffn_down(place: Place) -> str:
    mix, is_falcon = place.mix, place.model.architecture == "falcon"
    very_early = place.layer < place.n_layer // 16
    if is_falcon and mix in _FFN_DOWN_FALCON:
        first, spared, other = _FFN_DOWN_FALCON[mix]
        return first if very_early else spared if place.is_spared else other
    if mix == "Q3_K_M":
        return "Q5_K" if very_early else "Q4_K"
    if mix == "Q3_K_L":
        return "Q4_K" if is_falcon else "Q5_K"
    if mix == "Q2_K":
        return "Q3_K"
    if mix in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if place.is_spared else place.default
    if mix == "IQ3_XXS" and not place.has_imatrix:
        return "Q4_K" if place.is_early else "Q3_K"
    if mix == "IQ3_M" and place.model.n_expert == 8 and place.is_spared:
        return "Q4_K"
    if not place.is_early or (mix == "Q4_K_S" and is_falcon):
        return place.default
    by_imatrix = _FFN_DOWN_FIRST_IMATRIX if place.has_imatrix else _FFN_DOWN_FIRST_PLAIN
    return (_FFN_DOWN_FIRST | by_imatrix).get(mix, place.default)


def _ffn_gate_or_up(place: Place) -> str:
    return "IQ3_XXS" if place.mix == "IQ3_XS" and place.is_middle else place.default


_RULES = {
    "attn_v": _attn_v,
    "attn_k": _attn_k,
    "attn_q": _attn_q,
    "attn_output": _attn_output,
    "ffn_down": _ffn_down,
    "ffn_gate": _ffn_gate_or_up,
    "ffn_up": _ffn_gate_or_up,
}


def _count(metadata: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A number of the metadata; of an array (one a layer) the first."""
    value = metadata.get(key, default)
    if isinstance(value, np.ndarray) and value.size:
        value = value.reshape(-1)[0]
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 0:
        raise GGUFError(
            f"{key}: no number; expected an integer not below 0, got {value!r:.80}; the mixes "
            "depend on it"
        )
    return int(value)
