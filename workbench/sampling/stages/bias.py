"""Samplers that move the logits of some tokens: a bias by hand, and penalties for what was said.

Source: src/llama-sampler.cpp in llama.cpp, by the function named in each docstring.
Leaves out: penalties for whole repeated passages (`dry.py`).
"""

from collections.abc import Iterable, Mapping

import numpy as np

from ...errors import ParameterError
from ..candidates import Candidates
from ..params import checked_bias
from .stage import History, Stage, real, stage, whole


def logit_bias(bias: Mapping[int, float] | Iterable[tuple[int, float]]) -> Stage:
    """Add a number to the logits of some tokens; -inf bans a token.

    bias: {token id: number}, or pairs of both. Tokens that are no candidates are passed over.
    Source: llama_sampler_logit_bias_apply.
    """
    pairs = [(int(i), float(b)) for i, b in _pairs(bias)]
    ids = np.array([i for i, _ in pairs], np.int64)
    added = np.array([b for _, b in pairs], np.float32)

    def apply(candidates: Candidates, history: History) -> Candidates:
        at = candidates.places_of(ids)
        logits = candidates.logits.copy()
        np.add.at(logits, at[at >= 0], added[at >= 0])
        return Candidates(candidates.ids, logits, candidates.sorted and not (at >= 0).any())

    return stage("logit_bias", apply, None if pairs else "logit_bias {}: off", bias=tuple(pairs))


def penalties(
    last_n: int = 64, repeat: float = 1.0, freq: float = 0.0, present: float = 0.0
) -> Stage:
    """Make tokens less probable that are among the last ones.

    last_n: how many of the last tokens count; <= 0 is off. repeat: divides a positive logit and
    multiplies a negative one. freq: is subtracted for each time, present: once.
    Source: llama_sampler_penalties_apply; Keskar et al., https://arxiv.org/abs/1909.05858.
    """
    last_n = whole("penalties", "last_n", last_n)
    repeat = real("penalties", "repeat", repeat)
    freq, present = real("penalties", "freq", freq), real("penalties", "present", present)
    if repeat <= 0:
        raise ParameterError(f"penalties: repeat: expected a number above 0, got {repeat:g}")
    factor, each, once = np.float32(repeat), np.float32(freq), np.float32(present)

    def apply(candidates: Candidates, history: History) -> Candidates:
        ids, counts = np.unique(last_tokens(history, last_n), return_counts=True)
        at = candidates.places_of(ids)
        counts, at = counts[at >= 0].astype(np.float32), at[at >= 0]
        logits = candidates.logits.copy()
        with np.errstate(over="ignore"):  # beyond float32 is -inf
            x = logits[at]
            x = np.where(x <= 0, x * factor, x / factor)
            logits[at] = x - (counts * each + once)
        return Candidates(candidates.ids, logits, sorted=False)

    off = None
    if (factor, each, once) == (1, 0, 0):
        off = "penalty_repeat 1, penalty_freq 0, penalty_present 0: off"
    if last_n <= 0:
        off = f"penalty_last_n {last_n}: off"
    return stage("penalties", apply, off, last_n=last_n, repeat=repeat, freq=freq, present=present)


def last_tokens(history: History, n: int) -> np.ndarray:
    """The last n token ids, oldest first, (at most n,) int64; those of no vocabulary pass too.

    Raises: ParameterError when they are no whole numbers.
    """
    ids = np.asarray(history[max(0, len(history) - n) :])
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ParameterError(
            f"history: expected token ids, oldest first, got {history!r:.80}; pass a list of int"
        )
    return ids.astype(np.int64)


def _pairs(bias: object) -> Iterable[tuple[int, float]]:
    if isinstance(bias, Mapping):
        return checked_bias("logit_bias", bias).items()
    try:
        pairs = [(token_id, value) for token_id, value in bias]
    except (TypeError, ValueError):
        raise ParameterError(
            "logit_bias: expected a mapping of token id to number, or pairs of them, "
            f"got {bias!r:.80}"
        ) from None
    for token_id, value in pairs:  # a token may come more than once
        checked_bias("logit_bias", {token_id: value})
    return pairs
