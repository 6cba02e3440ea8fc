"""A generated text with the probability of each of its tokens.

Source: our own; the numbers come from `generate.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..generate import Step


@dataclass(frozen=True, eq=False)
class GeneratedText:
    """What came after a prompt, token by token.

    prompt: the text before. texts: of each token (see `Step.text`). token_ids: (n,) int32.
    probs: (n,) float64, of each chosen token under the model, before any sampler.
    stop: why it ended: "eog", "max_tokens", "n_ctx", or None when it was interrupted.
    """

    prompt: str
    texts: tuple[str, ...]
    token_ids: np.ndarray
    probs: np.ndarray
    stop: str | None

    @property
    def text(self) -> str:
        """All new characters."""
        return "".join(self.texts)

    @property
    def n_tokens(self) -> int:
        """Number of new tokens."""
        return len(self.texts)

    @property
    def mean_logprob(self) -> float:
        """Mean natural log of `probs`; nan when there are none."""
        return float(np.log(self.probs).mean()) if self.n_tokens else float("nan")


def generated_text(steps: Iterable[Step], prompt: str = "") -> GeneratedText:
    """Collect the steps of one run of `generate`.

    Returns a GeneratedText.
    """
    steps = list(steps)
    return GeneratedText(
        prompt=prompt,
        texts=tuple(step.text for step in steps),
        token_ids=np.array([step.token_id for step in steps], np.int32),
        probs=np.exp(np.array([step.logprob for step in steps], np.float64)),
        stop=steps[-1].stop if steps else None,
    )
