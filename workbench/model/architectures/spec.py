"""What differs between model families, as fields: an Architecture is data, the forward pass code.

    x = token_embd[ids] · embedding_scale (+ position_embd) (norm: token_embd_norm)
    for each layer:
        n  = attn_norm(x)                             pre_norm, attn_norm_2
        a  = attention(n)                             attn_post_norm
        x' = x + a · residual_scale
        h  = ffn_norm(x') | n | ffn_norm(x)           ffn_reads
        x  = x' + ffn(h) · residual_scale             ffn_post_norm
    logits = output · output_norm(x)                  logit_scale, soft cap

Operations are named as in `ops/cpu.py`. Numbers come from the file (model/config.py); what stands
here is what a file does not say.
Sources: llama.cpp src/models/*.cpp (`load_arch_hparams`, `load_arch_tensors`, graphs).
Left out: recurrent layers, encoders, several inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = [
    "Architecture",
    "Temperature",
    "TensorSpec",
    "Variant",
    "Window",
    "biased",
    "matrices",
    "norm",
    "optional",
]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that an architecture knows: its name and its shape as names of config numbers.

    name: without the "blk.N." in front where it belongs to a layer; shape: NumPy order; unless:
    the part that may stand in its place, such as "attn_qkv"
    """

    name: str
    shape: tuple[str, ...]
    optional: bool = False
    unless: str = ""


@dataclass(frozen=True)
class Window:
    """Which layers of an architecture see only the latest positions.

    size: positions, where the file does not say; 0: all, unless it does. period: of every so many
    layers the last one sees everything (dense_first: the first one), unless the file has a list.
    rope: how windowed layers are rotated: as the others for "same", "file" (unless the file has a
    base for them) or "plain" (but unscaled); "own": by base 10000 or the file's, unscaled.
    chunked: the window is not sliding but a fixed piece of the text; fixed: the file's size only
    switches the window off, by being 0; only_if_given: so does a file that has none
    """

    size: int = 0
    period: int = 0
    dense_first: bool = False
    rope: str = "same"
    chunked: bool = False
    fixed: bool = False
    only_if_given: bool = False


@dataclass(frozen=True)
class Temperature:
    """Queries that grow with their position p, by 1 + scale · ln(1 + floor((p + offset) / length)).

    scale: 0: the file's; length: in positions, 0: the file's key for it if length_key, else its
    context before scaling; unrotated: only in layers without rotation
    """

    scale: float = 0.0
    length: int = 0
    length_key: bool = False
    offset: int = 0
    unrotated: bool = False


