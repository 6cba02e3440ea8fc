"""The last stage of a chain: it picks the token, and may learn from what was picked.

    dist         by probability                        greedy       the most probable
    mirostat     keeps the surprise of the text near tau: cuts harder when it was above
    adaptive_p   favours tokens whose probability is near a target, and makes up for the last ones

Source: src/llama-sampler.cpp in llama.cpp, by the function named in each docstring.
Leaves out: the generator (`dist.py`).
"""

import numpy as np

from ..candidates import Candidates, float32_log, largest
from ..dist import Dist
from .stage import History, Stage, real, remembering, seed_of, unchanged, whole

WIDTH, PEAK, SHARPNESS = np.float32(0.3), np.float32(5), np.float32(10)


def dist(seed: int = 0) -> Stage:
    """Draw by probability. seed: 0..2**32-1.

    Source: llama_sampler_dist_apply.
    """
    seed = seed_of("dist", seed)
    return remembering("dist", Draw(seed), picks=True, seed=seed)


def greedy() -> Stage:
    """Pick the largest logit, the first one among equals.

    Source: llama_sampler_greedy_apply.
    """
    return remembering("greedy", Greedy(0), picks=True)


def mirostat(
    seed: int = 0, tau: float = 5.0, eta: float = 0.1, m: int = 100, n_vocab: int | None = None
) -> Stage:
    """Keep the k most probable tokens, k such that the surprise of the text stays near tau bits.

    seed: of the draw. tau: the surprise aimed at. eta: how fast it learns. m: so many tokens tell
    how the probabilities fall. n_vocab: tokens of the model; by default those that come in.
    mu, the surprise allowed, starts at 2 * tau, and moves by -eta * (surprise - tau) with a token.
    Source: llama_sampler_mirostat_apply; Basu et al., https://arxiv.org/abs/2007.14966.
    """
    memory = Mirostat(*_learning("mirostat", seed, tau, eta), whole("mirostat", "m", m), n_vocab)
    params = {"seed": seed, "tau": tau, "eta": eta, "m": m, "n_vocab": n_vocab}
    return remembering("mirostat", memory, picks=True, **params)


def mirostat_v2(seed: int = 0, tau: float = 5.0, eta: float = 0.1) -> Stage:
    """Keep tokens of at most mu bits of surprise; arguments and mu as in `mirostat`.

    Source: llama_sampler_mirostat_v2_apply.
    """
    memory = MirostatV2(*_learning("mirostat_v2", seed, tau, eta))
    return remembering("mirostat_v2", memory, picks=True, seed=seed, tau=tau, eta=eta)


def adaptive_p(target: float, decay: float = 0.9, seed: int = 0) -> Stage:
    """Favour tokens of a probability near target; below 0 is `dist`.

    decay: how much of the past counts, at most 0.99. When the last tokens were more probable than
    the target, less probable ones are looked for, and the other way round.
    Source: llama_sampler_adaptive_p_apply.
    """
    target, decay = real("adaptive_p", "target", target), real("adaptive_p", "decay", decay)
    memory = AdaptiveP(target, decay, seed_of("adaptive_p", seed))
    off = f"adaptive_target {target:g}: off" if target < 0 else None
    params = {"target": target, "decay": decay, "seed": seed}
    return remembering("adaptive_p", memory, off, picks=True, **params)


class Draw(Dist):
    """`Dist` as a stage: every candidate stays."""

    def apply(self, candidates: Candidates, history: History) -> Candidates:
        """The candidates as they are."""
        return unchanged(candidates, history)


class Greedy(Draw):
    """Draws nothing."""

    def pick(self, candidates: Candidates) -> int:
        """Position of the largest logit."""
        return int(candidates.logits.argmax())


class MirostatV2(Dist):
    """mu, the surprise in bits that a token may have, and the draw."""

    def __init__(self, seed: int, tau: float, eta: float) -> None:
        self._tau, self._eta = np.float32(tau), np.float32(eta)
        super().__init__(seed)

    def reset(self) -> None:
        """Return to the first number and to mu = 2 * tau."""
        super().reset()
        self.mu = np.float32(2) * self._tau

    def apply(self, candidates: Candidates, history: History) -> Candidates:
        """The tokens, most probable first, whose surprise is at most mu; one at least."""
        ordered = largest(candidates, len(candidates))
        too_surprising = _bits(ordered.probs) > self.mu
        n_keep = int(too_surprising.argmax()) if too_surprising.any() else len(ordered)
        return ordered.keep(slice(max(n_keep, 1)))

    def pick(self, candidates: Candidates) -> int:
        """Draw one candidate."""
        return self.pick_normalised(candidates)

    def accept(self, token_id: int, before: Candidates, after: Candidates) -> None:
        """Move mu by how surprising the token was among those left."""
        at = int(after.places_of(np.array([token_id]))[0])
        if at >= 0:
            surprise = _bits(after.probs[at : at + 1])[0]
            self.mu = self.mu - self._eta * (surprise - self._tau)

    refuse = accept  # llama.cpp learns while it draws, so also from a token that is drawn again


