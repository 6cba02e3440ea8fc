"""Chance: the Mersenne Twister behind every sampler that draws, and the draw by probability.

    seed ▶ 624 words of 32 bits ▶ w0 w1 w2 …       std::mt19937(seed)
    double()  (w0 + w1 * 2**32) / 2**64            std::uniform_real_distribution<double>
    single()  float32(w0) / 2**32                  std::uniform_real_distribution<float>

NumPy's legacy seeding makes the same words, so a seed gives the same picks here, in llama.cpp
(built with libstdc++), and on every machine: the logits alone decide.
Source: llama_sampler_dist_apply and llama_sample_dist, src/llama-sampler.cpp. Leaves out: samplers
that have more to remember (`stages/drawing.py`).
"""

import numpy as np

from .candidates import Candidates, exp_above_max

BELOW_ONE = float(np.nextafter(1.0, 0.0))
SINGLE_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


class Generator:
    """A seeded source of random numbers; its state moves on with every one."""

    def __init__(self, seed: int) -> None:
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start over with another seed, 0..2**32-1."""
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Return to the first number of the seed."""
        self._bits = np.random.MT19937()
        self._bits.state = np.random.RandomState(self.seed).get_state(legacy=False)

    def state(self) -> tuple[np.ndarray, int]:
        """The generator's 624 words, (624,) uint32, and the place of the next one."""
        state = self._bits.state["state"]
        return state["key"].astype(np.uint32), int(state["pos"])

    def uniform(self) -> float:
        """The next double in [0, 1), made of two 32-bit draws, the first one the low half."""
        low, high = self._bits.random_raw(2)
        value = (float(low) + float(high) * 2.0**32) / 2.0**64
        return min(value, BELOW_ONE)  # rounding up to 1 is not allowed

    def uniform_single(self) -> float:
        """The next float32 in [0, 1), made of one 32-bit draw."""
        value = float(np.float32(self._bits.random_raw())) / 2.0**32
        return min(value, SINGLE_BELOW_ONE)

    def next_single(self) -> float:
        """What `uniform_single` would give next; the state stays."""
        state = self._bits.state
        value = self.uniform_single()
        self._bits.state = state
        return value


class Dist(Generator):
    """Draws a candidate by its probability; has nothing to learn from what was drawn.

    drawn: the number in [0, 1) of the last draw, None if no number was needed.
    """

    drawn: float | None = None

    def pick(self, candidates: Candidates) -> int:
        """Draw one candidate.

        A number is used up even where there is a single candidate.
        Returns its position in `candidates`.
        """
        running = np.cumsum(exp_above_max(candidates.logits), dtype=np.float64)
        self.drawn = self.uniform()
        position = int(np.searchsorted(running, running[-1] * self.drawn, side="left"))
        return min(position, len(candidates) - 1)

    def pick_normalised(self, candidates: Candidates) -> int:
        """The same as std::discrete_distribution does it, with which mirostat and adaptive_p draw.

        Shares are divided by their sum first; a single candidate uses up no number.
        """
        self.drawn = None
        if len(candidates) == 1:
            return 0
        shares = candidates.probs.astype(np.float64)
        running = np.cumsum(shares / np.cumsum(shares)[-1])
        running[-1] = 1.0
        self.drawn = self.uniform()
        return int(np.searchsorted(running, self.drawn, side="left"))

    def accept(self, token_id: int, before: Candidates, after: Candidates) -> None:
        """Learn from the token chosen: nothing."""

    def refuse(self, token_id: int, before: Candidates, after: Candidates) -> None:
        """Learn from a token drawn that a grammar refused: nothing."""