@dataclass(frozen=True)
class Variant:
    """What differs in a model whose config has this number, by which llama.cpp tells sizes apart.

    number: "n_layer" or "n_expert"; changes: fields of the Architecture
    """

    number: str
    value: int
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """One model family.

    tensors: of the whole model; layer_tensors: of each layer, without its feed-forward network;
    dense_ffn, expert_ffn: its tensors without and with experts; expert_ffn () if never with;
    ignored: tensors that a file may hold for other uses than text
    variants: what differs at some sizes
    reads: numbers of the config that a file may set, of those that not all have; defaults: these
    where it has no key, perhaps computed from n_layer and n_embd

    norm, activation: names of operations in `ops`; norms_by_weight: a norm without weights in the
    file is none, else it only lacks them
    pre_norm: whether attention reads the normed residual stream
    ffn_norm: the part that norms what the feed-forward network reads; ffn_reads: "residual" (after
    attention was added), "attn_norm" (what attention read) or "layer_input" (normed)
    attn_post_norm, ffn_post_norm: parts that norm what is added to the stream; "": none
    residual_tap: llama.cpp's name of the stream after attention

    rope: which numbers are a pair, "norm" (neighbours) or "neox" (halves), or "none"
    rotates_whole_head: whether n_rot must be head_dim, as llama.cpp demands of some
    no_rope_period: of every so many layers the last is not rotated (no_rope_first: the first), but
    for fixed windows that are switched off; rope_only_windowed: if any layer has a window, the
    others are not rotated; rope_if_finetuned: a file's flag may turn rotation off
    rope_alpha: a file's key may stretch the base; yarn_keys: what a file may say about yarn
    window: layers that see only the latest positions, None: never
    temperature: queries that grow with their position, None: they do not
    qk_norm: operation for attn_q_norm and attn_k_norm; qk_norm_after_rope; qk_norm_bare: rotated
    layers have it without weights
    attention_scale: 1/sqrt(head_dim) for "head_dim", 1/sqrt(n_embd/n_head) for "n_embd", or
    "1/head_dim"; "file": by its key if it has one; "output_scale": by another; "mscale": with
    yarn's length squared; scales_queries: it multiplies the queries, not the scores
    embedding_scale: "sqrt" for sqrt(n_embd), else the file's or a default
    divides_logits: logit_scale does

    n_ff_divisor: of the file's n_ff
    n_ff_exp: length of an expert: "n_ff", or by the file's key, without which it is n_ff for "file"
    and a part of it for "n_ff_of_expert"; n_ff_shexp: of the shared one, where the file has no key:
    "n_ff", "n_ff_exp", none for ""; "n_ff_of_shared": all shared ones, by their number;
    "n_ff_of_each_shared": by their number and the key
    gating: how router scores become shares: "softmax", "sigmoid" or "softmax_weight" (of those
    chosen); norm_shares: chosen shares are made to sum to 1, unless the file says; weigh_first:
    shares multiply what experts read; select_by_logits: the choice is by scores, not by shares
    routes_layer_input: the router reads the layer's input; experts_norm: experts read it too,
    through this norm; beside_scale: of the sum with a dense network beside the experts
    """

    name: str
    tensors: tuple[TensorSpec, ...]
    layer_tensors: tuple[TensorSpec, ...]
    dense_ffn: tuple[TensorSpec, ...]
    expert_ffn: tuple[TensorSpec, ...] = ()
    ignored: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    reads: tuple[str, ...] = ()
    defaults: Mapping[str, float | Callable[..., float]] = field(default_factory=dict)
    norm: str = "rms_norm"
    norms_by_weight: bool = True
    activation: str = "swiglu"
    pre_norm: bool = True
    ffn_norm: str = "ffn_norm"
    ffn_reads: str = "residual"
    attn_post_norm: str = ""
    ffn_post_norm: str = ""
    residual_tap: str = "ffn_inp"
    rope: str = "norm"
    rotates_whole_head: bool = False
    no_rope_period: int = 0
    no_rope_first: bool = False
    rope_only_windowed: bool = False
    rope_if_finetuned: bool = False
    rope_alpha: bool = False
    yarn_keys: tuple[str, ...] = ()
    window: Window | None = None
    temperature: Temperature | None = None
    qk_norm: str = "rms_norm"
    qk_norm_after_rope: bool = False
    qk_norm_bare: bool = False
    attention_scale: str = "head_dim"
    scales_queries: bool = False
    embedding_scale: str = ""
    divides_logits: bool = False
    n_ff_divisor: int = 1
    n_ff_exp: str = "file"
    n_ff_shexp: str = ""
    gating: str = "softmax"
    norm_shares: bool = True
    weigh_first: bool = False
    select_by_logits: bool = False
    routes_layer_input: bool = False
    experts_norm: str = ""
    beside_scale: float = 1.0

    def of_size(self, n_layer: int, n_expert: int) -> "Architecture":
        """The same with what differs at these sizes."""
        sizes, changed = {"n_layer": n_layer, "n_expert": n_expert}, self
        for variant in self.variants:
            if sizes[variant.number] == variant.value:
                changed = replace(changed, **variant.changes)
        return changed

    def specs_of_layer(self, n_expert: int) -> tuple[TensorSpec, ...]:
        """All tensors that a layer with `n_expert` experts (0: dense) may have."""
        return self.layer_tensors + (self.expert_ffn if n_expert else self.dense_ffn)


def biased(*specs: TensorSpec, required: bool = False) -> tuple[TensorSpec, ...]:
    """Each matrix and its bias (one number for each of its rows)."""
    return tuple(
        part
        for spec in specs
        for part in (
            spec,
            TensorSpec(
                spec.name.replace(".weight", ".bias"), spec.shape[:-1], not required, spec.unless
            ),
        )
    )


def matrices(**shapes: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """Tensors by part name: attn_q=("n_embd_q", "n_embd") is attn_q.weight."""
    return tuple(TensorSpec(f"{part}.weight", shape) for part, shape in shapes.items())


def norm(part: str, *shape: str, bias: bool = False) -> tuple[TensorSpec, ...]:
    """The weight of a norm over n_embd (or another shape), and its bias."""
    spec = TensorSpec(f"{part}.weight", shape or ("n_embd",))
    return (spec, TensorSpec(f"{part}.bias", spec.shape)) if bias else (spec,)


def optional(*specs: TensorSpec) -> tuple[TensorSpec, ...]:
    """The same tensors, which a file may leave out."""
    return tuple(TensorSpec(spec.name, spec.shape, True, spec.unless) for spec in specs)
