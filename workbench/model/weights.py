"""The weights of a model: every tensor its architecture names, checked, still packed in the file.

    weights.token_embd.weight      weights.blk[3].attn_q.weight      weights.blk[3].attn_q.bias

are the tensors token_embd.weight, blk.3.attn_q.weight and blk.3.attn_q.bias: matrices are views of
the memory-mapped file, or its bytes on a GPU; vectors (norms, biases) are float32. What a file may
leave out is None.
Source: llama.cpp src/llama-model-loader.cpp (`create_tensor`: missing, misshapen and unused ones).
Left out: reading the file (layer 1) and decoding (layer 2).
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..errors import GGUFError, ParameterError, UnsupportedError
from ..ops import PackedTensor
from .architectures import Architecture, TensorSpec
from .config import ModelConfig

__all__ = ["FORMS", "LAYER_PARTS", "TOP_PARTS", "Part", "Weights", "load_weights"]

FORMS = ("packed", "float32")
_LAYER_NAME = re.compile(r"blk\.(0|[1-9][0-9]{0,9})\.(.+)")
_UNUSED = {"attn_rot_embd.weight"}  # old converters wrote these; llama.cpp ignores them too


class Part(NamedTuple):
    """One piece of a layer: its matrix or norm weight, and its bias."""

    weight: Any = None
    bias: Any = None


TOP_PARTS = (
    *("token_embd", "token_embd_norm", "position_embd", "output_norm", "output"),
    *("rope_freqs", "rope_factors_long", "rope_factors_short"),
)
LAYER_PARTS = (
    *("attn_norm", "attn_norm_2", "attn_q", "attn_k", "attn_v", "attn_q_norm", "attn_k_norm"),
    *("attn_q_a", "attn_q_a_norm", "attn_q_b", "attn_kv_a_mqa", "attn_kv_a_norm", "attn_kv_b"),
    *("attn_k_b", "attn_v_b", "attn_sinks", "attn_sub_norm", "attn_gate", "attn_output"),
    *("attn_output_norm", "post_attention_norm", "ffn_norm_exps"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_sub_norm", "ffn_down", "post_ffw_norm"),
    *("ffn_gate_inp", "exp_probs_b", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"),
    *("ffn_gate_inp_shexp", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"),
    *("ffn_act",),
)
FUSED = {  # one matrix for several: the rows of each, by their numbers in the config
    "attn_qkv": (("attn_q", "n_embd_q"), ("attn_k", "n_embd_k"), ("attn_v", "n_embd_v")),
    "ffn_up": (("ffn_gate", "n_ff"), ("ffn_up", "n_ff")),
    "ffn_gate_up_exps": (("ffn_gate_exps", "n_ff_exp"), ("ffn_up_exps", "n_ff_exp")),
}


@dataclass(frozen=True, eq=False)
class Weights:
    """All weights: a Part for each of TOP_PARTS, and in `blk[layer]` for each of LAYER_PARTS.

    What a model has not is Part(); `output` is token_embd where the file has none.
    """

    token_embd: Part
    token_embd_norm: Part
    position_embd: Part
    output_norm: Part
    output: Part
    rope_freqs: Part
    rope_factors_long: Part
    rope_factors_short: Part
    blk: tuple[SimpleNamespace, ...]

    def rope_divisors(self, n_ctx: int, n_ctx_orig: int) -> Any:
        """What angles are divided by, (n_rot/2,) float32 or None.

        n_ctx: positions of the cache; above n_ctx_orig the long factors count, as in llama.cpp.
        """
        if self.rope_freqs.weight is not None:
            return self.rope_freqs.weight
        factors = self.rope_factors_long if n_ctx > n_ctx_orig else self.rope_factors_short
        return factors.weight


def load_weights(
    gguf: Any,
    config: ModelConfig,
    architecture: Architecture,
    ops: Any,
    form: str = "packed",
    send: Callable[[np.ndarray], Any] | None = None,
) -> Weights:
    """Take the tensors of an open file that an architecture names.

    form: "packed" leaves matrices in the file's blocks (on the CPU nothing is read now); "float32"
    expands all of them once, which takes 4 bytes a weight. ops: of the device; send: brings the
    packed matrices there, perhaps later than it returns, by default `ops.asarray`.
    Raises: GGUFError for a tensor missing or of another shape than the config demands;
        UnsupportedError for a tensor the architecture does not know.
    """
    if form not in FORMS:
        raise ParameterError(
            f"weights: no such form; expected one of {', '.join(FORMS)}, got {form!r}"
        )
    _refuse_unknown(gguf, config, architecture)
    source = _Source(gguf, ops, form, ops.asarray if send is None else send)
    top = source.parts("", architecture.tensors, config)
    blk = []
    for layer in range(config.n_layer):
        own = config.of_layer(layer)
        parts = source.parts(f"blk.{layer}.", architecture.specs_of_layer(own.n_expert), own)
        _demand_latent_form(f"blk.{layer}.", parts, own)
        blk.append(SimpleNamespace(**dict.fromkeys(LAYER_PARTS, Part()) | _split(parts, own)))
    for name in ("rope_freqs", "rope_factors_long", "rope_factors_short"):
        if name in top:
            _demand_divisors(name, top[name].weight, ops)
    head = top.get("output", Part())
    if head.weight is None:
        top["output"] = top["token_embd"]._replace(bias=head.bias)
    return Weights(**dict.fromkeys(TOP_PARTS, Part()) | top, blk=tuple(blk))


def _split(parts: dict[str, Part], config: ModelConfig) -> dict[str, Part]:
    """The same with fused matrices as views of their rows, under the names of what they fuse."""
    for fused, pieces in FUSED.items():
        whole = parts.get(fused, Part())
        sizes = [getattr(config, size) for _, size in pieces]
        if whole.weight is None or whole.weight.shape[-2] != sum(sizes) or len(sizes) < 2:
            continue
        if fused == "ffn_up" and parts.get("ffn_gate", Part()).weight is not None:
            continue
        del parts[fused]
        start = 0
        for (name, _), size in zip(pieces, sizes, strict=True):
            own_bias = parts.get(name, Part()).bias
            bias = own_bias if whole.bias is None else whole.bias[..., start : start + size]
            parts[name] = Part(whole.weight.rows(start, start + size), bias)
            start += size
    if parts.get("layer_output_norm", Part()).weight is not None:  # grok's, by its other name
        parts["post_ffw_norm"] = parts["layer_output_norm"]
    return {name: part for name, part in parts.items() if name in LAYER_PARTS}


class _Source:
    """An open file being turned into parts."""

    def __init__(self, gguf: Any, ops: Any, form: str, send: Callable[[np.ndarray], Any]):
        self.gguf, self.ops, self.form, self.send = gguf, ops, form, send

    def parts(
        self, prefix: str, specs: tuple[TensorSpec, ...], config: ModelConfig
    ) -> dict[str, Part]:
        """Part name -> Part for all specs under a prefix such as "blk.3.", with that layer's
        numbers."""
        parts: dict[str, dict[str, Any]] = {}
        for spec in specs:
            part, _, field = spec.name.rpartition(".")
            part = part.replace(".", "_")  # ffn.act.scales
            field = "bias" if field == "bias" else "weight"
            parts.setdefault(part, {})[field] = self.tensor(prefix, spec, config)
        _refuse_lone_biases(prefix, parts)
        _refuse_half_networks(prefix, parts)
        return {part: Part(**fields) for part, fields in parts.items()}

    def tensor(self, prefix: str, spec: TensorSpec, config: ModelConfig) -> Any:
        """A matrix as PackedTensor, a vector or norm as float32, None where rightly absent."""
        name = prefix + spec.name
        info = self.gguf.tensors.get(name)
        replaced = spec.unless and f"{prefix}{spec.unless}.weight" in self.gguf.tensors
        if info is not None and replaced:
            raise UnsupportedError(
                f"{name}: stands beside {prefix}{spec.unless}.weight, which is there in its place; "
                "expected one of the two, got both; the file is damaged or was converted wrongly"
            )
        if info is None and (spec.optional or replaced):
            return None
        expected = tuple(getattr(config, number) for number in spec.shape)
        if info is None:
            raise GGUFError(_missing(name, spec, expected, self.gguf.tensors))
        if tuple(info.shape) != expected:
            raise GGUFError(
                f"{name}: wrong shape; expected {_named(spec, expected)}, got "
                f"{tuple(info.shape)}; the file is damaged or its metadata belongs to another model"
            )
        is_plain = len(expected) == 1 or spec.name.endswith((".bias", "_norm.weight"))
        if is_plain or self.form == "float32":
            packed = self.packed(name, info, expected, self.ops.asarray)
            return self.expanded(name, packed, is_plain)
        return self.packed(name, info, expected, self.send)

    def packed(
        self, name: str, info: Any, shape: tuple[int, ...], send: Callable[[np.ndarray], Any]
    ) -> PackedTensor:
        """The tensor's bytes on the device, on the CPU a view of the file; float32 as numbers."""
        raw = self.gguf.raw(name)
        if info.type == "F32":
            dtype = "<f4" if self.gguf.byte_order == "little" else ">f4"
            raw = np.require(raw.view(dtype).reshape(shape), np.float32, "A")
            return PackedTensor(send(raw), "F32", shape)
        return PackedTensor(send(raw), info.type, shape, self.gguf.byte_order)

    def expanded(self, name: str, packed: PackedTensor, is_plain: bool) -> Any:
        """The tensor as float32: a plain array, or a PackedTensor of type F32."""
        try:
            values = self.ops.expand(packed).reshape(packed.shape)
        except MemoryError:
            raise ParameterError(
                f"weights: {name} as float32 does not fit into memory; expected 'packed', got "
                f"'float32'; pass weights='packed'"
            ) from None
        return values if is_plain else PackedTensor(values, "F32", packed.shape)


