"""Which type llama-quantize gives each tensor of a model: the mixes behind Q4_K_M and its kin.

A file type is a default type and rules for the roles that suffer more from it. Q4_K_M is

    Q4_K           for all matrices but these:
    Q6_K           output.weight, or token_embd.weight where there is no other output
    Q6_K           attn_v and ffn_down of the first and last eighth of the layers, and of every
                   third layer between
    as it is       norms, biases, routers of experts, other small tensors
    Q5_0, Q8_0     instead of Q4_K, Q6_K where a row does not fill blocks of 256; F16 where it
                   does not fill blocks of 32 either

Source: llama.cpp src/llama-quant.cpp (`tensor_allows_quantization`, `llama_tensor_get_type_impl`,
`tensor_type_fallback`), src/llama-model-loader.h (order of tensors); the models counted as 70B
were found by asking llama_model_quantize for every architecture.
Left out: pruning layers, and types chosen for a wanted size.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParameterError
from ..gguf.types import GGML_TYPES
from .convert import codec_of
from .mix_rules import MixModel, Place, layer_of, type_in_mix

__all__ = ["FILE_TYPES", "Choice", "FileType", "choose_types", "find_file_type", "role_in_mix"]


@dataclass(frozen=True)
class FileType:
    """What a model file can be quantized to: its name, its number in general.file_type, and the
    type of all tensors for which the mix has no rule."""

    name: str
    id: int
    type: str


FILE_TYPES: Mapping[str, FileType] = MappingProxyType(
    {
        name: FileType(name, id, type_)
        for name, id, type_ in (
            ("F32", 0, "F32"),
            ("F16", 1, "F16"),
            ("BF16", 32, "BF16"),
            ("Q4_0", 2, "Q4_0"),
            ("Q4_1", 3, "Q4_1"),
            ("Q5_0", 8, "Q5_0"),
            ("Q5_1", 9, "Q5_1"),
            ("Q8_0", 7, "Q8_0"),
            ("Q2_K", 10, "Q2_K"),
            ("Q2_K_S", 21, "Q2_K"),
            ("Q3_K_S", 11, "Q3_K"),
            ("Q3_K_M", 12, "Q3_K"),
            ("Q3_K_L", 13, "Q3_K"),
            ("Q4_K_S", 14, "Q4_K"),
            ("Q4_K_M", 15, "Q4_K"),
            ("Q5_K_S", 16, "Q5_K"),
            ("Q5_K_M", 17, "Q5_K"),
            ("Q6_K", 18, "Q6_K"),
            ("IQ1_S", 24, "IQ1_S"),
            ("IQ1_M", 31, "IQ1_M"),
            ("IQ2_XXS", 19, "IQ2_XXS"),
            ("IQ2_XS", 20, "IQ2_XS"),
            ("IQ2_S", 28, "IQ2_XS"),
            ("IQ2_M", 29, "IQ2_S"),
            ("IQ3_XXS", 23, "IQ3_XXS"),
            ("IQ3_XS", 22, "IQ3_S"),
            ("IQ3_S", 26, "IQ3_S"),
            ("IQ3_M", 27, "IQ3_S"),
            ("IQ4_NL", 25, "IQ4_NL"),
            ("IQ4_XS", 30, "IQ4_XS"),
            ("TQ1_0", 36, "TQ1_0"),
            ("TQ2_0", 37, "TQ2_0"),
            ("MXFP4_MOE", 38, "MXFP4"),
            ("Q1_0", 40, "Q1_0"),
            ("Q2_0", 41, "Q2_0"),
        )
    }
)
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_FLOATS = ("F32", "F16", "BF16")

# A name with one of these stays as it is: small, read by position, or harmful to round.
_KEPT = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel"),
    *("per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight"),
    *("indexer.q_proj.weight", "time_mix_first.weight", "attn_rel_b.weight", ".position_embd"),
    *(f"time_mix_{part}.weight" for part in ("w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1")),
    *(f"time_mix_{part}.weight" for part in ("a2", "g1", "g2", "decay_w1", "decay_w2")),
    *("time_mix_lerp_fused.weight", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos"),
    *(".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
)
_KEPT_WHOLE = ("position_embd.weight", "token_types.weight")

_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_ROLES = (  # the first that a name contains
    *(("attn_qkv.weight", "attn_v"), ("attn_kv_b.weight", "attn_v"), ("attn_v.weight", "attn_v")),
    *(("attn_k.weight", "attn_k"), ("attn_q.weight", "attn_q")),
    *(("attn_output.weight", "attn_output"), ("ffn_up", "ffn_up"), ("ffn_gate", "ffn_gate")),
    ("ffn_down", "ffn_down"),
)
_FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    **{"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
    **dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4"), "F16"),
}
_NEEDS_IMATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")


@dataclass(frozen=True)
class Choice:
    """The type a tensor gets, and why.

    why: "kept" (never quantized), "default" (of the file type), "mix" (a rule of the mix),
        "asked" (by the caller), or "fallback" (the row does not fill blocks of `wanted`).
    needs_imatrix: llama-quantize refuses this type here without importances.
    """

    name: str
    type: str
    wanted: str
    why: str
    needs_imatrix: bool = False


def find_file_type(name: str) -> FileType:
    """The file type of a name such as "Q4_K_M" ("Q4_K" means the same), in any letter case.

    Raises: ParameterError listing the names.
    """
    upper = name.upper() if isinstance(name, str) else ""
    if upper in _ALIASES or upper in FILE_TYPES:
        return FILE_TYPES[_ALIASES.get(upper, upper)]
    near = difflib.get_close_matches(upper, FILE_TYPES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "choose one of those"
    raise ParameterError(
        f"file type: no such name; expected one of {', '.join(FILE_TYPES)}, got {name!r}; {hint}"
    )


def choose_types(
    tensors: Mapping[str, Any],
    metadata: Mapping[str, Any],
    file_type: FileType,
    *,
    pure: bool = False,
    tensor_types: Sequence[tuple[str, str]] = (),
    output_type: str | None = None,
    token_embd_type: str | None = None,
    has_imatrix: bool = False,
) -> tuple[Choice, ...]:
    """The types of all tensors, in the order in which llama-quantize writes them.

    tensors: name -> with `shape` (NumPy order) and `type`; metadata: of their file.
    pure: the default type everywhere, no mix. tensor_types: (regular expression, type) pairs, of
        which the first found in a name decides. output_type, token_embd_type: of these matrices.
    has_imatrix: whether importances will be there; some mixes then take smaller types.

    Returns: one Choice a tensor. Raises: ParameterError for an expression that matches nothing,
    a type name that does not exist, or a row without a type that fits; GGUFError for metadata
    without the numbers that the mixes need.
    Source: llama.cpp src/llama-quant.cpp, `llama_tensor_get_type`.
    """
    patterns = _compiled(tensor_types, tensors, file_type)
    ends = {"output": output_type, "token_embd": token_embd_type}
    ends = {role: codec_of(type_).name for role, type_ in ends.items() if type_ is not None}
    model = MixModel.from_metadata(metadata)
    n_attn_v = sum(role_in_mix(name) == "attn_v" for name in tensors)
    tied, seen = "output.weight" not in tensors, Counter()
    choices = []
    for name in sorted(tensors, key=_order):
        info, role = tensors[name], role_in_mix(name)
        if not _is_quantized(name, info.shape):
            choices.append(Choice(name, info.type, info.type, "kept"))
            continue
        if role in ends:
            wanted, why = ends[role], "asked"
        elif file_type.type in _FLOATS:
            wanted, why = file_type.type, "default"
        elif asked := next((type_ for find, type_ in patterns if find(name)), None):
            wanted, why = asked, "asked"
        elif pure:
            wanted, why = file_type.type, "default"
        else:
            layer = layer_of(name, role, seen[role], file_type.name, model)
            n_layer = n_attn_v if role == "attn_v" else model.n_layer
            shared = (file_type.name, file_type.type, model, has_imatrix, tied)
            wanted = type_in_mix(Place(*shared, role, layer, n_layer, tuple(info.shape)))
            why = "default" if wanted == file_type.type else "mix"
            seen[role] += 1
        choices.append(_fitted(name, info.shape, wanted, why, file_type.name))
    return tuple(choices)


def role_in_mix(name: str) -> str:
    """What the mixes call a tensor: "attn_v" also for fused attn_qkv, "other" for most."""
    if name == "output.weight":
        return "output"
    if name in _EMBEDDINGS:
        return "token_embd"
    return next((role for part, role in _ROLES if part in name), "other")


def _order(name: str) -> tuple[int, bytes]:
    """llama.cpp's order of tensors: what lies outside of layers, then layer by layer, by name."""
    layer = re.match(r"blk\.(\d+)\.", name)
    return int(layer[1]) if layer else -1, name.encode("utf-8", "surrogatepass")


