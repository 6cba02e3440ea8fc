"""The residual stream: what every layer's attention and feed-forward network add to it.

    x0 ──┬─────────────── + ── ffn_inp ──┬────────── + ── l_out ──► next layer
         └─ attention ────┘              └─ network ─┘

What was added is the difference of the stream after and before, so it holds whatever norms and
scales an architecture puts behind its attention or network.
Source: Elhage et al., "A mathematical framework for transformer circuits", 2021.
Left out: what the parts say about the next token, which is `attribution.py`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import ParameterError

__all__ = ["ResidualNorms", "count_layers", "layer_parts", "residual_norms", "stream_before"]

TAPS = ("inp_embd", "attn_out-*", "ffn_inp-*", "l_out-*")  # what the functions here read


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

    activations: a trace of "inp_embd", "attn_out-*", "ffn_inp-*" and "l_out-*".
    Returns: ResidualNorms. Raises: ParameterError if some are missing.
    """
    n_layer = count_layers(activations)
    parts = [layer_parts(activations, layer) for layer in range(n_layer)]
    stream = [stream_before(activations, layer) for layer in range(n_layer + 1)]
    attention, ffn = zip(*parts, strict=True)
    return ResidualNorms(*(np.stack([_norm(x) for x in xs]) for xs in (stream, attention, ffn)))


def stream_before(activations: Mapping[str, np.ndarray], layer: int) -> np.ndarray:
    """The stream (T, E) that enters a layer, or leaves the last one for `layer` = L."""
    return _taken(activations, f"l_out-{layer - 1}" if layer else "inp_embd")


def layer_parts(activations: Mapping[str, np.ndarray], layer: int) -> tuple[np.ndarray, np.ndarray]:
    """What attention and the feed-forward network of a layer add to the stream, (T, E) each."""
    before, after = stream_before(activations, layer), stream_before(activations, layer + 1)
    middle = _taken(activations, f"ffn_inp-{layer}")
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


def _taken(activations: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in activations:
        raise ParameterError(
            f"activations: {name} is missing; expected a trace of {', '.join(TAPS)}, got "
            f"{', '.join(activations)[:80] or 'nothing'}"
        )
    return np.asarray(activations[name], np.float32)


def _norm(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x.astype(np.float64), axis=-1)