def _refuse_lone_biases(prefix: str, parts: dict[str, dict[str, Any]]) -> None:
    """A bias goes with its matrix; only the head's may stand alone, where the embedding is it."""
    for part, fields in parts.items():
        if part != "output" and fields.get("weight", 0) is None and fields.get("bias") is not None:
            raise UnsupportedError(
                f"{prefix}{part}.bias: the matrix it belongs to is missing; expected "
                f"{prefix}{part}.weight beside it, got none; the file is incomplete"
            )


def _refuse_half_networks(prefix: str, parts: dict[str, dict[str, Any]]) -> None:
    """A feed-forward network that a file may leave out is there as a whole or not at all."""
    for kind in ("", "_shexp"):
        names = [
            f"ffn_{part}{kind}" for part in ("gate", "up", "down") if f"ffn_{part}{kind}" in parts
        ]
        missing = [name for name in names if parts[name].get("weight") is None]
        if missing and len(missing) < len(names):
            raise GGUFError(
                f"{prefix}{missing[0]}.weight: missing tensor; expected it beside "
                f"{', '.join(name for name in names if name not in missing)}, got none; the file "
                "is incomplete"
            )


def _demand_latent_form(prefix: str, parts: dict[str, Part], config: ModelConfig) -> None:
    """Latent attention has two forms; metadata and tensors must mean the same."""
    part = "attn_kv_b" if config.latent_is_absorbed else "attn_k_b"
    if parts.get(part, Part()).weight is not None:
        other = "attn_k_b and attn_v_b" if config.latent_is_absorbed else "attn_kv_b"
        raise GGUFError(
            f"{prefix}{part}.weight: not the form of latent attention that the metadata means; "
            f"expected {other}, got {part}; attention.key_length_mla goes with attn_k_b"
        )


