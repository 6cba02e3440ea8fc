"""What differs between model families, as data: tensors with their shapes, and named operations.

A new architecture is one more entry of ARCHITECTURES and a test against llama.cpp's logits; the one
forward pass in `transformer.py` reads the entry. Operations are named as in `ops/cpu.py`.
Sources: llama.cpp src/models/llama.cpp and qwen2.cpp (tensors and graph), src/llama-model.cpp
(`llama_model_rope_type`).
Left out: families whose parts (other norms, windows, fused matrices …) the forward pass lacks.
"""

from dataclasses import dataclass, replace

from ..errors import UnsupportedError

__all__ = ["ARCHITECTURES", "Architecture", "TensorSpec", "find_architecture"]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that an architecture knows: its name and its shape as names of config numbers.

    name: without the "blk.N." in front where it belongs to a layer; shape: NumPy order
    """

    name: str
    shape: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Architecture:
    """One model family.

    rope: which numbers are a pair, "norm" (neighbours) or "neox" (halves); rotates_whole_head:
    whether n_rot must be head_dim, as llama.cpp demands of some
    norm, activation: names of operations in `ops`
    tensors: of the whole model; layer_tensors: of each layer, without its feed-forward network
    dense_ffn, expert_ffn: its tensors without and with experts; expert_ffn () if never with
    """

    name: str
    rope: str
    norm: str
    activation: str
    tensors: tuple[TensorSpec, ...]
    layer_tensors: tuple[TensorSpec, ...]
    dense_ffn: tuple[TensorSpec, ...]
    expert_ffn: tuple[TensorSpec, ...] = ()
    rotates_whole_head: bool = False

    def specs_of_layer(self, n_expert: int) -> tuple[TensorSpec, ...]:
        """All tensors that a layer of a model with `n_expert` experts (0: dense) may have."""
        return self.layer_tensors + (self.expert_ffn if n_expert else self.dense_ffn)


_LLAMA = Architecture(
    name="llama",
    rope="norm",
    rotates_whole_head=True,
    norm="rms_norm",
    activation="swiglu",
    tensors=(
        TensorSpec("token_embd.weight", ("n_vocab", "n_embd")),
        TensorSpec("output_norm.weight", ("n_embd",)),
        TensorSpec("output.weight", ("n_vocab", "n_embd"), optional=True),  # else token_embd.weight
        TensorSpec("rope_freqs.weight", ("n_rot_pairs",), optional=True),
    ),
    layer_tensors=(
        TensorSpec("attn_norm.weight", ("n_embd",)),
        TensorSpec("attn_q.weight", ("n_embd_q", "n_embd")),
        TensorSpec("attn_q.bias", ("n_embd_q",), optional=True),
        TensorSpec("attn_k.weight", ("n_embd_k", "n_embd")),
        TensorSpec("attn_k.bias", ("n_embd_k",), optional=True),
        TensorSpec("attn_v.weight", ("n_embd_v", "n_embd")),
        TensorSpec("attn_v.bias", ("n_embd_v",), optional=True),
        TensorSpec("attn_output.weight", ("n_embd", "n_embd_heads")),
        TensorSpec("attn_output.bias", ("n_embd",), optional=True),
        TensorSpec("ffn_norm.weight", ("n_embd",)),
    ),
    dense_ffn=(
        TensorSpec("ffn_gate.weight", ("n_ff", "n_embd")),
        TensorSpec("ffn_gate.bias", ("n_ff",), optional=True),
        TensorSpec("ffn_up.weight", ("n_ff", "n_embd")),
        TensorSpec("ffn_up.bias", ("n_ff",), optional=True),
        TensorSpec("ffn_down.weight", ("n_embd", "n_ff")),
        TensorSpec("ffn_down.bias", ("n_embd",), optional=True),
    ),
    expert_ffn=(
        TensorSpec("ffn_gate_inp.weight", ("n_expert", "n_embd")),
        TensorSpec("ffn_gate_exps.weight", ("n_expert", "n_ff", "n_embd")),
        TensorSpec("ffn_up_exps.weight", ("n_expert", "n_ff", "n_embd")),
        TensorSpec("ffn_down_exps.weight", ("n_expert", "n_embd", "n_ff")),
    ),
)

# qwen2 is llama with its rope pairs in halves; the biases of q, k and v are there.
_QWEN2 = replace(_LLAMA, name="qwen2", rope="neox", rotates_whole_head=False, expert_ffn=())

ARCHITECTURES = {entry.name: entry for entry in (_LLAMA, _QWEN2)}


def find_architecture(name: str) -> Architecture:
    """The entry of an architecture by its GGUF name.

    Raises: UnsupportedError naming what is supported.
    """
    if name not in ARCHITECTURES:
        raise UnsupportedError(
            f"general.architecture: no code for {name!r}; expected one of "
            f"{', '.join(sorted(ARCHITECTURES))}, got {name!r}; its metadata, tensors and "
            "tokenizer can still be read through open_gguf"
        )
    return ARCHITECTURES[name]
