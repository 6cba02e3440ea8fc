"""What one stage of a chain did, in numbers and in one sentence.

    top_p 0.95: kept 17 of 40 tokens, removed 4.71% of the probability
    min_p 0.05 after top_p left 17: no effect
    dry_multiplier 0: off

Source: our own. Leaves out: the stages (`stages/`) and their order (`chain.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .candidates import Candidates
from .stages import Stage
from .stages.bias import last_tokens
from .stages.scaling import mood_of


@dataclass(frozen=True, eq=False)
class StageReport:
    """What one stage did to the candidates.

    name, params: of the stage. before, after: the candidates that entered and left it.
    kept, removed: token ids, (n,) int32; a token that the stage sets to -inf counts as removed.
    effect: the same in one sentence. active: False where the settings turn the stage off.
    """

    name: str
    params: Mapping[str, Any]
    before: Candidates
    after: Candidates
    kept: np.ndarray
    removed: np.ndarray
    effect: str
    active: bool = field(default=True)

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


def report_on(
    stage: Stage, before: Candidates, after: Candidates, previous: str | None, history: Any
) -> StageReport:
    """Compare what entered a stage with what left it.

    previous: the last stage that was not off. history: token ids so far, oldest first.
    """
    alive = before.ids[before.logits > -np.inf]
    if after is before:
        kept, removed = alive, alive[:0]
    else:
        kept = after.ids[after.logits > -np.inf]
        removed = alive[~_among(alive, kept)]
    effect = stage.off or _effect(stage, before, after, removed, previous, history)
    return StageReport(
        stage.name, dict(stage.params), before, after, kept, removed, effect, not stage.off
    )


def _effect(
    stage: Stage,
    before: Candidates,
    after: Candidates,
    removed: np.ndarray,
    previous: str | None,
    history: Any,
) -> str:
    n_before = int(np.count_nonzero(before.logits > -np.inf))
    if removed.size:
        share = float(before.probs[_among(before.ids, removed)].sum(dtype=np.float64))
        kept = f"kept {n_before - removed.size} of {n_before} tokens"
        return f"{_who(stage, before)}: {kept}, removed {share:.2%} of the probability"
    n_moved = _n_moved(before, after)
    if n_moved == 0 or n_before == 1:  # one token has probability 1, whatever its logit
        left = f" after {previous} left {n_before}" if previous else f" on {n_before} tokens"
        return f"{_who(stage, before)}{left}: no effect"
    entropy = f"entropy {before.entropy:.3f} -> {after.entropy:.3f} nats"
    if stage.name in SOME_TOKENS:
        return f"{stage.label}: {_moved(stage, before, after, n_moved, history)}, {entropy}"
    return f"{_who(stage, before)}: kept all {n_before} tokens, {entropy}"


SOME_TOKENS = frozenset({"logit_bias", "penalties", "dry"})  # stages that move few logits


def _who(stage: Stage, before: Candidates) -> str:
    """The stage, with what it decided by itself."""
    if stage.name == "entropy_guided":
        mood, h, v = mood_of(before, stage.params["entropy"], stage.params["varentropy"])
        return f"{stage.name} ({mood}: entropy {h:.2f}, varentropy {v:.2f})"
    if stage.name in ("mirostat", "mirostat_v2"):
        return f"{stage.name} (mu {stage.memory.mu:.2f} bits)"
    return stage.label


def _moved(stage: Stage, before: Candidates, after: Candidates, n_moved: int, history: Any) -> str:
    """ "lowered 12 tokens of the last 64"."""
    at = after.places_of(before.ids) if len(before) < len(after) else slice(None)
    n_lowered = int(np.count_nonzero(after.logits[at] < before.logits))
    verb = {n_moved: "lowered", 0: "raised"}.get(n_lowered, "moved")
    tokens = "1 token" if n_moved == 1 else f"{n_moved} tokens"
    if stage.name == "penalties":
        return f"{verb} {tokens} of the last {len(last_tokens(history, stage.params['last_n']))}"
    if stage.name == "dry":
        return f"{verb} {tokens} that would go on with a repeat"
    return f"{verb} {tokens} of {len(stage.params['bias'])} in it"


def _n_moved(before: Candidates, after: Candidates) -> int:
    """How many tokens of `after` have another logit than before; the same tokens are in both."""
    if after is before:
        return 0
    if np.array_equal(before.ids, after.ids):
        return int(np.count_nonzero(before.logits != after.logits))
    alive = np.sort(before.ids[before.logits > -np.inf])
    old = before.logits[before.places_of(alive)]
    return int(np.count_nonzero(old != after.logits[after.places_of(alive)]))


def _among(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which ids are wanted ones; token ids are small numbers, so a table is the fastest."""
    return np.isin(ids, wanted, kind="table") if ids.size and wanted.size else np.isin(ids, wanted)
