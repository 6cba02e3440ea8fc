"""One factory for each sampler: candidates in, fewer (or rescaled) candidates out.

Names and parameters are llama.cpp's (`llama_sampler_init_*`, include/llama.h), the arithmetic is
that of src/llama-sampler.cpp: float32, summed in its order, so that the same tokens are left. A
value that turns a sampler off (k <= 0, top_p >= 1, min_p <= 0, t = 1) leaves the candidates
untouched. `SamplingParams` is stricter about ranges.

Leaves out: the draw itself (`dist.py`) and the order of the stages (`chain.py`).
"""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from ..errors import ParameterError
from .candidates import Candidates, largest, largest_index

History = Sequence[int]

# top_p looks at so many tokens before it sorts everything; they nearly always suffice
TOP_P_FIRST_LOOK = 256


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a sampler chain.

    name: the sampler's name. params: its parameters. apply: (Candidates, history) -> Candidates,
    where history holds the token ids so far, oldest first.
    """

    name: str
    params: Mapping[str, float]
    apply: Callable[[Candidates, History], Candidates] = field(repr=False)

    def __str__(self) -> str:
        shown = (f"{k}={v:g}" for k, v in self.params.items() if k != "min_keep" or v)
        return f"{self.name}({', '.join(shown)})"


def top_k(k: int) -> Stage:
    """Keep the k tokens of largest logit; k <= 0 keeps all.

    Source: llama_sampler_top_k_impl.
    """
    k = _whole("top_k", "k", k)

    def apply(candidates: Candidates, history: History) -> Candidates:
        return candidates if k <= 0 else largest(candidates, k)

    return _stage("top_k", apply, k=k)


def top_p(p: float, min_keep: int = 0) -> Stage:
    """Keep the most probable tokens until their probabilities reach p; p >= 1 keeps all.

    Also called nucleus sampling. min_keep: keep at least so many.
    Source: llama_sampler_top_p_apply; Holtzman et al., https://arxiv.org/abs/1904.09751.
    """
    p, min_keep = _probability("top_p", p), _min_keep("top_p", min_keep)
    wanted = np.float32(p)

    def apply(candidates: Candidates, history: History) -> Candidates:
        if wanted >= 1:
            return candidates
        for k in (TOP_P_FIRST_LOOK, len(candidates)):
            order = _order(candidates, max(k, min_keep))
            running = np.cumsum(candidates.probs[order])  # float32, one after another
            n_keep = max(int(np.searchsorted(running, wanted)) + 1, min_keep)
            if n_keep <= order.size:
                break
        return candidates.keep(order[:n_keep], sorted=True)

    return _stage("top_p", apply, p=p, min_keep=min_keep)


def min_p(p: float, min_keep: int = 0) -> Stage:
    """Keep tokens at least p times as probable as the most probable one; p <= 0 keeps all.

    min_keep: keep at least so many.
    Source: llama_sampler_min_p_apply; Nguyen et al., https://arxiv.org/abs/2407.01082.
    """
    p, min_keep = _probability("min_p", p), _min_keep("min_p", min_keep)
    wanted = np.float32(p)  # 0 where p is smaller than a float32 can be

    def apply(candidates: Candidates, history: History) -> Candidates:
        if wanted <= 0:
            return candidates
        floor = candidates.logits.max() + np.float32(math.log(wanted))
        enough = candidates.logits >= floor
        n_keep = max(int(np.count_nonzero(enough)), 1)  # the best one stays even if p > 1
        if not candidates.sorted and enough.any() and n_keep >= min_keep:
            return candidates.keep(enough)  # keeps the order, so still unsorted
        return largest(candidates, max(n_keep, min_keep))

    return _stage("min_p", apply, p=p, min_keep=min_keep)


def temp(t: float) -> Stage:
    """Divide the logits by t: below 1 sharpens, above 1 flattens, t <= 0 is greedy.

    Greedy keeps every candidate, as llama.cpp does, and sets all logits but the largest to -inf.

    Source: llama_sampler_temp_impl.
    """
    t = _real("temp", "t", t)

    def apply(candidates: Candidates, history: History) -> Candidates:
        if t == 1:
            return candidates
        if t > 0:
            with np.errstate(all="ignore"):  # a t so small that this overflows is greedy
                scaled = candidates.logits / np.float32(t)
            if np.isfinite(scaled.max()):
                return Candidates(candidates.ids, scaled, candidates.sorted)
        logits = np.full_like(candidates.logits, -np.inf)
        best = int(candidates.logits.argmax())  # the first one among equals
        logits[best] = candidates.logits[best]
        return Candidates(candidates.ids, logits, candidates.sorted)

    return _stage("temp", apply, t=t)


def _order(candidates: Candidates, k: int) -> np.ndarray:
    if candidates.sorted:
        return np.arange(min(k, len(candidates)))
    return largest_index(candidates.logits, k)


def _stage(name: str, apply: Callable[[Candidates, History], Candidates], **params: float) -> Stage:
    return Stage(name, MappingProxyType(params), apply)


def _real(stage: str, name: str, value: float) -> float:
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if good and math.isfinite(value):
        return float(value)
    raise ParameterError(f"{stage}: {name} is not usable; expected a finite number, got {value!r}")


def _probability(stage: str, value: float) -> float:
    if (p := _real(stage, "p", value)) >= 0:
        return p
    raise ParameterError(f"{stage}: p is negative; expected a number from 0 to 1, got {value!r}")


def _whole(stage: str, name: str, value: int) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    raise ParameterError(f"{stage}: {name} is not usable; expected a whole number, got {value!r}")


def _min_keep(stage: str, value: int) -> int:
    if (n := _whole(stage, "min_keep", value)) >= 0:
        return n
    raise ParameterError(f"{stage}: min_keep is negative; expected 0 or more, got {value!r}")
