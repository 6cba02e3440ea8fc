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

from dataclasses import dataclass, field

__all__ = ["Architecture", "TensorSpec", "Window", "biased", "matrices", "norm", "optional"]


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
    rope: how windowed layers are rotated: "own" (base 10000 or the file's, unscaled), "same" (as
    the others unless the file has a base), or "plain" (the same base, unscaled). chunked: the
    window is not sliding but a fixed piece of the text
    """

    size: int = 0
    period: int = 0
    dense_first: bool = False
    rope: str = "same"
    chunked: bool = False


@dataclass(frozen=True)
class Architecture:
    """One model family.

    rope: which numbers are a pair, "norm" (neighbours) or "neox" (halves), or "none"
    rotates_whole_head: whether n_rot must be head_dim, as llama.cpp demands of some
    no_rope_period: every so many layers one is not rotated; rope_only_windowed: only layers with a
    window are rotated
    norm, activation: names of operations in `ops`
    pre_norm: whether attention reads the normed residual stream
    ffn_norm: the part that norms what the feed-forward network reads; ffn_reads: "residual" (after
    attention was added), "attn_norm" (what attention read) or "layer_input" (normed)
    norms_by_weight: a norm without weights in the file is none; else it only lacks them
    attn_post_norm, ffn_post_norm: parts that norm what is added to the stream; "": none
    qk_norm: operation for attn_q_norm and attn_k_norm; qk_norm_after_rope; qk_norm_bare: rotated
    layers have it without weights
    scales_queries: the attention scale multiplies the queries, not the scores
    attention_scale: 1/sqrt(head_dim) for "head_dim", by the file's key, if it has one, for "file"
    wide_scale_at: the number of layers of the one size that has 1/sqrt(n_embd/n_head) instead
    embedding_scale: a number, or "sqrt" for sqrt(n_embd); the file's counts first
    residual_scale, logit_scale: where the file has none; divides_logits: by logit_scale
    gating: how router scores become shares: "softmax", "sigmoid" or "softmax_weight" (of those
    chosen); norm_shares: chosen shares are made to sum to 1, unless the file says; weigh_first:
    shares multiply what experts read; select_by_logits: sigmoid only after the choice
    expert_activation: where it is another than `activation`
    reads_gating: a file's keys for gating, norm_shares and the scale of shares count
    n_ff_exp: the config's name for the length of experts where the file has no key for it
    window: layers that see only the latest positions, None: never
    defaults: numbers of the config where the file has no key
    tensors: of the whole model; layer_tensors: of each layer, without its feed-forward network
    dense_ffn, expert_ffn: its tensors without and with experts; expert_ffn () if never with
    expert_period: every so many layers the last one has experts
    """

    name: str
    tensors: tuple[TensorSpec, ...]
    layer_tensors: tuple[TensorSpec, ...]
    dense_ffn: tuple[TensorSpec, ...]
    expert_ffn: tuple[TensorSpec, ...] = ()
    rope: str = "norm"
    rotates_whole_head: bool = False
    no_rope_period: int = 0
    rope_only_windowed: bool = False
    norm: str = "rms_norm"
    activation: str = "swiglu"
    expert_activation: str = ""
    pre_norm: bool = True
    ffn_norm: str = "ffn_norm"
    ffn_reads: str = "residual"
    norms_by_weight: bool = True
    attn_post_norm: str = ""
    ffn_post_norm: str = ""
    qk_norm: str = "rms_norm"
    qk_norm_after_rope: bool = False
    qk_norm_bare: bool = False
    scales_queries: bool = False
    attention_scale: str = "head_dim"
    wide_scale_at: int = 0
    embedding_scale: float | str = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    divides_logits: bool = False
    gating: str = "softmax"
    reads_gating: bool = False
    norm_shares: bool = True
    weigh_first: bool = False
    select_by_logits: bool = False
    n_ff_exp: str = "n_ff"
    expert_period: int = 1
    window: Window | None = None
    residual_tap: str = "ffn_inp"
    defaults: dict[str, float] = field(default_factory=dict)

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
