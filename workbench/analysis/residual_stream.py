"""The residual stream: what every layer's attention and feed-forward network add to it.

    x0 ──┬─────────────── + ── ffn_inp ──┬────────── + ── l_out ──► next layer
         └─ attention ────┘              └─ network ─┘

What was added is the difference of the stream after and before, so it holds whatever norms and
scales an architecture puts behind its attention or network. (Where both read the same input, the
stream between them is still that with attention added.)
Source: Elhage et al., "A mathematical framework for transformer circuits", 2021.
Left out: what the parts say about the next token, which is `attribution.py`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import Model, tap_names, to_numpy

__all__ = [
    "ResidualNorms",
    "count_layers",
    "layer_parts",
    "residual_norms",
    "stream_before",
    "stream_names",
    "stream_taps",
]

STARTS = ("inpL", "inp_norm", "inp_scaled", "inp_embd")  # the last step before layer 0 counts
MIDDLES = ("ffn_inp", "sa_out")  # llama.cpp's names for the stream after attention
BEHIND_HEADS = ("attn_sub_norm", "attn_gated", "kqv_out")  # what attn_output reads


def stream_taps(model: Model, heads: bool = False) -> list[str]:
    """Names to trace for the functions here, by the model's architecture.

    heads: also what `attribution.py` reads of the attention heads.
    """
    names = tap_names(model)
    stems = {name.partition("-")[0] for name in names}
    chosen = [next(start for start in STARTS if start in names)]
    if heads:
        chosen += [f"{next(stem for stem in BEHIND_HEADS if stem in stems)}-*", "attn_out-*"]
    return [*chosen, f"{next(stem for stem in MIDDLES if stem in stems)}-*", "l_out-*"]


def stream_names(activations: Mapping[str, np.ndarray]) -> list[str]:
    """The captured names of the stream before layer 0 and after each layer."""
    layers = range(count_layers(activations))
    return [_first_of(activations, STARTS), *(f"l_out-{layer}" for layer in layers)]


@dataclass(frozen=True, eq=False)
class ResidualNorms:
    """Euclidean norms, in the units of the stream.

    stream: (L + 1, T), of the stream before the first layer and after each.
    attention, ffn: (L, T), of what each layer's two halves add.
    """

    stream: np.ndarray
    attention: np.ndarray
    ffn: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row a layer: means over tokens; `stream` is after the layer."""
        means = {"stream": self.stream[1:], "attention": self.attention, "ffn": self.ffn}
        frame = pd.DataFrame({name: norms.mean(axis=1) for name, norms in means.items()})
        return frame.rename_axis("layer").reset_index()


def residual_norms(activations: Mapping[str, np.ndarray]) -> ResidualNorms:
    """How large the stream is after each layer, and how large what is added to it.

    activations: a trace of `stream_taps(model)`.
    Returns: ResidualNorms. Raises: ParameterError if some are missing.
    """
    n_layer = count_layers(activations)
    parts = [layer_parts(activations, layer) for layer in range(n_layer)]
    stream = [stream_before(activations, layer) for layer in range(n_layer + 1)]
    attention, ffn = zip(*parts, strict=True)
    return ResidualNorms(*(np.stack([_norm(x) for x in xs]) for xs in (stream, attention, ffn)))


def stream_before(activations: Mapping[str, np.ndarray], layer: int) -> np.ndarray:
    """The stream (T, E) that enters a layer, or leaves the last one for `layer` = L."""
    name = f"l_out-{layer - 1}" if layer else _first_of(activations, STARTS)
    return _taken(activations, name)


def layer_parts(activations: Mapping[str, np.ndarray], layer: int) -> tuple[np.ndarray, np.ndarray]:
    """What attention and the feed-forward network of a layer add to the stream, (T, E) each."""
    before, after = stream_before(activations, layer), stream_before(activations, layer + 1)
    middle = _taken(activations, _first_of(activations, [f"{m}-{layer}" for m in MIDDLES]))
    return middle - before, after - middle


def count_layers(activations: Mapping[str, np.ndarray]) -> int:
    """Layers whose l_out was captured. Raises: ParameterError if there are none."""
    n_layer = sum(name.startswith("l_out-") for name in activations)
    if not n_layer:
        raise ParameterError(
            "activations: no layers; expected l_out-0, l_out-1, …, got "
            f"{', '.join(activations)[:80] or 'nothing'}; trace 'l_out-*'"
        )
    return n_layer


def _first_of(activations: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
    """The first of some names that was captured; the last of them where none was."""
    return next((name for name in names if name in activations), names[-1])


def _taken(activations: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in activations:
        raise ParameterError(
            f"activations: {name} is missing; expected a trace of analysis.stream_taps(model), "
            f"got {', '.join(activations)[:80] or 'nothing'}"
        )
    return to_numpy(activations[name]).astype(np.float32, copy=False)


def _norm(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x.astype(np.float64), axis=-1)
