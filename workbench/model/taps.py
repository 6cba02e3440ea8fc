"""The names of all activations of a model and their shapes: llama.cpp's graph, as data.

    token ─ inp_embd (inp_scaled, inp_norm, inpL) ─► layer 0 … L-1 ─► result_norm ─► result_output

    layer   attn_norm ─► Qcur Kcur Vcur ─► kq ─► kq_soft_max ─► kqv_out ─► attn_out
            ffn_inp ─► ffn_norm ─► ffn_up ffn_gate ─► ffn_swiglu ─► ffn_out ─► l_out
       or              ffn_norm ─► ffn_moe_logits … ffn_moe_weights_norm ─► ffn_moe_out ─► l_out

Names of a layer carry its number: "l_out-3". Qcur and Kcur are those that attention uses, rotated,
before a scale that llama.cpp may put on the queries. Where llama.cpp names a step only in some
architectures (attn_out, ffn_inp, ffn_shexp, ffn_post_norm …), it has its name in all of them here;
ffn_gate is there where a file fuses it with ffn_up. With "_b" or "_biased": after the bias.
Source: the `cb` calls in llama.cpp src/models/*.cpp and src/llama-graph.cpp.
Left out: copying and changing the activations, which `trace.py` and `edits.py` do.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ParameterError
from .attention_part import has_head_norm
from .ffn_part import activation_tap, ffn_norm_tap

__all__ = ["Tap", "find_taps", "matching", "tap_names", "taps_of"]

SCORES = ("kq", "kq_soft_max")  # (H, T, S): their tokens are the second axis
ROUTING = "ffn_moe_topk"  # expert ids, integers


@dataclass(frozen=True)
class Tap:
    """One activation of a model.

    name: with its layer; shape: of a token, without the axis T; is_scores: (H, T, S) instead,
    shape then (H,); of_last: whether only the last token has it when only its logits are wanted
    """

    name: str
    shape: tuple[int, ...]
    is_scores: bool = False
    of_last: bool = False

    @property
    def stem(self) -> str:
        """The name without its layer."""
        return self.name.split("-")[0]

    @property
    def token_axis(self) -> int:
        """The axis of the tokens."""
        return 1 if self.is_scores else 0

    def n_elements(self, n_rows: int, n_seen: int) -> int:
        """Numbers for n_rows tokens that see n_seen positions."""
        count = n_rows * (n_seen if self.is_scores else 1)
        for length in self.shape:
            count *= length
        return count


# stem -> sizes of a token's part by their names in the config
_FIRST_TAPS = dict.fromkeys(("inp_embd", "inp_scaled", "inp_norm", "inpL"), ("n_embd",))
_LAST_TAPS = {"result_norm": ("n_embd",), "result_output": ("n_vocab",)}
_ACTIVATIONS = "swiglu geglu reglu swiglu_oai gelu sqr(relu) relu silu xielu".split()
_LAYER_TAPS = {
    **dict.fromkeys(("attn_norm", "attn_norm_2"), ("n_embd",)),
    **dict.fromkeys(("Qcur_normed", "Qcur"), ("n_head", "head_dim")),
    **dict.fromkeys(("Kcur_normed", "Kcur"), ("n_head_kv", "head_dim")),
    "Vcur": ("n_head_kv", "head_dim_v"),
    **dict.fromkeys(SCORES, ("n_head",)),
    **dict.fromkeys(("kqv_out", "attn_gated", "attn_sub_norm"), ("n_embd_heads",)),
    **dict.fromkeys(("attn_out", "attn_post_norm", "ffn_inp", "sa_out"), ("n_embd",)),
    **dict.fromkeys(("ffn_norm", "attn_out_norm", "ffn_norm_exps"), ("n_embd",)),
    **{f"ffn_moe_{name}": ("n_expert",) for name in ("logits", "logits_biased", "probs")},
    ROUTING: ("n_expert_used",),
    **{
        f"ffn_moe_weights{kind}": ("n_expert_used",)
        for kind in ("", "_softmax", "_norm", "_scaled")
    },
    **dict.fromkeys(("ffn_moe_out", "ffn_shexp", "ffn_shexp_out"), ("n_embd",)),
    **dict.fromkeys(("ffn_up", "ffn_up_b", "ffn_gate", "ffn_gate_b"), ("n_ff",)),
    **{f"ffn_{name}": ("n_ff",) for name in (*_ACTIVATIONS, "act", "sub_norm")},
    **dict.fromkeys(("ffn_out", "ffn_post_norm", "l_out"), ("n_embd",)),
}
_LAYERS_TRIED = 512  # of a pattern before a model is known; no model has more layers


def taps_of(network: Any) -> dict[str, Tap]:
    """All activations of a model by name, in the order of its graph.

    network: what the forward pass needs of the model, or the Model.
    """
    network = getattr(network, "network", network)
    config = network.config
    taps = [_tap(config, stem, _FIRST_TAPS[stem]) for stem in _first_stems(network)]
    for layer in range(config.n_layer):
        own, stems = _own_numbers(network, layer), layer_stems(network, layer)
        taps += [_tap(own, f"{stem}-{layer}", _LAYER_TAPS[stem]) for stem in stems]
    taps += [_tap(config, stem, sizes, of_last=True) for stem, sizes in _LAST_TAPS.items()]
    return {tap.name: tap for tap in taps}


def _first_stems(network: Any) -> list[str]:
    weights, scaled = network.weights, network.config.embedding_scale != 1
    there = (True, scaled, *(p.weight is not None for p in _embedding_parts(weights)))
    return [stem for stem, is_there in zip(_FIRST_TAPS, there, strict=True) if is_there]


def _embedding_parts(weights: Any) -> tuple[Any, Any]:
    return weights.token_embd_norm, weights.position_embd


def layer_stems(network: Any, layer: int) -> list[str]:
    """Names of the activations that one layer has, in the order of its graph."""
    config, architecture = network.config.of_layer(layer), network.architecture
    weights = network.weights.blk[layer]
    ffn_norm = ffn_norm_tap(network, weights)
    steps = {
        "attn_norm": architecture.pre_norm,
        "attn_norm_2": _has(weights.attn_norm_2),
        "Qcur_normed": has_head_norm(architecture, config, weights.attn_q_norm),
        "Kcur_normed": has_head_norm(architecture, config, weights.attn_k_norm),
        **dict.fromkeys(("Qcur", "Kcur", "Vcur", *SCORES, "kqv_out"), True),
        "attn_gated": _has(weights.attn_gate),
        "attn_sub_norm": _has(weights.attn_sub_norm),
        "attn_out": True,
    }
    attention = [stem for stem, is_there in steps.items() if is_there]
    attention += ["attn_post_norm"] * bool(architecture.attn_post_norm)
    attention += [architecture.residual_tap, *([ffn_norm] if ffn_norm else [])]
    network_stems = _expert_stems if config.n_expert else _dense_stems
    ending = [*(["ffn_post_norm"] if architecture.ffn_post_norm else []), "l_out"]
    return attention + network_stems(architecture, config, weights) + ending


def _own_numbers(network: Any, layer: int) -> Any:
    """A layer's config, with the length of the dense network that it really has."""
    config, up = network.config.of_layer(layer), network.weights.blk[layer].ffn_up.weight
    return config if up is None else replace(config, n_ff=up.shape[0])


