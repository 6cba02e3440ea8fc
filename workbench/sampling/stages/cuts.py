"""Samplers that keep some of the tokens.

Source: src/llama-sampler.cpp in llama.cpp, by the function named in each docstring.
Leaves out: cuts that depend on the last tokens (`drawing.py`).
"""

import math
from functools import reduce

import numpy as np

from ..candidates import Candidates, float32_log, largest, largest_index
from ..dist import Generator
from .stage import History, Stage, real, remembering, seed_of, share, stage, whole, whole_from_zero

# top_p looks at so many tokens before it sorts everything; they nearly always suffice
TOP_P_LOOKS = (256, 8192)
FEW = 64


def top_k(k: int) -> Stage:
    """Keep the k tokens of largest logit; k <= 0 keeps all.

    Source: llama_sampler_top_k_impl.
    """
    k = whole("top_k", "k", k)

    def apply(candidates: Candidates, history: History) -> Candidates:
        return largest(candidates, k)

    return stage("top_k", apply, f"top_k {k}: off" if k <= 0 else None, k=k)


def top_p(p: float, min_keep: int = 0) -> Stage:
    """Keep the most probable tokens until their probabilities reach p; p >= 1 keeps all.

    Also called nucleus sampling. min_keep: keep at least so many.
    Source: llama_sampler_top_p_apply; Holtzman et al., https://arxiv.org/abs/1904.09751.
    """
    p, min_keep = share("top_p", "p", p), whole_from_zero("top_p", "min_keep", min_keep)
    wanted = np.float32(p)

    def apply(candidates: Candidates, history: History) -> Candidates:
        for k in (*TOP_P_LOOKS, len(candidates)):
            order = _order(candidates, max(k, min_keep))
            running = np.cumsum(candidates.probs[order])  # float32, one after another
            n_keep = max(int(np.searchsorted(running, wanted)) + 1, min_keep)
            if n_keep <= order.size:
                break
        return candidates.keep(order[:n_keep], sorted=True)

    off = f"top_p {p:g}: off" if wanted >= 1 else None
    return stage("top_p", apply, off, p=p, min_keep=min_keep)


def min_p(p: float, min_keep: int = 0) -> Stage:
    """Keep tokens at least p times as probable as the most probable one; p <= 0 keeps all.

    min_keep: keep at least so many.
    Source: llama_sampler_min_p_apply; Nguyen et al., https://arxiv.org/abs/2407.01082.
    """
    p, min_keep = share("min_p", "p", p), whole_from_zero("min_p", "min_keep", min_keep)
    wanted = np.float32(p)  # 0 where p is smaller than a float32 can be

    def apply(candidates: Candidates, history: History) -> Candidates:
        floor = candidates.logits.max() + np.float32(math.log(wanted))
        enough = candidates.logits >= floor
        n_keep = max(int(np.count_nonzero(enough)), 1)  # the best one stays even if p > 1
        if not candidates.sorted and enough.any() and n_keep >= min_keep:
            return candidates.keep(enough)  # keeps the order, so still unsorted
        return largest(candidates, max(n_keep, min_keep))

    off = f"min_p {p:g}: off" if wanted <= 0 else None
    return stage("min_p", apply, off, p=p, min_keep=min_keep)


def typical(p: float, min_keep: int = 0) -> Stage:
    """Keep the tokens whose surprise is nearest to the entropy until they exceed p; p >= 1 is off.

    They come in that order, the nearest first. Where a token has probability 0, llama.cpp's entropy
    is not a number, and what its sort leaves then is kept (`unsorted_order`). min_keep: keep at
    least so many.
    Source: llama_sampler_typical_apply; Meister et al., https://arxiv.org/abs/2202.00666.
    """
    p, min_keep = share("typical", "p", p), whole_from_zero("typical", "min_keep", min_keep)
    wanted = np.float32(p)

    def apply(candidates: Candidates, history: History) -> Candidates:
        ordered = largest(candidates, len(candidates))
        probs = ordered.probs
        if probs[-1] > 0:
            surprise = -float32_log(probs)
            entropy = np.cumsum(probs * surprise)[-1]
            order = np.argsort(np.abs(surprise - entropy), kind="stable")
        else:
            order = unsorted_order(len(ordered))
        n_keep = int(np.searchsorted(np.cumsum(probs[order]), wanted, side="right")) + 1
        return ordered.keep(order[: max(n_keep, min_keep)], sorted=False)

    off = f"typ_p {p:g}: off" if wanted >= 1 else None
    return stage("typical", apply, off, p=p, min_keep=min_keep)


