"""The sampler chain: stages in order, a report on each, and the draw at the end.

    logits ▶ stage ▶ stage ▶ … ▶ candidates ▶ draw ▶ token ▶ grammar allows it?  yes ▶ done
                                                                   no: once more, with all
                                                                   tokens banned that it refuses

Source: common_sampler_sample, common/sampling.cpp in llama.cpp. Leaves out: which stages there
are for some settings (`assembly.py`).
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import ParameterError
from .assembly import stages_of
from .candidates import Candidates, candidates_from
from .params import SamplingParams
from .report import StageReport, report_on
from .stages import Stage, dist
from .stages.stage import seed_of, unchanged

if TYPE_CHECKING:
    from ..tokenizer.tokenizer import Tokenizer

__all__ = ["Grammar", "SamplerChain", "StageReport"]


class Grammar(Protocol):
    """Which tokens may come next, as the text grows."""

    is_finished: bool

    def allows(self, token_id: int) -> bool:
        """Whether a token may come next."""

    def mask(self) -> np.ndarray:
        """Which tokens may come next, (n_vocab,) bool."""

    def accept(self, token_id: int) -> None:
        """Go on behind a token."""

    def fork(self) -> "Grammar":
        """An independent copy in the same state."""

    def reset(self) -> None:
        """Return to the start of the text."""


class SamplerChain:
    """Turns logits into a token, stage by stage.

    settings: a SamplingParams (llama.cpp's order of stages), or the stages themselves in the order
    wanted; the last one may be one that picks the token, else it is drawn by probability.
    seed: of all draws; by default that of the params or stages, or 0 where these have none.
    tokenizer: finds the breakers of DRY, where that is on. grammar: tokens that it refuses are
    drawn again among those that it allows.

    What it remembers between tokens (random numbers, Mirostat's mu, adaptive-p's past, the place
    in the grammar) moves on in `sample` and `accept`; `apply` and `explain` never change it.
    """

    def __init__(
        self,
        settings: SamplingParams | Sequence[Stage] | None = None,
        seed: int | None = None,
        tokenizer: "Tokenizer | None" = None,
        grammar: Grammar | None = None,
    ) -> None:
        params = SamplingParams() if settings is None else settings
        if isinstance(params, SamplingParams):
            stages, last = stages_of(params, tokenizer)
        else:
            stages, last = _parted(_checked(params))
        self.stages: tuple[Stage, ...] = tuple(stage.fork() for stage in stages)
        self.last = last.fork()
        self.grammar = grammar
        self._proposed: tuple[Candidates, Candidates] | None = None
        for stage in (*self.stages, self.last):
            if stage.memory is not None:
                stage.memory.reset()
                if seed is not None:
                    stage.memory.reseed(seed_of("SamplerChain", seed))

    @property
    def seed(self) -> int:
        """The seed of the draw."""
        return self.last.memory.seed

    def __repr__(self) -> str:
        last = f"{self.last.name}(seed={self.seed})" if self.last.name == "dist" else self.last
        shown = [str(stage) for stage in self.stages if not stage.off]
        return f"SamplerChain({' -> '.join([*shown, str(last)])})"

    def apply(self, logits: np.ndarray, history: Sequence[int] = ()) -> Candidates:
        """Run all stages.

        logits: (n_vocab,) float32 of the next token. history: token ids so far, oldest first.
        Returns the candidates left; a grammar has no part in it.
        Raises ParameterError for NaN, +inf, only -inf, or another shape, and where the stages
        leave no token.
        """
        return self._run(candidates_from(logits), history)

    def explain(self, logits: np.ndarray, history: Sequence[int] = ()) -> list[StageReport]:
        """Run all stages and report on each; arguments and errors as in `apply`.

        A stage that picks the token is reported on where it changes the candidates, and a grammar
        at the end by what it would leave of them.

        Example: SamplerChain([top_p(0.5), top_k(40)]).explain(logits)[1].effect
        is "top_k 40 after top_p left 7: no effect" when seven tokens hold half of the
        probability.
        """
        reports, before, previous = [], candidates_from(logits), None
        for stage in self._changing():
            after = _applied(stage, before, history)
            reports.append(report_on(stage, before, after, previous, history))
            previous = previous if stage.off else stage.name
            before = after
        if self.grammar is not None:
            after = self._allowed(before, logits, history)
            stage = Stage("grammar", {}, unchanged)
            reports.append(report_on(stage, before, after, previous, history))
        return reports

    def sample(self, logits: np.ndarray, history: Sequence[int] = ()) -> tuple[int, Candidates]:
        """Run all stages, draw one token and accept it; arguments and errors as in `apply`.

        Returns the token id and the candidates it was drawn from.
        Raises ParameterError also where the grammar allows no token.
        """
        token_id, left = self._draw(candidates_from(logits), history)
        if self.grammar is not None and not self.grammar.allows(token_id):
            self.last.memory.refuse(token_id, *self._proposed)
            token_id, left = self._draw(self._masked(logits), history)
        self.accept(token_id)
        return token_id, left

    def accept(self, token_id: int) -> None:
        """Go on behind a token that was chosen elsewhere, among those of the last `apply`.

        `sample` accepts by itself.
        """
        if self._proposed is not None:
            self.last.memory.accept(token_id, *self._proposed)
            self._proposed = None
        if self.grammar is not None:
            self.grammar.accept(token_id)

    def generator_state(self) -> tuple[np.ndarray, int]:
        """The random generator's (624,) uint32 words and the place of the next one."""
        return self.last.memory.state()

    def skip(self) -> None:
        """Move the random generator on by one draw, made elsewhere from its state."""
        self.last.memory.uniform()

    @property
    def drawn(self) -> float | None:
        """The number in [0, 1) that chose the last token; None if no number was needed."""
        return self.last.memory.drawn

    def reset(self) -> None:
        """Return to the first token of the seed and of the grammar."""
        self._proposed = None
        for stage in (*self.stages, self.last):
            if stage.memory is not None:
                stage.memory.reset()
        if self.grammar is not None:
            self.grammar.reset()

    def fork(self) -> "SamplerChain":
        """An independent copy with the same state."""
        twin = copy.copy(self)
        twin.stages = tuple(stage.fork() for stage in self.stages)
        twin.last = self.last.fork()
        twin.grammar = None if self.grammar is None else self.grammar.fork()
        return twin

    def _changing(self) -> tuple[Stage, ...]:
        """The stages whose candidates may differ from what came in."""
        return self.stages if self.last.name in PLAIN else (*self.stages, self.last)

    def _run(self, candidates: Candidates, history: Sequence[int], use: bool = False) -> Candidates:
        """All stages; use: the random numbers that they need are used up."""
        for stage in self.stages:
            before, candidates = candidates, _applied(stage, candidates, history)
            if use and hasattr(stage.memory, "passed"):
                stage.memory.passed(before)
        left = _applied(self.last, candidates, history)
        self._proposed = candidates, left
        return left

    def _draw(self, candidates: Candidates, history: Sequence[int]) -> tuple[int, Candidates]:
        left = self._run(candidates, history, use=True)
        return int(left.ids[self.last.memory.pick(left)]), left

    def _masked(self, logits: np.ndarray) -> Candidates:
        """All tokens, those that the grammar refuses at -inf."""
        whole = candidates_from(logits)
        allowed = np.asarray(self.grammar.mask(), bool)
        if allowed.shape != whole.ids.shape:
            raise ParameterError(
                f"grammar: made for another vocabulary; expected a mask of {len(whole)} tokens, "
                f"got {allowed.shape}"
            )
        masked = np.where(allowed, whole.logits, np.float32(-np.inf))
        if np.isneginf(masked.max()):
            raise ParameterError(
                "grammar: no token of this vocabulary may come next; expected at least one "
                "continuation, got none; a text that is finished needs no other token"
            )
        return candidates_from(masked)

    def _allowed(self, left: Candidates, logits: np.ndarray, history: Sequence[int]) -> Candidates:
        """The candidates that a grammar leaves, or those of the second try where it leaves none."""
        good = np.asarray(self.grammar.mask(), bool)[left.ids] & (left.logits > -np.inf)
        if good.any():
            return left.keep(good)
        candidates = self._masked(logits)
        for stage in self._changing():
            candidates = _applied(stage, candidates, history)
        return candidates


PLAIN = frozenset({"dist", "greedy"})  # they pick, and leave the candidates as they are


def _applied(stage: Stage, before: Candidates, history: Sequence[int]) -> Candidates:
    """What a stage leaves; an error that names it where that is nothing."""
    after = stage.apply(before, history)
    if after is before or np.isfinite(best := after.logits.max()):
        return after
    raise ParameterError(
        f"{stage.name}: leaves no token that can be drawn; expected a finite logit, got {best} as "
        f"the largest of {len(after)}; weaken this sampler"
    )


def _parted(stages: tuple[Stage, ...]) -> tuple[tuple[Stage, ...], Stage]:
    """The stages before the draw, and the one that picks."""
    for stage in stages[:-1]:
        if stage.picks:
            raise ParameterError(
                f"SamplerChain: {stage.name} picks the token; expected it as the last stage, got "
                f"{stages[-1].name} behind it"
            )
    if stages and stages[-1].picks:
        return stages[:-1], stages[-1]
    return stages, dist(0)


def _checked(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    what = "SamplerChain: not a list of stages; expected SamplingParams or stages such as"
    if not isinstance(stages, Sequence) or isinstance(stages, str | bytes):
        raise ParameterError(f"{what} [stages.top_k(40)], got {type(stages).__name__}")
    for stage in stages:
        if not isinstance(stage, Stage):
            raise ParameterError(f"{what} [stages.top_k(40)], got {stage!r} in it")
    return tuple(stages)
