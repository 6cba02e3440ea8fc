"""The sampler chain: stages in order, a report on each, and the draw at the end.

Source: order of common_sampler_init, common/sampling.cpp in llama.cpp, for the samplers that
`stages.py` has: top_k, top_p, min_p, temp, then dist.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ParameterError
from . import stages as _stages
from .candidates import Candidates, candidates_from
from .dist import Dist
from .params import SamplingParams


@dataclass(frozen=True, eq=False)
class StageReport:
    """What one stage did to the candidates.

    name, params: of the stage. before, after: the candidates that entered and left it.
    kept, removed: token ids, (n,) int32; a token that the stage sets to -inf counts as removed.
    effect: the same in one sentence.
    """

    name: str
    params: dict[str, float]
    before: Candidates
    after: Candidates
    kept: np.ndarray
    removed: np.ndarray
    effect: str

    @property
    def n_before(self) -> int:
        """Number of tokens with a finite logit that entered."""
        return len(self.kept) + len(self.removed)

    @property
    def probs_before(self) -> np.ndarray:
        """Probabilities of `before.ids`, (n,) float32."""
        return self.before.probs

    @property
    def probs_after(self) -> np.ndarray:
        """Probabilities of `after.ids`, (n,) float32."""
        return self.after.probs

    @property
    def entropy_before(self) -> float:
        """Entropy in nats of what entered."""
        return self.before.entropy

    @property
    def entropy_after(self) -> float:
        """Entropy in nats of what is left."""
        return self.after.entropy


class SamplerChain:
    """Turns logits into a token, stage by stage.

    settings: a SamplingParams (llama.cpp's order of stages), or the stages themselves in the order
    wanted.
    seed: of the draw; by default that of the params, or 0 with a list of stages.

    The only state is the random generator of `sample`; `apply` and `explain` do not touch it.
    """

    def __init__(
        self,
        settings: SamplingParams | Sequence[_stages.Stage] | None = None,
        seed: int | None = None,
    ) -> None:
        params = SamplingParams() if settings is None else settings
        if isinstance(params, SamplingParams):
            self.stages = stages_of(params)
            seed = params.seed if seed is None else seed
        else:
            self.stages = _checked(params)
        self._dist = Dist(SamplingParams(seed=0 if seed is None else seed).seed)

    @property
    def seed(self) -> int:
        """The seed of the draw."""
        return self._dist.seed

    def __repr__(self) -> str:
        return f"SamplerChain({' -> '.join(map(str, [*self.stages, f'dist(seed={self.seed})']))})"

    def apply(self, logits: np.ndarray, history: Sequence[int] = ()) -> Candidates:
        """Run all stages.

        logits: (n_vocab,) float32 of the next token. history: token ids so far, oldest first.
        Returns the candidates left. Raises ParameterError for NaN, +inf, only -inf, or another
        shape.
        """
        candidates = candidates_from(logits)
        for stage in self.stages:
            candidates = stage.apply(candidates, history)
        return candidates

    def explain(self, logits: np.ndarray, history: Sequence[int] = ()) -> list[StageReport]:
        """Run all stages and report on each; arguments and errors as in `apply`.

        Example: SamplerChain([top_p(0.5), top_k(40)]).explain(logits)[1].effect
        is "top_k(k=40) after top_p left 7: no effect" when seven tokens hold half of the
        probability.
        """
        reports, before = [], candidates_from(logits)
        for stage in self.stages:
            after = stage.apply(before, history)
            previous = reports[-1].name if reports else None
            reports.append(_report(stage, before, after, previous))
            before = after
        return reports

    def sample(self, logits: np.ndarray, history: Sequence[int] = ()) -> tuple[int, Candidates]:
        """Run all stages and draw one token; arguments and errors as in `apply`.

        Returns the token id and the candidates it was drawn from.
        """
        candidates = self.apply(logits, history)
        return int(candidates.ids[self._dist.pick(candidates)]), candidates

    def generator_state(self) -> tuple[np.ndarray, int]:
        """The random generator's (624,) uint32 words and the place of the next one."""
        return self._dist.state()

    def skip(self) -> None:
        """Move the random generator on by one draw, made elsewhere from its state."""
        self._dist.uniform()

    def reset(self) -> None:
        """Return the random generator to its seed."""
        self._dist.reset()


def stages_of(params: SamplingParams) -> tuple[_stages.Stage, ...]:
    """The stages that llama.cpp builds from these settings, in its order."""
    return (
        _stages.top_k(params.top_k),
        _stages.top_p(params.top_p, params.min_keep),
        _stages.min_p(params.min_p, params.min_keep),
        _stages.temp(params.temperature),
    )


def _checked(stages: Sequence[_stages.Stage]) -> tuple[_stages.Stage, ...]:
    what = "SamplerChain: not a list of stages; expected SamplingParams or stages such as"
    if not isinstance(stages, Sequence) or isinstance(stages, str | bytes):
        raise ParameterError(f"{what} [stages.top_k(40)], got {type(stages).__name__}")
    for stage in stages:
        if not isinstance(stage, _stages.Stage):
            raise ParameterError(f"{what} [stages.top_k(40)], got {stage!r} in it")
    return tuple(stages)


def _report(
    stage: _stages.Stage, before: Candidates, after: Candidates, previous: str | None
) -> StageReport:
    alive = before.ids[before.logits > -np.inf]
    kept = after.ids[after.logits > -np.inf]
    removed = alive[~np.isin(alive, kept)]
    effect = _effect(stage, before, after, removed, previous)
    return StageReport(stage.name, dict(stage.params), before, after, kept, removed, effect)


def _effect(
    stage: _stages.Stage,
    before: Candidates,
    after: Candidates,
    removed: np.ndarray,
    previous: str | None,
) -> str:
    n_before = int(np.count_nonzero(before.logits > -np.inf))
    if removed.size:
        share = float(before.probs[np.isin(before.ids, removed)].sum(dtype=np.float64))
        kept = f"{stage}: kept {n_before - removed.size} of {n_before} tokens"
        return f"{kept}, removed {share:.2%} of the probability"
    if np.array_equal(np.sort(before.logits), np.sort(after.logits)):
        left = f" after {previous} left {n_before}" if previous else f" on {n_before} tokens"
        return f"{stage}{left}: no effect"
    entropy = f"entropy {before.entropy:.3f} -> {after.entropy:.3f} nats"
    return f"{stage}: kept all {n_before} tokens, {entropy}"
