"""The weights of a model: every tensor its architecture names, checked, still packed in the file.

    weights.token_embd.weight      weights.blk[3].attn_q.weight      weights.blk[3].attn_q.bias

are the tensors token_embd.weight, blk.3.attn_q.weight and blk.3.attn_q.bias: matrices are views of
the memory-mapped file, vectors (norms, biases) float32. What a file may leave out is None.
Source: llama.cpp src/llama-model-loader.cpp (`create_tensor`: missing, misshapen and unused ones).
Left out: reading the file (layer 1) and decoding (layer 2).
"""

import difflib
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..errors import GGUFError, ParameterError, UnsupportedError
from ..ops import PackedTensor
from .architectures import Architecture, TensorSpec
from .config import ModelConfig

__all__ = ["FORMS", "Part", "Weights", "load_weights"]

FORMS = ("packed", "float32")
_LAYER_NAME = re.compile(r"blk\.(0|[1-9][0-9]{0,9})\.(.+)")
_UNUSED = {"attn_rot_embd.weight"}  # old converters wrote these; llama.cpp ignores them too


class Part(NamedTuple):
    """One piece of a layer: its matrix or norm weight, and its bias."""

    weight: Any = None
    bias: Any = None


@dataclass(frozen=True, eq=False)
class Weights:
    """All weights; `blk[layer]` has one Part for each name of the architecture."""

    token_embd: Part
    output_norm: Part
    output: Part  # token_embd where the file has no output.weight
    rope_freqs: Part
    blk: tuple[SimpleNamespace, ...]


def load_weights(
    gguf: Any, config: ModelConfig, architecture: Architecture, ops: Any, form: str = "packed"
) -> Weights:
    """Take the tensors of an open file that an architecture names.

    form: "packed" leaves matrices in the file's blocks, nothing is read now; "float32" expands
    all of them once, which takes 4 bytes a weight. ops: of the device.
    Raises: GGUFError for a tensor missing or of another shape than the config demands;
        UnsupportedError for a tensor the architecture does not know.
    """
    if form not in FORMS:
        raise ParameterError(
            f"weights: no such form; expected one of {', '.join(FORMS)}, got {form!r}"
        )
    layer_specs = architecture.specs_of_layer(config.n_expert)
    _refuse_unknown(gguf, config, architecture, layer_specs)
    source = _Source(gguf, config, ops, form)
    top = source.parts("", architecture.tensors)
    blk = tuple(
        SimpleNamespace(**source.parts(f"blk.{layer}.", layer_specs))
        for layer in range(config.n_layer)
    )
    _demand_divisors(top["rope_freqs"].weight, ops)
    if top["output"].weight is None:
        top["output"] = top["token_embd"]
    return Weights(**top, blk=blk)


class _Source:
    """An open file being turned into parts."""

    def __init__(self, gguf: Any, config: ModelConfig, ops: Any, form: str):
        self.gguf, self.config, self.ops, self.form = gguf, config, ops, form

    def parts(self, prefix: str, specs: tuple[TensorSpec, ...]) -> dict[str, Part]:
        """Part name -> Part for all specs under a prefix such as "blk.3."."""
        parts: dict[str, dict[str, Any]] = {}
        for spec in specs:
            part, _, field = spec.name.rpartition(".")
            parts.setdefault(part, {})[field] = self.tensor(prefix + spec.name, spec)
        return {part: Part(**fields) for part, fields in parts.items()}

    def tensor(self, name: str, spec: TensorSpec) -> Any:
        """A matrix as PackedTensor, a vector as float32, None where optional and absent."""
        info = self.gguf.tensors.get(name)
        if info is None and spec.optional:
            return None
        expected = tuple(getattr(self.config, number) for number in spec.shape)
        if info is None:
            raise GGUFError(_missing(name, spec, expected, self.gguf.tensors))
        if tuple(info.shape) != expected:
            raise GGUFError(
                f"{name}: wrong shape; expected {_named(spec, expected)}, got "
                f"{tuple(info.shape)}; the file is damaged or its metadata belongs to another model"
            )
        packed = self.packed(name, info, expected)
        if len(expected) == 1 or self.form == "float32":
            return self.expanded(name, packed)
        return packed

    def packed(self, name: str, info: Any, shape: tuple[int, ...]) -> PackedTensor:
        """A view of the tensor in the file; float32 is ready for use."""
        raw = self.gguf.raw(name)
        if info.type == "F32":
            dtype = "<f4" if self.gguf.byte_order == "little" else ">f4"
            raw = np.require(raw.view(dtype).reshape(shape), np.float32, "A")
            return PackedTensor(self.ops.asarray(raw), "F32", shape)
        return PackedTensor(self.ops.asarray(raw), info.type, shape, self.gguf.byte_order)

    def expanded(self, name: str, packed: PackedTensor) -> Any:
        """The tensor as float32: a plain vector, or a PackedTensor of type F32."""
        try:
            values = self.ops.expand(packed).reshape(packed.shape)
        except MemoryError:
            raise ParameterError(
                f"weights: {name} as float32 does not fit into memory; expected 'packed', got "
                f"'float32'; pass weights='packed'"
            ) from None
        return values if len(packed.shape) == 1 else PackedTensor(values, "F32", packed.shape)


def _demand_divisors(divisors: Any, ops: Any) -> None:
    """The angles of rope are divided by them."""
    if divisors is None:
        return
    bad = np.flatnonzero(~(np.isfinite(ops.to_numpy(divisors)) & (ops.to_numpy(divisors) != 0)))
    if bad.size:
        raise GGUFError(
            f"rope_freqs.weight[{bad[0]}]: angles cannot be divided by it; expected finite numbers "
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


def _refuse_unknown(
    gguf: Any, config: ModelConfig, architecture: Architecture, specs: tuple[TensorSpec, ...]
) -> None:
    """A tensor nobody uses would mean numbers that are not the model's: refuse it."""
    top = {spec.name for spec in architecture.tensors}
    of_layer = {spec.name for spec in specs} | _UNUSED
    for name in gguf.tensors:
        match = _LAYER_NAME.fullmatch(name)
        known = match and int(match[1]) < config.n_layer and match[2] in of_layer
        if not known and name not in top:
            raise UnsupportedError(
                f"{name}: architecture {architecture.name!r} has no code for this tensor; expected "
                f"only tensors it uses ({config.n_layer} layers), got {name!r}; leaving it out "
                "would change the model's answers"
            )
