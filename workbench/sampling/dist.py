"""The draw at the end of the chain: one token by its probability, from a Mersenne Twister.

Source: llama_sampler_dist_apply, src/llama-sampler.cpp; the generator is C++'s std::mt19937 and
std::uniform_real_distribution<double> (libstdc++). NumPy's legacy seeding makes the same stream,
so a seed gives the same picks here, in llama.cpp, and on every machine.
"""

import numpy as np

from .candidates import Candidates, exp_above_max


class Dist:
    """A seeded source of picks; its state moves on with every draw."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Return to the first draw of the seed."""
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
        return min(value, float(np.nextafter(1.0, 0.0)))  # rounding up to 1 is not allowed

    def pick(self, candidates: Candidates) -> int:
        """Draw one candidate.

        A single candidate is taken without drawing a number, as in llama.cpp.
        Returns its position in `candidates`.
        """
        if len(candidates) == 1:
            return 0
        running = np.cumsum(exp_above_max(candidates.logits), dtype=np.float64)
        position = int(np.searchsorted(running, running[-1] * self.uniform(), side="left"))
        return min(position, len(candidates) - 1)
