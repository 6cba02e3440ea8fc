"""The names of all activations of a model and their shapes: llama.cpp's graph, as data.

    token ─ inp_embd ─► layer 0 … L-1 ─► result_norm ─► result_output

    layer   attn_norm ─► Qcur Kcur Vcur ─► kq ─► kq_soft_max ─► kqv_out ─► attn_out
            ffn_inp ─► ffn_norm ─► ffn_gate ffn_up ─► ffn_swiglu ─► ffn_out ─► l_out
       or              ffn_norm ─► ffn_moe_logits … ffn_moe_weights_norm ─► ffn_moe_out ─► l_out

Names of a layer carry its number: "l_out-3". Qcur and Kcur are those that attention uses, rotated.
Source: the `cb` calls in llama.cpp src/models/*.cpp and src/llama-graph.cpp.
Left out: copying and changing the activations, which `trace.py` and `edits.py` do.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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


# stem -> sizes of a token's part by their names in the config, in the order of the graph
_FIRST_TAPS = dict.fromkeys(("inp_embd", "inp_scaled", "inp_norm", "inpL"), ("n_embd",))
_LAST_TAPS = {"result_norm": ("n_embd",), "result_output": ("n_vocab",)}
_LAYER_TAPS = {
    "attn_norm": ("n_embd",),
    "attn_norm_2": ("n_embd",),
    "Qcur_normed": ("n_head", "head_dim"),
    "Kcur_normed": ("n_head_kv", "head_dim"),
    "Qcur": ("n_head", "head_dim"),
    "Kcur": ("n_head_kv", "head_dim"),
    "Vcur": ("n_head_kv", "head_dim_v"),
    "kq": ("n_head",),
    "kq_soft_max": ("n_head",),
    "kqv_out": ("n_embd_heads",),
    "attn_sub_norm": ("n_embd_heads",),
    "attn_out": ("n_embd",),
    "attn_post_norm": ("n_embd",),
    "ffn_inp": ("n_embd",),
    "sa_out": ("n_embd",),
    "ffn_norm": ("n_embd",),
    "ffn_up": ("n_ff",),
    "ffn_gate": ("n_ff",),
    **{
        f"ffn_{name}": ("n_ff",)
        for name in ("swiglu", "geglu", "swiglu_oai", "gelu", "sqr(relu)", "relu", "silu")
    },
    "ffn_sub_norm": ("n_ff",),
    "ffn_moe_logits": ("n_expert",),
    "ffn_moe_probs": ("n_expert",),
    "ffn_moe_topk": ("n_expert_used",),
    "ffn_moe_weights": ("n_expert_used",),
    "ffn_moe_weights_softmax": ("n_expert_used",),
    "ffn_moe_weights_norm": ("n_expert_used",),
    "ffn_moe_weights_scaled": ("n_expert_used",),
    "ffn_moe_out": ("n_embd",),
    "ffn_shexp": ("n_embd",),
    "ffn_out": ("n_embd",),
    "ffn_post_norm": ("n_embd",),
    "l_out": ("n_embd",),
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
        own, stems = config.of_layer(layer), layer_stems(network, layer)
        taps += [
            _tap(own, f"{stem}-{layer}", sizes)
            for stem, sizes in _LAYER_TAPS.items()
            if stem in stems
        ]
    taps += [_tap(config, stem, sizes, of_last=True) for stem, sizes in _LAST_TAPS.items()]
    return {tap.name: tap for tap in taps}


def _first_stems(network: Any) -> list[str]:
    weights, scaled = network.weights, network.config.embedding_scale != 1
    there = (True, scaled, *(p.weight is not None for p in _embedding_parts(weights)))
    return [stem for stem, is_there in zip(_FIRST_TAPS, there, strict=True) if is_there]


def _embedding_parts(weights: Any) -> tuple[Any, Any]:
    return weights.token_embd_norm, weights.position_embd


def layer_stems(network: Any, layer: int) -> set[str]:
    """Names of the activations that one layer has."""
    config, architecture = network.config.of_layer(layer), network.architecture
    weights = network.weights.blk[layer]
    stems = set("Qcur Kcur Vcur kq kq_soft_max kqv_out attn_out l_out".split())
    stems.add(architecture.residual_tap)
    by_condition = {
        "attn_norm": architecture.pre_norm,
        "attn_norm_2": weights.attn_norm_2.weight is not None,
        "Qcur_normed": has_head_norm(architecture, config, weights.attn_q_norm),
        "Kcur_normed": has_head_norm(architecture, config, weights.attn_k_norm),
        "attn_sub_norm": weights.attn_sub_norm.weight is not None,
        "ffn_post_norm": bool(architecture.ffn_post_norm),
        "attn_post_norm": bool(architecture.attn_post_norm),
    }
    tap = ffn_norm_tap(network, weights)
    if tap:
        by_condition[tap] = True
    stems |= {stem for stem, is_there in by_condition.items() if is_there}
    return stems | (_expert_stems if config.n_expert else _dense_stems)(network, config, weights)


def _dense_stems(network: Any, config: Any, weights: Any) -> set[str]:
    stems = {"ffn_up", "ffn_out", activation_tap(network.architecture.activation)}
    if weights.ffn_gate.weight is not None:
        stems.add("ffn_gate")
    if weights.ffn_sub_norm.weight is not None:
        stems.add("ffn_sub_norm")
    return stems


def _expert_stems(network: Any, config: Any, weights: Any) -> set[str]:
    stems = {f"ffn_moe_{name}" for name in ("logits", "probs", "topk", "weights", "out")}
    if config.expert_gating == "softmax_weight":
        stems.add("ffn_moe_weights_softmax")
    if config.normalizes_shares:
        stems.add("ffn_moe_weights_norm")
    if config.expert_weights_scale != 1:
        stems.add("ffn_moe_weights_scaled")
    if weights.ffn_up_shexp.weight is not None:
        stems |= {"ffn_shexp", "ffn_out"}
    return stems


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
