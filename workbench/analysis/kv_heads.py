"""What each attention head is for, by where it looks: sink, previous token, induction, local.

    text       The cat sat . The cat ▁          the next token is looked for at "cat ▁"
    sink       ███                   ·          the first positions, whatever they say
    previous                     ███ ·          the token just before
    induction          ███           ·          the token after the last same token: "sat"
    local                    ███████ ·          the last few tokens
    mixed      nothing of all that takes half of its attention

Induction is measured on random tokens said twice, where nothing else tells what comes next; the
other shares on a real text, from where sinks and neighbours lie far enough apart.
Sources: Olsson et al., "In-context learning and induction heads", https://arxiv.org/abs/2209.11895
(the repeated random sequence); Xiao et al., 2309.17453 (sinks). The thresholds are ours.
Left out: what a head does with what it finds, which `ablation.py` and `attribution.py` measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import ActivationTrace, Model, to_numpy
from ..model.kv_match import checked_ids
from ..model.kv_run import N_SINK
from .divergence import log_softmax
from .kv_stats import checked_seed

__all__ = [
    "HEAD_CLASSES",
    "HeadClasses",
    "follower_positions",
    "head_classes",
    "looks_of_heads",
    "repeated_tokens",
]

Array = np.ndarray

HEAD_CLASSES = ("induction", "sink", "previous", "local", "mixed")  # the first that fits is taken
N_LOCAL = 8  # tokens back, the token itself included, that are local
LEAST_SHARE = 0.5  # of a head's attention, that gives it its class
LEAST_INDUCTION = 0.3  # less, since it has to be found; by chance it would be 1 / n_random
LEAST_TEXT = 4 * (N_SINK + N_LOCAL)  # tokens; rows before are left out of the means
N_RANDOM = 64
LOOKS = ("sink", "previous", "local", "induction", "duplicate")


@dataclass(frozen=True, eq=False)
class HeadClasses:
    """What each head looks at; shares are means over the tokens that look, (n,) from 0 to 1.

    layers, heads: (n,) which head each entry is of. sink: to the first N_SINK positions; previous:
    to the token before; local: to the last N_LOCAL, itself and the one before included; induction,
    duplicate: to the token after the last same token and to that same token, on random tokens said
    twice. names: (n,) of HEAD_CLASSES. n_text, n_random: tokens read, and random ones said twice.
    loss_once, loss_again: nats a random token costs the model the first and the second time; where
    it copies, the second is far less.
    """

    layers: Array
    heads: Array
    sink: Array
    previous: Array
    local: Array
    induction: Array
    duplicate: Array
    names: tuple[str, ...]
    n_text: int
    n_random: int
    loss_once: float
    loss_again: float

    def to_frame(self) -> pd.DataFrame:
        """One row a head."""
        columns = {"layer": self.layers, "head": self.heads, "class": self.names}
        return pd.DataFrame(columns | {look: getattr(self, look) for look in LOOKS})

    def counts(self) -> pd.DataFrame:
        """How many heads of each class each layer has: a row a layer, columns HEAD_CLASSES."""
        table = pd.crosstab(pd.Series(self.layers, name="layer"), pd.Series(self.names))
        return table.reindex(columns=list(HEAD_CLASSES), fill_value=0).rename_axis(columns=None)

    def of_class(self, name: str) -> list[tuple[int, int]]:
        """(layer, head) of the heads of a class, the clearest first. Raises: ParameterError."""
        if name not in HEAD_CLASSES:
            raise ParameterError(
                f"class: no such class of heads; expected one of {', '.join(HEAD_CLASSES)}, got "
                f"{name!r}"
            )
        share = -self.local if name == "mixed" else getattr(self, name)
        rows = [row for row in np.argsort(-share, kind="stable") if self.names[row] == name]
        return [(int(self.layers[row]), int(self.heads[row])) for row in rows]


def head_classes(
    model: Model, token_ids: Sequence[int], n_random: int = N_RANDOM, seed: int = 0
) -> HeadClasses:
    """Class every attention head of a model by where it looks.

    token_ids: (T,) of a real text, at least LEAST_TEXT. n_random: random tokens that are said
    twice; seed: which. Every head's whole attention is held once for each of the two texts:
    4 · L · H · T² bytes.
    Returns: HeadClasses. Raises: ParameterError for a text that is too short.
    """
    token_ids = checked_ids(token_ids)
    n_text = len(token_ids)
    if n_text < LEAST_TEXT:
        raise ParameterError(
            f"token_ids: no text in which sinks and neighbours lie apart; expected at least "
            f"{LEAST_TEXT} tokens, got {n_text}; take a longer text"
        )
    twice = repeated_tokens(model, n_random, seed)
    (text, _), (random, logits) = (_maps(model, ids) for ids in (token_ids, twice))
    losses = _losses(logits, twice, n_random)
    rows = []
    for layer in sorted(text):
        near = looks_of_heads(text[layer], token_ids)
        found = looks_of_heads(random[layer], twice)
        near |= {look: found[look] for look in ("induction", "duplicate")}
        rows += [
            (layer, head, *(float(near[look][head]) for look in LOOKS))
            for head in range(len(text[layer]))
        ]
    layers, heads, *shares = (np.array(column) for column in zip(*rows, strict=True))
    looks = dict(zip(LOOKS, shares, strict=True))
    names = tuple(class_of({look: looks[look][i] for look in LOOKS}) for i in range(len(rows)))
    return HeadClasses(
        layers, heads, **looks, names=names, n_text=n_text, n_random=n_random, **losses
    )


def repeated_tokens(model: Model, n_random: int = N_RANDOM, seed: int = 0) -> Array:
    """Random tokens, each another one, said twice: (2 · n_random [+ 1 for the start],) int64.

    n_random: at least 2; seed: of NumPy's default generator. Tokens that end a text or begin it are
    not among them; the text begins with the model's own first token where it has one.
    Raises: ParameterError if the vocabulary has fewer.
    """
    special = {model.tokenizer.bos_id, model.tokenizer.eos_id, *model.tokenizer.eog_ids}
    usable = np.setdiff1d(np.arange(model.config.n_vocab), [i for i in special if i is not None])
    if not isinstance(n_random, int | np.integer) or not 2 <= n_random <= len(usable):
        raise ParameterError(
            f"n_random: no such number of different tokens; expected from 2 to {len(usable)}, got "
            f"{n_random!r}"
        )
    once = np.random.default_rng(checked_seed(seed)).choice(usable, int(n_random), replace=False)
    start = model.tokenizer.encode("")[:1]  # what the model is used to begin with
    return np.concatenate([np.array(start, np.int64), once, once])


def follower_positions(token_ids: Sequence[int]) -> Array:
    """For each token the position after the last same token before it, -1 where there is none.

    token_ids: (T,). Returns: (T,) int64.
    Example: follower_positions([7, 8, 7]) is [-1, -1, 1]: after 7 came 8.
    """
    last: dict[int, int] = {}
    found = np.full(len(token_ids), -1, np.int64)
    for position, token_id in enumerate(map(int, token_ids)):
        found[position] = last.get(token_id, -2) + 1
        last[token_id] = position
    return found


def looks_of_heads(probs: Array, token_ids: Sequence[int]) -> dict[str, Array]:
    """The mean share of each of LOOKS in the attention of a layer's heads.

    probs: (H, T, T) of a whole text. token_ids: (T,). Rows count where the look exists: sink,
    previous and local from the token on at which N_SINK and N_LOCAL no longer meet; induction and
    duplicate where the same token came before, not as the token just before.
    Returns: look -> (H,), NaN where no row counts.
    """
    n = len(token_ids)
    if probs.ndim != 3 or probs.shape[1:] != (n, n):
        raise ParameterError(
            f"probs: not the attention of these tokens; expected (H, {n}, {n}), got "
            f"{probs.shape}; trace a text from its start"
        )
    at, after = np.arange(n), follower_positions(token_ids)
    apart = at[at >= N_SINK + N_LOCAL - 1]
    again = at[(after > 0) & (after < at)]
    near = (at <= apart[:, None]) & (at > apart[:, None] - N_LOCAL)  # (rows, T)
    return {
        "sink": _mean(probs[:, apart, :N_SINK].sum(-1)),
        "previous": _mean(probs[:, apart, apart - 1]),
        "local": _mean((probs[:, apart] * near).sum(-1)),
        "induction": _mean(probs[:, again, after[again]]),
        "duplicate": _mean(probs[:, again, after[again] - 1]),
    }


def _mean(shares: Array) -> Array:
    """(H, rows) -> (H,), NaN of no rows."""
    if not shares.shape[1]:
        return np.full(len(shares), np.nan)
    return shares.mean(axis=1, dtype=np.float64)


def class_of(looks: dict[str, Any]) -> str:
    if looks["induction"] >= LEAST_INDUCTION:
        return "induction"
    fits = (name for name in ("sink", "previous", "local") if looks[name] >= LEAST_SHARE)
    return next(fits, "mixed")


def _losses(logits: Array, twice: Array, n_random: int) -> dict[str, float]:
    """Nats a token of the first and of the second reading costs; the first token of all has none.

    logits: (T, V), after each token of `twice`.
    """
    scores = log_softmax(logits[:-1])
    loss = -scores[np.arange(len(scores)), twice[1:]]
    once, again = loss[:-n_random], loss[-n_random:]
    return {"loss_once": float(once.mean()), "loss_again": float(again.mean())}


def _maps(model: Model, token_ids: Sequence[int]) -> tuple[dict[int, Array], Array]:
    """Every layer's attention (H, T, T) of a text, and the logits (T, V); float32 cache."""
    trace = ActivationTrace(["kq_soft_max-*"])
    cache = model.new_cache(n_ctx=len(token_ids), type_k="f32", type_v="f32")
    logits = to_numpy(model.forward(token_ids, cache, trace=trace))
    return {int(name.rpartition("-")[2]): to_numpy(trace[name]) for name in trace}, logits