class Mirostat(MirostatV2):
    """The same, where k follows from mu by Zipf's law."""

    def __init__(self, seed: int, tau: float, eta: float, m: int, n_vocab: int | None) -> None:
        super().__init__(seed, tau, eta)
        self._m, self._n_vocab = m, n_vocab

    def apply(self, candidates: Candidates, history: History) -> Candidates:
        """The k most probable tokens."""
        ordered = largest(candidates, len(candidates))
        return ordered.keep(slice(self._k(ordered)))

    def _k(self, ordered: Candidates) -> int:
        """k from the exponent s of Zipf's law in float32; 1 where it is no number."""
        n = max(min(self._m - 1, len(ordered) - 1), 0)
        p, rank = ordered.probs[: n + 1], np.arange(1, n + 1, dtype=np.float32)
        with np.errstate(all="ignore"):
            t = float32_log((rank + 1) / rank)
            b = float32_log(p[:-1] / p[1:])
            s = _sum(t * b) / _sum(t * t)
            epsilon = s - np.float32(1)
            n_vocab = np.float32(self._n_vocab or len(ordered))
            scale = np.float32(1) - _power(n_vocab, -epsilon)
            k = _power(epsilon * _power(np.float32(2), self.mu) / scale, np.float32(1) / s)
        return max(int(k), 1) if -(2.0**31) < k < 2.0**31 else 1


class AdaptiveP(Dist):
    """The probabilities of the last tokens, weighted, and the draw."""

    def __init__(self, target: float, decay: float, seed: int) -> None:
        self._target = np.float32(target)
        self._decay = np.float32(min(max(decay, 0.0), 0.99))
        super().__init__(seed)

    def reset(self) -> None:
        """Return to the first number and to a past that met the target."""
        super().reset()
        self._sum = self._target / (np.float32(1) - self._decay)
        self._weight = np.float32(1) / (np.float32(1) - self._decay)

    def apply(self, candidates: Candidates, history: History) -> Candidates:
        """All candidates, with the largest logits nearest to the probability looked for."""
        if self._target < 0:
            return candidates
        distance = np.abs((candidates.probs - self._wanted()) * (np.float32(1) / WIDTH))
        logits = PEAK - SHARPNESS * distance * distance / (np.float32(1) + distance)
        logits[np.isneginf(candidates.logits)] = -np.inf
        return Candidates(candidates.ids, logits, sorted=False)

    def _wanted(self) -> np.float32:
        target = min(max(self._target, np.float32(0)), np.float32(1))
        past = self._sum / self._weight
        return min(max(np.float32(2) * target - past, np.float32(0)), np.float32(1))

    def pick(self, candidates: Candidates) -> int:
        """Draw one candidate."""
        return self.pick_normalised(candidates)

    def accept(self, token_id: int, before: Candidates, after: Candidates) -> None:
        """Remember how probable the token was before its logit was moved."""
        at = int(before.places_of(np.array([token_id]))[0])
        if at >= 0 and self._target >= 0:
            self._sum = before.probs[at] + self._decay * self._sum
            self._weight = np.float32(1) + self._decay * self._weight


def _learning(place: str, seed: object, tau: object, eta: object) -> tuple[int, float, float]:
    return seed_of(place, seed), real(place, "tau", tau), real(place, "eta", eta)


def _bits(probs: np.ndarray) -> np.ndarray:
    """Surprise in bits, (n,) float32; inf where the probability is 0."""
    with np.errstate(divide="ignore"):
        return -np.log2(probs.astype(np.float64)).astype(np.float32)


def _power(base: np.float32, exponent: np.float32) -> np.float32:
    return np.float32(np.power(float(base), float(exponent)))


def _sum(terms: np.ndarray) -> np.float32:
    """In float32, one after another."""
    return np.cumsum(terms)[-1] if terms.size else np.float32(0)
