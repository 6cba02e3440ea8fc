"""A generated text with the probability of each of its tokens.

Source: our own; the numbers come from `generate.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ParameterError
from ..generate import Step, prompt_ids
from ..model import Model, to_numpy
from .divergence import log_softmax


@dataclass(frozen=True, eq=False)
class GeneratedText:
    """What came after a prompt, token by token.

    prompt: the text before. texts: of each token (see `Step.text`). token_ids: (n,) int32.
    probs: (n,) float64, of each chosen token under the model, before any sampler.
    ranks: (n,) int64, 0 where the model found no token more probable; entropies: (n,) float64, nats
    of the model's distribution there; None until `judged_text` fills them in.
    stop: why it ended: "eog", "max_tokens", "n_ctx", or None when it was interrupted.
    """

    prompt: str
    texts: tuple[str, ...]
    token_ids: np.ndarray
    probs: np.ndarray
    stop: str | None
    ranks: np.ndarray | None = None
    entropies: np.ndarray | None = None

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

    def measure(self, name: str) -> np.ndarray:
        """(n,) numbers: "prob", "surprise" (nats), "rank" (from 1) or "entropy" (nats).

        Raises: ParameterError for another name, or one that `judged_text` has not filled in.
        """
        known = {"prob": self.probs, "rank": self.ranks, "entropy": self.entropies}
        if name == "surprise":
            return -np.log(self.probs)
        if name not in known:
            raise ParameterError(f"measure: expected prob, rank, entropy or surprise, got {name!r}")
        if known[name] is None:
            raise ParameterError(
                f"measure: no {name} in this text; expected one that the model has judged, got its "
                "tokens' probabilities only; call analysis.judged_text(model, text)"
            )
        return known[name] + (name == "rank")


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


def judged_text(model: Model, text: GeneratedText) -> GeneratedText:
    """The same text with ranks and entropies, from one pass of a model over prompt and text.

    Another model than the one that wrote it may judge: probs are then its own.
    Raises: ContextFullError, ParameterError for a text without a prompt and a model without BOS.
    """
    ids = np.array([*prompt_ids(model.tokenizer, text.prompt), *text.token_ids], np.int32)
    if not text.n_tokens:
        return replace(text, ranks=np.zeros(0, np.int64), entropies=np.zeros(0))
    cache = model.new_cache(n_ctx=len(ids) - 1)
    logits = to_numpy(model.forward(ids[:-1], cache))[-text.n_tokens :]
    logprobs = log_softmax(logits)
    chosen = np.take_along_axis(logprobs, text.token_ids[:, None].astype(np.int64), axis=1)
    entropies = -(np.exp(logprobs) * np.where(np.isfinite(logprobs), logprobs, 0)).sum(axis=1)
    ranks = (logprobs > chosen).sum(axis=1)
    return replace(text, probs=np.exp(chosen[:, 0]), ranks=ranks, entropies=entropies)