def _has(part: Any) -> bool:
    return part.weight is not None


def _dense_stems(architecture: Any, config: Any, weights: Any) -> list[str]:
    steps = {
        "ffn_up": True,
        "ffn_up_b": weights.ffn_up.bias is not None,
        "ffn_gate": _has(weights.ffn_gate),
        "ffn_gate_b": weights.ffn_gate.bias is not None,
        activation_tap(architecture.activation): True,
        "ffn_act": _has(weights.ffn_act),
        "ffn_sub_norm": _has(weights.ffn_sub_norm),
        "ffn_out": True,
    }
    return [stem for stem, is_there in steps.items() if is_there]


def _expert_stems(architecture: Any, config: Any, weights: Any) -> list[str]:
    shares = "ffn_moe_weights"
    steps = {
        architecture.experts_norm: bool(architecture.experts_norm),
        "ffn_moe_logits": True,
        "ffn_moe_logits_biased": weights.ffn_gate_inp.bias is not None,
        **dict.fromkeys(("ffn_moe_probs", ROUTING, shares), True),
        f"{shares}_softmax": config.expert_gating == "softmax_weight",
        f"{shares}_norm": config.normalizes_shares,
        f"{shares}_scaled": config.expert_weights_scale != 1,
        "ffn_moe_out": True,
        "ffn_shexp": _has(weights.ffn_up_shexp),
        "ffn_shexp_out": _has(weights.ffn_gate_inp_shexp),
        "ffn_out": _has(weights.ffn_up_shexp),
    }
    stems = [stem for stem, is_there in steps.items() if is_there]
    beside = _dense_stems(architecture, config, weights) if _has(weights.ffn_up) else []
    return stems + beside


def tap_names(network: Any) -> list[str]:
    """All names that can be traced in a model, in the order of its graph."""
    return list(taps_of(network))


def find_taps(pattern: str, taps: dict[str, Tap], network: Any) -> list[str]:
    """Names of a model's activations that a name or glob matches.

    Raises: ParameterError, with the nearest names, if there is none.
    """
    names = matching(pattern, taps)
    if not names:
        config = network.config
        model = f"this {config.architecture} model of {config.n_layer} layers"
        raise ParameterError(no_match(pattern, list(taps), model))
    return names


def demand_known(pattern: Any) -> None:
    """Raises: ParameterError for what matches no activation of any model."""
    if not isinstance(pattern, str) or not any(True for _ in _known(pattern)):
        raise ParameterError(no_match(pattern, list(_every_name(layers=1)), "any model"))


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a glob with * ? [ ] matches."""
    match = re.compile(fnmatch.translate(pattern)).match
    return [name for name in names if match(name)]


def advice(name: str, names: list[str]) -> str:
    """What may have been meant."""
    stems = list(dict.fromkeys(known.split("-")[0] for known in names))
    stem = re.split(r"[-*?\[]", name)[0]
    near = difflib.get_close_matches(name, names, n=3) or difflib.get_close_matches(stem, stems, 3)
    return f"did you mean {' or '.join(near)}?" if near else f"names are {', '.join(stems)}"


def no_match(pattern: Any, names: list[str], model: str) -> str:
    """The sentence for a pattern that matches nothing."""
    return (
        f"trace: {pattern!r} matches no activation of {model}; expected a name or glob such as "
        f"'l_out-*', got {pattern!r}; {advice(str(pattern), names)}"
    )


def _tap(config: Any, name: str, sizes: tuple[str, ...], of_last: bool = False) -> Tap:
    shape = tuple(getattr(config, size) for size in sizes)
    return Tap(name, shape, name.split("-")[0] in SCORES, of_last)


def _every_name(layers: int) -> Iterator[str]:
    """Names of all kinds of models, for so many layers."""
    yield from (*_FIRST_TAPS, *_LAST_TAPS)
    for layer in range(layers):
        for name in _LAYER_TAPS:
            yield f"{name}-{layer}"


def _known(pattern: str) -> Iterator[str]:
    match = re.compile(fnmatch.translate(pattern)).match
    return (name for name in _every_name(_LAYERS_TRIED) if match(name))
