"""What a sampler is here: a name, its parameters, a function, and what it remembers, if anything.

Source: struct llama_sampler_i, include/llama.h; our shape of it. Leaves out: the samplers.
"""

import copy
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

from ...errors import ParameterError
from ..candidates import Candidates

History = Sequence[int]


class Memory(Protocol):
    """What a stage keeps from one token to the next.

    seed: of its generator. apply: as `Stage.apply`, and leaves the state alone. A stage that picks
    the token has `pick`, `accept` and `refuse` too (`dist.Dist` shows them); one that only draws
    a number each time has `passed`.
    """

    seed: int

    def apply(self, candidates: Candidates, history: History) -> Candidates:
        """The candidates that are left."""

    def reset(self) -> None:
        """Return to the first token."""

    def reseed(self, seed: int) -> None:
        """Return to the first token, with another seed."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a sampler chain.

    name: the sampler's name. params: its parameters. apply: (Candidates, history) -> Candidates,
    where history holds the token ids so far, oldest first; it never changes what is remembered.
    off: why it does nothing whatever comes, such as "top_k 0: off"; None if it does something.
    memory: what it remembers, None if nothing. picks: whether it chooses the token.
    """

    name: str
    params: Mapping[str, Any]
    apply: Callable[[Candidates, History], Candidates] = field(repr=False)
    off: str | None = None
    memory: Any = field(default=None, repr=False)
    picks: bool = False

    def __str__(self) -> str:
        shown = (f"{k}={_short(v)}" for k, v in self.params.items() if k not in QUIET or v)
        return f"{self.name}({', '.join(shown)})"

    @property
    def label(self) -> str:
        """The name, with the value where there is only one that matters: "top_k 40"."""
        values = [v for k, v in self.params.items() if k not in QUIET]
        single = len(values) == 1 and isinstance(values[0], numbers.Real)
        return f"{self.name} {values[0]:g}" if single else self.name

    def fork(self) -> "Stage":
        """An independent copy with the same memory; the stage itself where there is none."""
        if self.memory is None:
            return self
        memory = copy.deepcopy(self.memory)
        return replace(self, apply=memory.apply, memory=memory)


QUIET = frozenset({"min_keep", "n_vocab"})  # parameters that are not shown at their default


def stage(
    name: str, apply: Callable[[Candidates, History], Candidates], off: str | None, **params: Any
) -> Stage:
    """A stage that remembers nothing; one that is off returns its input."""
    return Stage(name, MappingProxyType(params), unchanged if off else apply, off)


def remembering(
    name: str, memory: Memory, off: str | None = None, picks: bool = False, **params: Any
) -> Stage:
    """A stage with a memory."""
    return Stage(name, MappingProxyType(params), memory.apply, off, memory, picks)


def unchanged(candidates: Candidates, history: History) -> Candidates:
    """What a stage does that is off."""
    return candidates


def real(place: str, name: str, value: object) -> float:
    """A finite number; another one is refused."""
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if good and math.isfinite(value):
        return float(value)
    raise ParameterError(
        f"{place}: {name} is not usable; expected a finite number, got {value!r:.80}"
    )


def share(place: str, name: str, value: object) -> float:
    """A number of 0 or more."""
    if (p := real(place, name, value)) >= 0:
        return p
    raise ParameterError(
        f"{place}: {name} is negative; expected a number from 0 to 1, got {value!r}"
    )


def whole(place: str, name: str, value: object) -> int:
    """A whole number."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    raise ParameterError(
        f"{place}: {name} is not usable; expected a whole number, got {value!r:.80}"
    )


def whole_from_zero(place: str, name: str, value: object) -> int:
    """A whole number of 0 or more."""
    if (n := whole(place, name, value)) >= 0:
        return n
    raise ParameterError(f"{place}: {name} is negative; expected 0 or more, got {value!r}")


def seed_of(place: str, value: object) -> int:
    """A seed of the Mersenne Twister."""
    if 0 <= (seed := whole(place, "seed", value)) < 2**32:
        return seed
    raise ParameterError(f"{place}: seed: expected a whole number below 2**32, got {value!r}")


def _short(value: object) -> str:
    if isinstance(value, numbers.Real):
        return f"{value:g}"
    return repr(value)