def _demand_divisors(name: str, divisors: Any, ops: Any) -> None:
    """The angles of rope are divided by them."""
    if divisors is None:
        return
    bad = np.flatnonzero(~(np.isfinite(ops.to_numpy(divisors)) & (ops.to_numpy(divisors) != 0)))
    if bad.size:
        raise GGUFError(
            f"{name}.weight[{bad[0]}]: angles cannot be divided by it; expected finite numbers "
            f"other than 0, got {ops.to_numpy(divisors)[bad[0]]}; the file is damaged"
        )


def _named(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(f"{n} {s}" for n, s in zip(spec.shape, shape, strict=True)) + ")"


def _missing(name: str, spec: TensorSpec, shape: tuple[int, ...], tensors: Any) -> str:
    near = difflib.get_close_matches(name, list(tensors)[:2000], n=1)
    hint = f" (the nearest is {near[0]})" if near else ""
    return (
        f"{name}: missing tensor; expected one of shape {_named(spec, shape)}, got none{hint}; "
        "the file is incomplete or its metadata belongs to another model"
    )


def _refuse_unknown(gguf: Any, config: ModelConfig, architecture: Architecture) -> None:
    """A tensor nobody uses would mean numbers that are not the model's: refuse it."""
    ignored = {*_UNUSED, *architecture.ignored}
    top = {spec.name for spec in architecture.tensors} | ignored
    of_layers = [
        {spec.name for spec in architecture.specs_of_layer(config.of_layer(layer).n_expert)}
        for layer in range(config.n_layer)
    ]
    for name in gguf.tensors:
        match = _LAYER_NAME.fullmatch(name)
        layer = int(match[1]) if match else 0
        if match and config.n_layer <= layer < config.n_layer + config.n_layer_nextn:
            continue  # layers that guess tokens ahead: llama.cpp's plain graph leaves them out
        known = match and layer < config.n_layer and match[2] in of_layers[layer] | ignored
        if not known and name not in top:
            raise UnsupportedError(
                f"{name}: architecture {architecture.name!r} has no code for this tensor; expected "
                f"only tensors it uses ({config.n_layer} layers), got {name!r}; leaving it out "
                "would change the model's answers"
            )
