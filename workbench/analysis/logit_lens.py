"""The logit lens: what the model would say if it stopped after each layer.

    inp_embd ─► layer 0 ─► layer 1 ─► … ─► layer L-1
        │          │          │               │
        └──────────┴──────────┴───────────────┴──► output norm ─► head ─► softmax

Source: nostalgebraist, "interpreting GPT: the logit lens", 2020.
Left out: lenses that are trained (tuned lens).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..model import Model, to_numpy
from ..model.transformer import unembed
from .divergence import log_softmax
from .next_token import display_piece
from .residual_stream import count_layers, stream_before

__all__ = ["LogitLens", "logit_lens"]


@dataclass(frozen=True, eq=False)
class LogitLens:
    """The best next token after every layer (rows, the first before layer 0) at every position.

    stages: (L + 1,) names. pieces: (T,) texts of the tokens read. top_ids: (L + 1, T) int;
    top_pieces: their texts; top_probs: their probabilities. final_probs: of the token that is best
    after the last layer; final_ranks: its place, 0 = best. kl: of the last layer's distribution
    from this one, in nats. All (L + 1, T).
    """

    stages: tuple[str, ...]
    pieces: tuple[str, ...]
    top_ids: np.ndarray
    top_pieces: tuple[tuple[str, ...], ...]
    top_probs: np.ndarray
    final_probs: np.ndarray
    final_ranks: np.ndarray
    kl: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """(T,) int: the first stage from which on the final token stays the best."""
        other = self.final_ranks != 0
        last_other = len(other) - 1 - np.argmax(other[::-1], axis=0)
        return np.where(other.any(axis=0), last_other + 1, 0)

    def to_frame(self, position: int = -1) -> pd.DataFrame:
        """One row a stage, at one position."""
        return pd.DataFrame(
            {
                "stage": self.stages,
                "top": [row[position] for row in self.top_pieces],
                "probability": self.top_probs[:, position],
                "final_probability": self.final_probs[:, position],
                "final_rank": self.final_ranks[:, position],
                "kl": self.kl[:, position],
            }
        )


def logit_lens(
    model: Model, activations: Mapping[str, np.ndarray], token_ids: np.ndarray
) -> LogitLens:
    """Send the stream after each layer through the model's own output norm and head.

    model: whose stream it is. activations: a trace of `stream_taps(model)`. token_ids: (T,) what
    was read. Returns: LogitLens. Raises: ParameterError if activations are missing.
    """
    n_layer, ops = count_layers(activations), model.network.ops
    final = _log_probs(model, ops, stream_before(activations, n_layer))  # (T, V)
    best = final.argmax(axis=-1)
    rows = [_stage(_log_probs(model, ops, stream_before(activations, i)), final, best)
            for i in range(n_layer + 1)]  # fmt: skip
    ids, *numbers = (np.stack(column) for column in zip(*rows, strict=True))
    texts = {i: display_piece(model.tokenizer, int(i)) for i in np.unique(ids)}
    return LogitLens(
        ("embedding", *(f"layer {layer}" for layer in range(n_layer))),
        tuple(display_piece(model.tokenizer, int(i)) for i in token_ids),
        ids,
        tuple(tuple(texts[i] for i in row) for row in ids),
        *numbers,
    )


def _log_probs(model: Model, ops, stream: np.ndarray) -> np.ndarray:
    """(T, V) float64 natural logs of the probabilities after a stream (T, E)."""
    with model.network.here():
        return log_softmax(to_numpy(unembed(model.network, ops.asarray(stream))))


def _stage(stage: np.ndarray, final: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of one stage: top ids and probabilities, final token's probability and rank, KL; (T,)."""
    i = np.arange(len(best))
    top = stage.argmax(axis=-1)
    of_best = stage[i, best]
    ranks = (stage > of_best[:, None]).sum(axis=-1)
    kl = (np.exp(final) * (final - stage)).sum(axis=-1)
    return top, np.exp(stage[i, top]), np.exp(of_best), ranks, np.maximum(kl, 0)
