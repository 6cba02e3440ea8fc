"""Samplers that move all logits: temperatures.

Source: src/llama-sampler.cpp in llama.cpp, by the function named in each docstring;
`entropy_guided` is ours. Leaves out: adaptive_p, which chooses the token too (`drawing.py`).
"""

import numpy as np

from ..candidates import Candidates, float32_log, largest
from .stage import History, Stage, real, share, stage


def temp(t: float) -> Stage:
    """Divide the logits by t: below 1 sharpens, above 1 flattens, t <= 0 is greedy.

    Greedy keeps every candidate, as llama.cpp does, and sets all logits but the largest to -inf.

    Source: llama_sampler_temp_impl.
    """
    t = real("temp", "t", t)

    def apply(candidates: Candidates, history: History) -> Candidates:
        return _divided(candidates, t)

    return stage("temp", apply, "temperature 1: off" if t == 1 else None, t=t)


def temp_ext(t: float, delta: float = 0.0, exponent: float = 1.0) -> Stage:
    """A temperature between t - delta and t + delta, the higher the flatter the distribution is.

    The share of the largest possible entropy, to the power of `exponent`, tells where between.
    delta <= 0 is `temp(t)`. Also called dynamic temperature.
    Source: llama_sampler_temp_ext_apply.
    """
    t, delta = real("temp_ext", "t", t), real("temp_ext", "delta", delta)
    exponent = real("temp_ext", "exponent", exponent)
    middle, width = np.float32(t), np.float32(delta)
    low, high = max(np.float32(0), middle - width), middle + width

    def apply(candidates: Candidates, history: History) -> Candidates:
        if width <= 0:
            return _divided(candidates, t)
        if len(candidates) <= 1:
            return candidates
        ordered = largest(candidates, len(candidates))
        share_of_most = _entropy(ordered.probs) / -float32_log(np.float32(1) / len(ordered))
        with np.errstate(all="ignore"):  # 0 to a negative power
            power = np.float32(np.power(float(share_of_most), float(np.float32(exponent))))
            return _divided(ordered, low + (high - low) * power)

    off = "temperature 1: off" if t == 1 and width <= 0 else None
    return stage("temp_ext", apply, off, t=t, delta=delta, exponent=exponent)


def entropy_guided(entropy: float, varentropy: float = 2.5, strength: float = 0.5) -> Stage:
    """Look at how sure the model is, and of how many minds, and choose temperature and cut by it.

    The surprise of a token is -ln p; its mean is the entropy H (nats), its variance the
    varentropy V (nats squared).

                    V < varentropy                  V >= varentropy
      H < entropy   sure: the best token alone      a fork: temperature 1 + strength
      H >= entropy  open: as it is                  lost: no token more surprising than H + √V,
                                                    then temperature 1 / (1 + strength)

    entropy: 0 is off. The cut of a lost model always leaves the most probable token, whose
    surprise is never above H.
    Source: the four moods of entropix, https://github.com/xjdr-alt/entropix, which also asks back
    and looks at attention; the cut at one standard deviation is ours.
    """
    entropy = share("entropy_guided", "entropy", entropy)
    varentropy = share("entropy_guided", "varentropy", varentropy)
    strength = share("entropy_guided", "strength", strength)

    def apply(candidates: Candidates, history: History) -> Candidates:
        mood, h, v = mood_of(candidates, entropy, varentropy)
        if mood == "sure":
            return largest(candidates, 1)
        if mood == "fork":
            return _divided(candidates, 1 + strength)
        if mood == "open":
            return candidates
        kept = candidates.keep(_surprises(candidates) <= h + np.sqrt(v))
        return _divided(kept, 1 / (1 + strength))

    off = "entropy_threshold 0: off" if entropy == 0 else None
    params = {"entropy": entropy, "varentropy": varentropy, "strength": strength}
    return stage("entropy_guided", apply, off, **params)


def mood_of(candidates: Candidates, entropy: float, varentropy: float) -> tuple[str, float, float]:
    """ "sure", "fork", "open" or "lost" as `entropy_guided` pictures them, with H and V."""
    p = candidates.probs.astype(np.float64)
    surprise = np.where(p > 0, _surprises(candidates), 0)
    h = float((p * surprise).sum())
    v = float((p * (surprise - h) ** 2).sum())
    names = ("fork" if h < entropy else "lost", "sure" if h < entropy else "open")
    return names[v < varentropy], h, v


def _surprises(candidates: Candidates) -> np.ndarray:
    """-ln p of every candidate, (n,) float64; inf where p is 0."""
    with np.errstate(divide="ignore"):
        return -np.log(candidates.probs.astype(np.float64))


def _divided(candidates: Candidates, t: float) -> Candidates:
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


def _entropy(probs: np.ndarray) -> np.float32:
    """In nats, float32, one term after another."""
    p = probs[probs > 0]
    return np.cumsum(p * -float32_log(p))[-1]