def _is_quantized(name: str, shape: Sequence[int]) -> bool:
    """Whether llama-quantize touches a tensor at all: matrices of weights, with exceptions."""
    is_matrix = len(shape) > 1 and any(n > 1 for n in shape[:-1])
    return (
        is_matrix
        and name.endswith("weight")
        and name not in _KEPT_WHOLE
        and not any(part in name for part in _KEPT)
    )


def _fitted(name: str, shape: Sequence[int], wanted: str, why: str, mix: str) -> Choice:
    """The wanted type where the rows fill its blocks, else the next one that fits."""
    type_ = wanted
    while shape[-1] % GGML_TYPES[type_].block_size:
        if type_ not in _FALLBACKS:
            raise ParameterError(
                f"{name}: rows of {shape[-1]} weights cannot be {type_}; expected a multiple of "
                f"{GGML_TYPES[type_].block_size}, got {shape[-1]}, and llama-quantize has no "
                "replacement for it; choose another type for this tensor"
            )
        type_ = _FALLBACKS[type_]
    ends = role_in_mix(name) in ("output", "token_embd")
    needs = type_ in _NEEDS_IMATRIX or (mix == "Q2_K_S" and type_ == "Q2_K")
    return Choice(name, type_, wanted, why if type_ == wanted else "fallback", needs and not ends)


