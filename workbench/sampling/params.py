"""The sampling settings of one run, under llama.cpp's names and defaults.

Source: struct common_params_sampling, common/common.h in llama.cpp. Two differences: its `temp` is
called `temperature` here, and the default seed is 0 instead of a random one, so that a notebook
gives the same text twice.

Leaves out: the settings whose samplers are not in `stages.py`.
"""

import math
import numbers
from dataclasses import dataclass

from ..errors import ParameterError


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen.

    temperature: >= 0, divides the logits; 0 = always the largest logit.
    top_k: >= 0, keep the k most probable tokens; 0 = whole vocabulary.
    top_p: 0..1, keep the fewest tokens whose probabilities reach p; 1 = off.
    min_p: 0..1, keep tokens at least min_p times as probable as the best one; 0 = off.
    min_keep: >= 0, top_p and min_p leave at least so many tokens.
    seed: 0..2**32-1, of the Mersenne Twister that draws; every value is used as it is.

    Raises ParameterError when a value is outside its range.
    """

    temperature: float = 0.80
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    min_keep: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_real("temperature", self.temperature, 0, math.inf, "0 is greedy, 0.8 the default")
        _check_whole("top_k", self.top_k, 2**31 - 1, "0 keeps the whole vocabulary")
        _check_real("top_p", self.top_p, 0, 1, "1 turns it off")
        _check_real("min_p", self.min_p, 0, 1, "0 turns it off")
        _check_whole("min_keep", self.min_keep, 2**31 - 1, "0 turns it off")
        _check_whole("seed", self.seed, 2**32 - 1, "any such number gives its own text")


def _check_real(name: str, value: object, low: float, high: float, hint: str) -> None:
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if good and math.isfinite(value) and low <= value <= high:
        return
    wanted = (
        f"a number from {low} to {high}" if high < math.inf else f"a finite number from {low} up"
    )
    raise ParameterError(f"{name}: out of range; expected {wanted}, got {value!r}; {hint}")


def _check_whole(name: str, value: object, high: int, hint: str) -> None:
    good = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if good and 0 <= value <= high:
        return
    raise ParameterError(
        f"{name}: out of range; expected a whole number from 0 to {high}, got {value!r}; {hint}"
    )
