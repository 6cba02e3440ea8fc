"""A sampler chain stage by stage, as rows to be shown: what entered, what left, who took what.

    top_k    4096 ─▶ 40   3.03 ─▶ 2.26 nats   removed 18.45%: ␣kind ␣happy ␣nice …
    top_p      40 ─▶ 25   2.26 ─▶ 1.99 nats   removed 4.72%: …

Source: our own; the numbers come from `SamplerChain.explain`.
Leaves out: the tokens that stay; `analysis/next_token.py` lists them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..sampling import StageReport
from .next_token import display_piece


@dataclass(frozen=True)
class StageRow:
    """One stage of a chain.

    name: of the sampler. label: name and value, as "top_k 40". active: False where the settings
    turn it off. changed: whether it did anything. n_before, n_after: tokens that entered and left.
    entropy_before, entropy_after: nats. removed_share: probability of the removed tokens among
    those that entered. removed_pieces: the most probable of them, escaped for display. effect: all
    this in one sentence.
    """

    name: str
    label: str
    active: bool
    changed: bool
    n_before: int
    n_after: int
    entropy_before: float
    entropy_after: float
    removed_share: float
    removed_pieces: tuple[str, ...]
    effect: str


def stage_strip(
    reports: Sequence[StageReport], tokenizer, n_removed: int = 3
) -> tuple[StageRow, ...]:
    """One row for each report of `SamplerChain.explain`, in its order.

    tokenizer: of the model, for the pieces. n_removed: how many removed tokens a row names.
    Returns a tuple of StageRow.
    """
    return tuple(_row(report, tokenizer, n_removed) for report in reports)


def _row(report: StageReport, tokenizer, n_removed: int) -> StageRow:
    probs, best = _removed(report, n_removed)
    return StageRow(
        name=report.name,
        label=_label(report),
        active=report.active,
        changed=report.active and not report.effect.endswith("no effect"),
        n_before=report.n_before,
        n_after=len(report.kept),
        entropy_before=report.entropy_before,
        entropy_after=report.entropy_after,
        removed_share=float(probs.sum(dtype=np.float64)),
        removed_pieces=tuple(display_piece(tokenizer, int(i)) for i in best),
        effect=report.effect,
    )


def _label(report: StageReport) -> str:
    """The name, with its value where it has a single one."""
    values = [v for name, v in report.params.items() if name != "min_keep"]
    single = len(values) == 1 and isinstance(values[0], int | float)
    return f"{report.name} {values[0]:g}" if single else report.name


def _removed(report: StageReport, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the removed tokens before the stage, and ids of the n most probable."""
    if not report.removed.size:
        return np.zeros(0, np.float32), report.removed
    at = np.flatnonzero(np.isin(report.before.ids, report.removed))
    probs = report.before.probs[at]
    best = at[np.argsort(-probs, kind="stable")[:n]]
    return probs, report.before.ids[best]
