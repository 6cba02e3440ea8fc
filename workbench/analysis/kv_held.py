"""What one layer of a KV cache holds while tokens come one after another and a policy makes room.

    token n comes ─► more than budget - 1 held? the policy chooses ─► n's shares over what is held
                                                                      scaled up to what they were

Source: our own. Leaves out: the policies (`kv_policies.py`), and where the shares come from: a
recorded run or a model (`kv_eviction.py`).
"""

from typing import Any

import numpy as np

from ..errors import ParameterError
from .kv_policies import N_OBSERVED, Policy, Seen

__all__ = ["HeldPositions"]


class HeldPositions:
    """What one layer of a cache holds while a text goes through it, one token after another."""

    def __init__(self, policy: Policy, budget: int, n_prompt: int, n: int, seed: Any):
        """n: positions of the text; n_prompt: of them before the policy begins."""
        self._policy, self._budget, self._n_prompt, self._n = policy, budget, n_prompt, n
        self._rng = np.random.default_rng(seed)
        self.n_seen = 0
        self.gone_at: np.ndarray | None = None  # arrays come with the first key

    def add_key_norms(self, norms: np.ndarray) -> None:
        """norms: (T, K), of the tokens that are about to come."""
        if self.gone_at is None:
            self._take_arrays(norms.shape[1])
        self._key_norm[:, self.n_seen : self.n_seen + len(norms)] = norms.T

    def see(self, shares: np.ndarray, has_sink: bool) -> np.ndarray:
        """Take the next token: make room for it, and let it see only what is held.

        shares: (H, n_seen + 1) float32 over all positions; changed to those over what is held.
        has_sink: whether a part of them goes to no position. Returns: (H,) float64, the share lost.
        """
        n, n_kv = self.n_seen, len(self.gone_at)
        if n >= self._n_prompt:
            self._make_room(n)
        held = self.gone_at[:, : n + 1] > n  # (K, n + 1)
        by_kv = shares.reshape(n_kv, -1, n + 1)
        lost = np.zeros(len(shares))
        if not held.all():
            lost = _drop(by_kv, held, has_sink).ravel()
        grouped = by_kv.mean(axis=1)
        self._total[:, : n + 1] += grouped
        self._remember(grouped)
        self.n_seen += 1
        return lost

    def _make_room(self, n: int) -> None:
        held = self.gone_at[:, :n] > n
        if held.sum(axis=1).max(initial=0) < self._budget:
            return
        last = self._last[max(0, self._n_last - N_OBSERVED) : self._n_last, :, :n]
        seen = Seen(held, self._total[:, :n], last, self._key_norm[:, :n])
        try:
            choice = self._policy(seen, self._budget, self._rng)
        except Exception as error:  # a function of the user's may raise anything
            name = getattr(self._policy, "__name__", "own policy")
            raise ParameterError(
                f"policy: {name} failed at position {n}; expected {held.shape} bool, got "
                f"{type(error).__name__}: {error}"
            ) from error
        keep = _checked_choice(choice, held, self._budget)
        self.gone_at[:, :n][held & ~keep] = n

    def _take_arrays(self, n_kv: int) -> None:
        self.gone_at = np.full((n_kv, self._n), self._n, np.int64)
        self._total, self._key_norm = (np.zeros((n_kv, self._n), np.float32) for _ in range(2))
        self._last = np.zeros((2 * N_OBSERVED, n_kv, self._n), np.float32)
        self._n_last = 0

    def _remember(self, grouped: np.ndarray) -> None:
        """Shares (K, n) of one more token; the last N_OBSERVED always lie side by side."""
        if self._n_last == len(self._last):
            self._last[:N_OBSERVED] = self._last[N_OBSERVED:]
            self._n_last = N_OBSERVED
        self._last[self._n_last] = 0
        self._last[self._n_last, :, : grouped.shape[1]] = grouped
        self._n_last += 1


def _drop(by_kv: np.ndarray, held: np.ndarray, has_sink: bool) -> np.ndarray:
    """Take shares (K, H/K, n) off the positions not held (K, n), scale up the rest; what was lost.

    Returns: (K, H/K) float64.
    """
    whole = by_kv.sum(axis=2, dtype=np.float64)
    by_kv *= held[:, None]
    left = by_kv.sum(axis=2, dtype=np.float64)
    rest = np.maximum(1 - whole, 0) if has_sink else 0.0  # what goes to no position stays
    total = left + rest
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)  # 0: nothing is left
    by_kv[...] = by_kv * scale[:, :, None]
    return np.maximum(whole - left, 0) / np.maximum(whole, np.finfo(np.float64).tiny)


def _checked_choice(keep: Any, held: np.ndarray, budget: int) -> np.ndarray:
    keep = np.asarray(keep)
    if keep.shape != held.shape or keep.dtype != bool:
        raise ParameterError(
            f"policy: returned no choice; expected {held.shape} bool, got {keep.dtype} {keep.shape}"
        )
    if (keep & ~held).any() or keep.sum(axis=1).max(initial=0) >= budget:
        raise ParameterError(
            f"policy: keeps what it may not; expected at most {budget - 1} of the positions held, "
            f"got {int(keep.sum(axis=1).max())}, {int((keep & ~held).sum())} of them gone before"
        )
    return keep
