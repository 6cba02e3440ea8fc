"""Direct logit attribution: the share of every head and network in one token's logit.

    logit = head row · norm(x0 + attention 0 + network 0 + attention 1 + …)
          = g · x0 + g · attention 0 + g · network 0 + …  + constant

The stream is a sum, and with the scale of the output norm frozen at the value it has, so is the
logit: g is the head's row (or the difference of two), weighted by the norm. The attention of a
layer is in turn the sum of its heads, each through its columns of attn_output.
Source: Elhage et al., "A mathematical framework for transformer circuits", 2021.
Left out: what a part does by way of later layers; `ablation.py` measures all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import Model, to_numpy
from ..model.transformer import unembed
from .next_token import display_piece
from .residual_stream import BEHIND_HEADS, count_layers, layer_parts, stream_before

__all__ = ["LogitAttribution", "logit_attribution"]

TINY = 1e-6  # of the largest number of an attention output: below, it has no ratio worth a name


@dataclass(frozen=True, eq=False)
class LogitAttribution:
    """One token's logit (or its lead over another's) taken apart; all in units of logits.

    token_id, piece: the token. against: the other's piece, or None. position: where it follows.
    embedding: what the stream has from the start. heads: (L, H). attention_rest: (L,), of
    attention but of no head (a bias). ffn: (L,). constant: biases of the output norm and head.
    logit: as the model itself gives it, before its soft cap if it has one. Heads that a layer has
    fewer than others are NaN.
    """

    token_id: int
    piece: str
    against: str | None
    position: int
    embedding: float
    heads: np.ndarray
    attention_rest: np.ndarray
    ffn: np.ndarray
    constant: float
    logit: float

    @property
    def attention(self) -> np.ndarray:
        """(L,): all heads of a layer and the rest."""
        return np.nansum(self.heads, axis=1) + self.attention_rest

    @property
    def total(self) -> float:
        """The sum of all parts, which is the logit but for rounding."""
        return float(self.embedding + self.attention.sum() + self.ffn.sum() + self.constant)

    @property
    def best_head(self) -> tuple[int, int]:
        """Layer and head that add most to the logit."""
        layer, head = np.unravel_index(int(np.nanargmax(self.heads)), self.heads.shape)
        return int(layer), int(head)

    def to_frame(self) -> pd.DataFrame:
        """One row a part, the largest first: part, layer and head (-1 where none), logits."""
        n_layer, n_head = self.heads.shape
        rows = [("embedding", -1, -1, self.embedding), ("constant", -1, -1, self.constant)]
        for layer in range(n_layer):
            rows += [("head", layer, head, self.heads[layer, head]) for head in range(n_head)]
            rows.append(("attention rest", layer, -1, self.attention_rest[layer]))
            rows.append(("ffn", layer, -1, self.ffn[layer]))
        frame = pd.DataFrame(rows, columns=["part", "layer", "head", "logits"])
        order = frame["logits"].abs().sort_values(ascending=False, kind="stable").index
        return frame.loc[order].dropna().reset_index(drop=True)


def logit_attribution(
    model: Model,
    activations: Mapping[str, np.ndarray],
    token_id: int | None = None,
    against: int | None = None,
    position: int = -1,
) -> LogitAttribution:
    """Take one logit apart by layer and head.

    activations: a trace of `stream_taps(model, heads=True)`.
    token_id: whose logit, by default the most probable next token; against: a second token, whose
    logit is subtracted. position: row of the trace.
    Returns: LogitAttribution. Raises: ParameterError for missing activations or a wrong id.
    """
    n_layer, network = count_layers(activations), model.network
    last = stream_before(activations, n_layer)
    if not isinstance(position, int | np.integer) or not -len(last) <= position < len(last):
        raise ParameterError(
            f"position: no such row; expected from {-len(last)} to {len(last) - 1}, got "
            f"{position!r}"
        )
    at = int(position) % len(last)
    stream = last[at : at + 1].astype(np.float32)  # (1, E)
    with network.here():
        logits = _uncapped(network, to_numpy(unembed(network, network.ops.asarray(stream)))[0])
    token_id = int(logits.argmax()) if token_id is None else _checked_id(token_id, len(logits))
    ids = [token_id] if against is None else [token_id, _checked_id(against, len(logits))]
    direction, constant = _direction(network, stream[0].astype(np.float64), ids)
    heads, attention, ffn = [], [], []
    for layer in range(n_layer):
        parts = layer_parts(activations, layer)
        attn, net = (part[at].astype(np.float64) for part in parts)
        heads.append(_head_shares(network, activations, layer, at, attn, direction))
        attention.append(float(attn @ direction))
        ffn.append(float(net @ direction))
    heads = _side_by_side(heads)
    return LogitAttribution(
        token_id=token_id,
        piece=display_piece(model.tokenizer, token_id),
        against=None if against is None else display_piece(model.tokenizer, ids[1]),
        position=at,
        embedding=float(stream_before(activations, 0)[at].astype(np.float64) @ direction),
        heads=heads,
        attention_rest=np.array(attention) - np.nansum(heads, axis=1),
        ffn=np.array(ffn),
        constant=constant,
        logit=float(logits[ids[0]] - (0 if against is None else logits[ids[1]])),
    )


def _direction(network: Any, stream: np.ndarray, ids: list[int]) -> tuple[np.ndarray, float]:
    """g (E,) such that g · part is the part's share of the logit, and the constant beside them."""
    head, norm, ops = network.weights.output, network.weights.output_norm, network.ops
    signs = np.array([1.0, -1.0])[: len(ids)]
    with network.here():
        rows = to_numpy(ops.get_rows(head.weight, np.array(ids))).astype(np.float64)
    row = signs @ rows  # (E,)
    centred = network.architecture.norm == "layer_norm"
    spread = stream - stream.mean() if centred else stream
    g = row / np.sqrt(np.mean(spread**2) + network.config.norm_eps)
    if norm.weight is not None:
        g = g * to_numpy(norm.weight).astype(np.float64)
    constant = 0.0 if norm.bias is None else float(to_numpy(norm.bias) @ row)
    if head.bias is not None:
        constant += float(signs @ to_numpy(head.bias)[ids])
    g = g - g.mean() if centred else g  # (part - mean) · g = part · (g - mean)
    return g * network.config.logit_scale, constant * network.config.logit_scale