def _compiled(
    tensor_types: Sequence[tuple[str, str]], tensors: Mapping[str, Any], file_type: FileType
) -> list[tuple[Any, str]]:
    """(search function, type) pairs of expressions that each match something."""
    if tensor_types and file_type.type in _FLOATS:
        raise ParameterError(
            f"tensor types: llama-quantize ignores them for {file_type.name}; expected a "
            f"quantized file type, got {file_type.name}; take Q8_0 with '.=F16' for the others"
        )
    compiled = []
    for pair in tensor_types:
        if isinstance(pair, str) or len(pair) != 2:
            raise ParameterError(
                f"tensor types: no pair; expected (expression, type) such as ('ffn_down', 'Q8_0'), "
                f"got {pair!r}"
            )
        pattern, type_ = pair
        try:
            find = re.compile(pattern).search
        except (re.error, TypeError) as error:
            raise ParameterError(
                f"tensor type {pattern!r}: no regular expression ({error}); expected one that is "
                f"found in tensor names, such as 'ffn_down', got {pattern!r}"
            ) from None
        found = [name for name in tensors if find(name)]
        if not any(_is_quantized(name, tensors[name].shape) for name in found):
            what = f"only {found[0]}, which is never quantized" if found else "no tensor"
            near = difflib.get_close_matches(str(pattern), tensors, n=1, cutoff=0.4)
            raise ParameterError(
                f"tensor type {pattern!r}: matches {what}; expected an expression found in the "
                f"name of a matrix, such as {near[0] if near else 'ffn_down'!r}, got {pattern!r}"
            )
        compiled.append((find, codec_of(type_).name))
    return compiled
