"""Which positions a smaller KV cache keeps: the published policies, each a small function.

    policy(seen, budget, rng) -> (K, n) bool          before the token at position n comes

    streaming_llm  the first 4 positions and the last ones            arXiv:2309.17453
    h2o            half: most attention so far; half: the last ones   arXiv:2306.14048
    snap_kv        what the last tokens look at, and those tokens     arXiv:2404.14469
    tova           what the last token looks at most                  arXiv:2401.06104
    key_norm       the shortest keys                                  arXiv:2406.11430
    random         any                            full  all, whatever the budget

A budget counts the coming token too: the policy keeps at most budget - 1 positions of those held,
so no token ever sees more than budget positions. It knows only what was known by then, and what is
gone stays gone. A KV head that several heads read is kept or dropped as one: their shares count as
their mean.
Left out: new numbers for the positions kept, as StreamingLLM gives them beyond the length that a
model was trained for: positions stay what they were.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ParameterError
from ..model.kv_run import N_SINK

__all__ = ["EVICTION_POLICIES", "N_OBSERVED", "Seen", "checked_budget", "eviction_policy"]

N_OBSERVED = 32  # of the last tokens' shares that are remembered: SnapKV's window
POOLED = 5  # neighbours whose votes SnapKV averages


@dataclass(frozen=True, eq=False)
class Seen:
    """What one layer knows before the token at position n comes: K KV heads, n positions.

    held: (K, n) bool, what is still there. total: (K, n) float32, the shares that each position got
    from all tokens so far. last: (w, K, n) float32, the shares that the last w tokens gave, w up to
    N_OBSERVED, oldest first. key_norm: (K, n) float32.
    """

    held: np.ndarray
    total: np.ndarray
    last: np.ndarray
    key_norm: np.ndarray


Policy = Callable[[Seen, int, np.random.Generator], np.ndarray]


def streaming_llm(seen: Seen, budget: int, rng: np.random.Generator) -> np.ndarray:
    """The first 4 positions, the attention sinks, and a window of the last ones.

    Source: Xiao et al., arXiv:2309.17453, section 3.2.
    """
    n = seen.held.shape[1]
    position = np.arange(n)
    return seen.held & ((position < N_SINK) | (position > n - (budget - N_SINK)))


def h2o(seen: Seen, budget: int, rng: np.random.Generator) -> np.ndarray:
    """Heavy hitters, which got the most attention in sum, for half of the budget; the last ones.

    Source: Zhang et al., arXiv:2306.14048, algorithm 1; half and half as in section 5.
    """
    n, n_heavy = seen.held.shape[1], budget // 2
    recent = np.arange(n) > n - (budget - n_heavy)
    return _best(seen.total, seen.held & ~recent, n_heavy) | (seen.held & recent)


def snap_kv(seen: Seen, budget: int, rng: np.random.Generator) -> np.ndarray:
    """What the tokens of an observation window look at, votes pooled over 5 neighbours; the window.

    The window takes half of the budget, up to 32 tokens. The paper votes once, where the prompt
    ends, and keeps all that follows; here the vote is held again for each token that follows, so
    that the budget holds.
    Source: Li et al., arXiv:2404.14469, section 4 and listing 1.
    """
    n = seen.held.shape[1]
    window = np.arange(n) >= n - min(N_OBSERVED, budget // 2)
    n_window = int(window.sum())
    votes = seen.last[len(seen.last) - n_window :].sum(axis=0) * ~window  # (K, n)
    around = np.pad(votes, ((0, 0), (POOLED // 2, POOLED // 2)))
    pooled = around[:, :n].copy()
    for offset in range(1, POOLED):  # one after another: equal votes stay equal to the bit
        pooled += around[:, offset : offset + n]
    others = _best(pooled / POOLED, seen.held & ~window, budget - 1 - n_window)
    return others | (seen.held & window)


def tova(seen: Seen, budget: int, rng: np.random.Generator) -> np.ndarray:
    """What the last token gave the most attention to, mean over all heads of the layer.

    Source: Oren et al., arXiv:2401.06104, section 3.3.
    """
    scores = np.broadcast_to(seen.last[-1].mean(axis=0), seen.held.shape)
    return _best(scores, seen.held, budget - 1)


def key_norm(seen: Seen, budget: int, rng: np.random.Generator) -> np.ndarray:
    """The keys of the smallest Euclidean norm, which tend to get the most attention.

    Source: Devoto et al., arXiv:2406.11430, section 3.
    """
    return _best(-seen.key_norm, seen.held, budget - 1)


def random(seen: Seen, budget: int, rng: np.random.Generator) -> np.ndarray:
    """Any positions, each KV head its own: what every other policy has to beat."""
    return _best(rng.random(seen.held.shape), seen.held, budget - 1)


def full(seen: Seen, budget: int, rng: np.random.Generator) -> np.ndarray:
    """All positions, whatever the budget."""
    return seen.held


EVICTION_POLICIES: dict[str, Policy] = {
    policy.__name__: policy
    for policy in (streaming_llm, h2o, snap_kv, tova, key_norm, random, full)
}


def eviction_policy(policy: str | Policy) -> tuple[str, Policy]:
    """A policy's name and function. policy: a name of EVICTION_POLICIES, or a function of yours.

    Raises: ParameterError for anything else.
    """
    if isinstance(policy, str) and policy in EVICTION_POLICIES:
        return policy, EVICTION_POLICIES[policy]
    if callable(policy):
        return getattr(policy, "__name__", "own policy"), policy
    near = difflib.get_close_matches(str(policy), EVICTION_POLICIES, 1)
    raise ParameterError(
        f"policy: no such way to evict; expected one of {', '.join(EVICTION_POLICIES)}, or a "
        f"function (seen, budget, rng) -> kept, got {policy!r}"
        + (f"; did you mean {near[0]!r}?" if near else "")
    )


def checked_budget(name: str, budget: int) -> int:
    """A budget that a policy can work with. Raises: ParameterError for any other."""
    least = N_SINK + 1 if name == "streaming_llm" else 1
    whole = isinstance(budget, int | np.integer) and not isinstance(budget, bool)
    if not whole or budget < least:
        why = f" ({N_SINK} sinks and the token itself)" if least > 1 else ""
        raise ParameterError(
            f"budget: no cache for {name}; expected at least {least} position"
            f"{'s' if least > 1 else ''}{why}, got {budget!r}; keep more"
        )
    return int(budget)


def _best(scores: np.ndarray, among: np.ndarray, n: int) -> np.ndarray:
    """(K, n) bool: the n best-scored positions of each row, the earlier of equal ones."""
    order = np.argsort(np.where(among, -scores, np.inf), axis=1, kind="stable")
    best = np.zeros(among.shape, bool)
    np.put_along_axis(best, order[:, :n], True, 1)
    return best & among