def top_n_sigma(n: float) -> Stage:
    """Keep logits within n standard deviations of the largest one; n <= 0 keeps all.

    The others stay as candidates with a logit of -inf.
    Source: llama_sampler_top_n_sigma_apply; Tang et al., https://arxiv.org/abs/2411.07641.
    """
    n = real("top_n_sigma", "n", n)
    width = np.float32(n)

    def apply(candidates: Candidates, history: History) -> Candidates:
        if len(candidates) <= 1:
            return candidates
        logits = candidates.logits
        alive = logits[logits > -np.inf]
        count = np.float32(alive.size)
        mean = np.cumsum(alive)[-1] / count
        deviation = np.sqrt(_sum_of_squares(alive - mean) / count)
        cut = np.where(logits < alive.max() - width * deviation, np.float32(-np.inf), logits)
        return Candidates(candidates.ids, cut, candidates.sorted)

    return stage("top_n_sigma", apply, f"top_n_sigma {n:g}: off" if width <= 0 else None, n=n)


def xtc(probability: float, threshold: float, min_keep: int = 0, seed: int = 0) -> Stage:
    """With a chance, leave out all tokens above a threshold but the least probable of them.

    probability: the chance, 0 is off. threshold: probability of a token to count; above 0.5 is off.
    min_keep: nothing happens if fewer tokens would be left. seed: of a generator of its own.
    Source: llama_sampler_xtc_apply; p-e-w,
    https://github.com/oobabooga/text-generation-webui/pull/6335.
    """
    probability = share("xtc", "probability", probability)
    threshold = share("xtc", "threshold", threshold)
    min_keep = whole_from_zero("xtc", "min_keep", min_keep)
    memory = Xtc(probability, threshold, min_keep, seed_of("xtc", seed))
    params = {"probability": probability, "threshold": threshold}
    return remembering("xtc", memory, memory.off, **params, min_keep=min_keep, seed=seed)


class Xtc(Generator):
    """Draws one float32 a token, wherever two candidates or more come by."""

    def __init__(self, probability: float, threshold: float, min_keep: int, seed: int) -> None:
        super().__init__(seed)
        self._chance, self._threshold = np.float32(probability), np.float32(threshold)
        self._min_keep = min_keep
        self.off = None
        if self._threshold > 0.5:
            self.off = f"xtc_threshold {threshold:g}: off"
        if self._chance <= 0:
            self.off = f"xtc_probability {probability:g}: off"

    def apply(self, candidates: Candidates, history: History) -> Candidates:
        """What is left if the next number of the generator says so; the generator stays."""
        if self.off or len(candidates) < 2 or self.next_single() > self._chance:
            return candidates
        ordered = largest(candidates, len(candidates))
        n_above = int(np.count_nonzero(ordered.probs >= self._threshold))
        skipped = max(n_above - 1, 0)
        if len(ordered) - skipped < self._min_keep:
            return ordered
        return ordered.keep(slice(skipped, None))

    def passed(self, before: Candidates) -> None:
        """A token is being chosen: the number is used up."""
        if not self.off and len(before) >= 2:
            self.uniform_single()


def unsorted_order(n: int) -> np.ndarray:
    """The order in which C++'s std::sort leaves n items none of which is below another: (n,).

    Each round of its quicksort takes the middle one to the front and turns the rest around; runs
    of 16 stay. Source: __introsort_loop, bits/stl_algo.h of libstdc++.
    """
    order, waiting = np.arange(n), [(0, n)]
    while waiting:
        first, last = waiting.pop()
        if last - first <= 16:
            continue
        middle = first + (last - first) // 2
        order[[first, middle]] = order[[middle, first]]
        order[first + 1 : last] = order[first + 1 : last][::-1].copy()
        cut = first + 1 + (last - first - 1) // 2
        waiting += [(first, cut), (cut, last)]
    return order


def _sum_of_squares(x: np.ndarray) -> np.float32:
    """As C adds doubles to a float: of few terms to the bit, as two tokens lie on the very edge."""
    squares = x.astype(np.float64) ** 2
    if squares.size > FEW:
        return np.cumsum(squares.astype(np.float32))[-1]
    return np.float32(
        reduce(lambda so_far, y: float(np.float32(so_far + y)), squares.tolist(), 0.0)
    )


def _order(candidates: Candidates, k: int) -> np.ndarray:
    if candidates.sorted:
        return np.arange(min(k, len(candidates)))
    return largest_index(candidates.logits, k)
