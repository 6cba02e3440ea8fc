"""The tokens that may still be chosen: ids, logits, and the softmax over what is left.

Mirrors the roles of llama.cpp's `llama_token_data_array` (include/llama.h): an ordered list with a
flag that says whether it runs from the largest logit down. Where llama.cpp leaves the order of
equal logits open, the earlier candidate comes first here: one seed gives one text everywhere.

Leaves out: which token is picked (`dist.py`) and what removes candidates (`stages/`).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import ParameterError

SORT_WORDS_FROM = 2048


@dataclass(frozen=True, eq=False)
class Candidates:
    """Tokens that are left, in llama.cpp's order.

    ids: (n,) int32, token ids. logits: (n,) float32. probs: (n,) float32, softmax over exactly
    these candidates and the tail. sorted: True when the logits fall from first to last.
    tail: the sum of exp(logit - largest logit) of candidates that are left but not listed; 0 but
    where a GPU lists the most probable of very many.
    """

    ids: np.ndarray
    logits: np.ndarray
    sorted: bool = False
    tail: float = 0.0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def probs(self) -> np.ndarray:
        """Probability of each candidate among those left, (n,) float32."""
        return softmax(self.logits, self.tail)

    @cached_property
    def entropy(self) -> float:
        """Entropy of `probs` in nats; what is not listed adds nothing."""
        p = self.probs[self.probs > 0].astype(np.float64)
        return max(0.0, float(-(p * np.log(p)).sum()))

    def keep(self, index: np.ndarray | slice, sorted: bool | None = None) -> "Candidates":
        """The candidates at `index`, in that order; `sorted` as before unless given."""
        flag = self.sorted if sorted is None else sorted
        return Candidates(self.ids[index], self.logits[index], flag)

    def places_of(self, token_ids: np.ndarray) -> np.ndarray:
        """Where tokens stand among the candidates, -1 for those that do not: (n,) int -> (n,)."""
        wanted = np.asarray(token_ids, np.int64)
        inside = (wanted >= 0) & (wanted < len(self))
        at = np.where(inside, wanted, 0)  # in a whole vocabulary a token stands at its id
        at = np.where(inside & (self.ids[at] == wanted), at, -1)
        missing = np.flatnonzero(at < 0)
        if missing.size:
            place = np.full(int(self.ids.max()) + 1, -1)
            place[self.ids] = np.arange(len(self))
            known = missing[(wanted[missing] >= 0) & (wanted[missing] < place.size)]
            at[known] = place[wanted[known]]
        return at


def candidates_from(logits: np.ndarray) -> Candidates:
    """All tokens of the vocabulary in id order.

    logits: (n_vocab,) real numbers; -inf bans a token.
    Raises ParameterError for another shape, NaN, +inf, or when every token is banned.
    """
    try:
        x = np.asarray(logits)
        if x.dtype.kind not in "fiu":
            x = x.astype(np.float32)  # bfloat16 and the like
        x = x.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            "logits: not an array of numbers; expected (n_vocab,) float32, "
            f"got {type(logits).__name__}"
        ) from error
    if x.ndim != 1 or x.size == 0:
        raise ParameterError(
            f"logits: wrong shape; expected (n_vocab,) with at least one token, got {x.shape}; "
            "pass one row, for example logits[-1]"
        )
    top = x.max()  # NaN if any value is NaN
    if np.isnan(top) or np.isposinf(top):
        bad = int(np.flatnonzero(~(x < np.inf))[0])
        raise ParameterError(
            f"logits: token {bad} has logit {x[bad]}; expected finite numbers (or -inf for a "
            "banned token); look for overflow in the forward pass that made them"
        )
    if np.isneginf(top):
        raise ParameterError(
            f"logits: all {x.size} tokens are banned (-inf); expected at least one finite logit"
        )
    return Candidates(np.arange(x.size, dtype=np.int32), x)


def exp_above_max(logits: np.ndarray) -> np.ndarray:
    """exp(logit - max) as float32, each rounded once as C's expf is: (n,) -> (n,) float32.

    Going through float64 makes the terms the same on every machine; NumPy's float32 exp differs
    between CPUs.
    """
    return np.exp((logits - logits.max()).astype(np.float64)).astype(np.float32)


def softmax(logits: np.ndarray, tail: float = 0.0) -> np.ndarray:
    """Softmax in float32, summed one after another: (n,) float32 -> (n,) float32.

    tail: what others add to the sum.
    Source: llama_sampler_softmax_impl, src/llama-sampler.cpp.
    """
    e = exp_above_max(logits)
    # cumsum adds in the order of the array, like the C loop; sum() pairs terms
    return e / (np.cumsum(e)[-1] + np.float32(tail))


def float32_log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm as float32, rounded once as C's logf is: (n,) float32 -> (n,) float32."""
    return np.log(np.asarray(x, np.float64)).astype(np.float32)


def largest(candidates: Candidates, k: int) -> Candidates:
    """The k candidates of largest logit, largest first; among equals the earlier one first.

    Source: llama_token_data_array_partial_sort_inplace, src/llama-sampler.cpp.
    """
    if candidates.sorted:
        return candidates if k >= len(candidates) else candidates.keep(slice(k))
    return candidates.keep(largest_index(candidates.logits, k), sorted=True)


def largest_index(logits: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest values, largest first, equals in order: (n,) -> (min(k, n),)."""
    n = logits.size
    if k >= n:
        return _falling(logits)
    edge = np.partition(logits, n - k)[n - k]  # the k-th largest value
    above = np.flatnonzero(logits > edge)
    ties = np.flatnonzero(logits == edge)[: k - above.size]
    chosen = np.concatenate([above, ties])  # still earlier first within equal logits
    return chosen[_falling(logits[chosen])]


def _falling(values: np.ndarray) -> np.ndarray:
    """Positions from the largest value down, equals in order: (n,) float32 -> (n,)."""
    if values.size < SORT_WORDS_FROM:
        return np.argsort(-values, kind="stable")
    # One sort of 64-bit words (value, position) is several times as fast as a stable argsort.
    # Bits of a float grow with it; a negative one's shrink, so they are flipped.
    bits = (-values + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    words = (rising << 32) | np.arange(values.size)
    words.sort()
    return words & 0xFFFFFFFF
