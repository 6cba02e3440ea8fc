"""What the model would say without some attention heads, or with every head silenced in turn.

Source: Michel et al., "Are sixteen heads really better than one?", arXiv:1905.10650.
Left out: pairs of heads, which may stand in for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..model import ActivationTrace, Model, to_numpy
from .divergence import kl_by_position, log_softmax
from .next_token import display_piece

__all__ = [
    "HeadAblation",
    "NextTokenChange",
    "ablate_each_head",
    "logits_without",
    "next_token_change",
]


@dataclass(frozen=True, eq=False)
class HeadAblation:
    """What silencing each head does to the next token's distribution.

    layers: (n,) those looked at. token_id: the model's best next token. kl: (n, H) nats, from the
    whole model's distribution to that without the head. logprob_change: (n, H), of the best token,
    nats. n_changed: how many heads change which token is best. Heads that a layer has fewer than
    others are NaN.
    """

    layers: np.ndarray
    token_id: int
    kl: np.ndarray
    logprob_change: np.ndarray
    n_changed: int

    def to_frame(self) -> pd.DataFrame:
        """One row a head, the most important first."""
        layers, heads = np.indices(self.kl.shape)
        columns = {"layer": self.layers[layers.ravel()], "head": heads.ravel()}
        columns |= {"kl": self.kl.ravel(), "logprob_change": self.logprob_change.ravel()}
        frame = pd.DataFrame(columns).dropna().sort_values("kl", ascending=False, kind="stable")
        return frame.reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class NextTokenChange:
    """The most probable next tokens before and after something was changed in the model.

    ids: (n,) int, of the n best of either, by the larger of their probabilities; pieces: their
    texts. probs_before, probs_after: (n,). kl: nats, of after from before. best_before, best_after:
    pieces of the most probable tokens.
    """

    ids: np.ndarray
    pieces: tuple[str, ...]
    probs_before: np.ndarray
    probs_after: np.ndarray
    kl: float
    best_before: str
    best_after: str

    def to_frame(self) -> pd.DataFrame:
        """One row a token."""
        columns = {"token_id": self.ids, "piece": self.pieces, "before": self.probs_before}
        return pd.DataFrame(columns | {"after": self.probs_after})


def next_token_change(
    before: np.ndarray, after: np.ndarray, tokenizer: Any, n_top: int = 12
) -> NextTokenChange:
    """Compare two distributions of the next token.

    before, after: (n_vocab,) logits. n_top: tokens to list. Returns: NextTokenChange.
    """
    p, q = (np.exp(log_softmax(logits)) for logits in (before, after))
    ids = np.argsort(-np.maximum(p, q), kind="stable")[:n_top]
    best = (display_piece(tokenizer, int(x.argmax())) for x in (p, q))
    kl = float(kl_by_position(before[None], after[None])[0])
    pieces = tuple(display_piece(tokenizer, int(i)) for i in ids)
    return NextTokenChange(ids, pieces, p[ids], q[ids], kl, *best)


def ablate_each_head(
    model: Model,
    token_ids: Sequence[int],
    to: Any = "zero",
    layers: Sequence[int] | None = None,
) -> HeadAblation:
    """Silence one head after the other at all positions and compare the next token.

    model: each of its heads costs one forward pass. token_ids: (T,). to: "zero" or "mean", as for
    `ActivationTrace.ablate_heads`. layers: by default all.
    Returns: HeadAblation. Raises: ParameterError.
    """
    config = model.config
    layers = np.arange(config.n_layer) if layers is None else np.asarray(layers, int)
    whole = logits_without(model, token_ids)
    best = int(whole.argmax())
    n_heads = [config.of_layer(int(layer)).n_head for layer in layers]
    kl, change = np.full((2, len(layers), max(n_heads)), np.nan)
    n_changed = 0
    for row, layer in enumerate(layers):
        for head in range(n_heads[row]):
            without = logits_without(model, token_ids, int(layer), head, to)
            kl[row, head] = kl_by_position(whole[None], without[None])[0]
            change[row, head] = log_softmax(without)[best] - log_softmax(whole)[best]
            n_changed += int(without.argmax() != best)
    return HeadAblation(layers, best, kl, change, n_changed)


def logits_without(
    model: Model,
    token_ids: Sequence[int],
    layer: int | None = None,
    heads: Any = (),
    to: Any = "zero",
) -> np.ndarray:
    """The next token's logits (n_vocab,) with heads of a layer silenced; layer None: none."""
    trace = ActivationTrace()
    if layer is not None:
        trace.ablate_heads(layer, heads, to)
    cache = model.new_cache(n_ctx=len(token_ids), type_k="f32", type_v="f32")
    return to_numpy(model.forward(token_ids, cache, trace=trace, last_only=True))[-1]