def _uncapped(network: Any, logits: np.ndarray) -> np.ndarray:
    """(V,) float64 logits as they were before the model's soft cap."""
    cap, logits = network.config.final_logit_softcapping, logits.astype(np.float64)
    return cap * np.arctanh(np.clip(logits / cap, -1 + 1e-9, 1 - 1e-9)) if cap else logits


def _side_by_side(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one array, NaN at their ends."""
    whole = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(whole, rows, strict=True):
        row[: len(values)] = values
    return whole


def _head_shares(
    network: Any,
    activations: Mapping[str, np.ndarray],
    layer: int,
    at: int,
    attention: np.ndarray,
    direction: np.ndarray,
) -> np.ndarray:
    """(H,) shares of a layer's heads: each through its own columns of attn_output."""
    weight = network.weights.blk[layer].attn_output.weight
    with network.here():
        matrix = to_numpy(network.ops.expand(weight)).reshape(weight.shape)  # (E, H * Dv)
    out = to_numpy(activations[f"attn_out-{layer}"][at]).astype(np.float64)
    # What stands behind the matrix (a norm, a scale) is frozen too: the factor it came to.
    factor = np.ones_like(out)
    if not np.allclose(attention, out, rtol=1e-3, atol=1e-4 * np.abs(out).max()):
        clear = np.abs(out) > TINY * np.abs(out).max()
        factor = np.divide(attention, out, out=np.zeros_like(out), where=clear)
    name = next(f"{stem}-{layer}" for stem in BEHIND_HEADS if f"{stem}-{layer}" in activations)
    z = to_numpy(activations[name][at]).astype(np.float64)
    shares = ((direction * factor) @ matrix) * z  # (H * Dv,)
    return shares.reshape(network.config.of_layer(layer).n_head, -1).sum(axis=1)


def _checked_id(token_id: Any, n_vocab: int) -> int:
    if not isinstance(token_id, int | np.integer) or not 0 <= token_id < n_vocab:
        raise ParameterError(
            f"token_id: no such token; expected an id from 0 to {n_vocab - 1}, got {token_id!r}"
        )
    return int(token_id)
