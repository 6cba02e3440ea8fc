"""What another KV cache does to a model's predictions: KL, the best token, perplexity, bytes.

    one text ──► full cache ──► logits ─┐
            └──► other cache ─► logits ─┴─► at each position: KL in nats, same best token?

Source: KL and perplexity as in llama.cpp tools/perplexity/perplexity.cpp, but of every position.
Left out: the caches: positions gone (`kv_eviction.py`), other types (`kv_frontier.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..model import Model
from ..model.kv_checks import is_integer
from ..model.kv_match import checked_ids
from .divergence import NUMBERS_PER_TILE, kl_by_position, log_softmax

__all__ = ["CacheEffect", "cache_effect", "checked_list", "checked_seed", "checked_text"]


@dataclass(frozen=True, eq=False)
class CacheEffect:
    """How a cache's predictions differ from the full one's, for T tokens of a text.

    kl: (T,) float64 nats, of the next token's distribution from the full cache's. same_top: (T,)
    bool, both find the same token best. nll: (T or T - 1,) float64 nats, the surprise of each token
    that came. nbytes: keys and values held after the last token.
    """

    kl: np.ndarray
    same_top: np.ndarray
    nll: np.ndarray
    nbytes: int

    @property
    def mean_kl(self) -> float:
        """Mean over the tokens, nats."""
        return float(self.kl.mean())

    @property
    def top1(self) -> float:
        """Share of tokens after which the same next token is best."""
        return float(self.same_top.mean())

    @property
    def ppl(self) -> float:
        """Perplexity of the text; NaN where no token's surprise is known."""
        return float(np.exp(self.nll.mean())) if len(self.nll) else float("nan")

    def to_row(self) -> dict[str, Any]:
        """A row of a table; kl_max is the worst position."""
        numbers = {"kl": self.mean_kl, "kl_max": float(self.kl.max()), "top1": self.top1}
        return {**numbers, "ppl": self.ppl, "bytes": self.nbytes}


def cache_effect(
    base: np.ndarray, logits: np.ndarray, ids: np.ndarray, nbytes: int, start: int = 0
) -> CacheEffect:
    """Compare the logits of a text under two caches.

    base, logits: (T, n_vocab); ids: (T,) the text. nbytes: of the other cache. start: first
    position that counts. Returns: CacheEffect of the positions from there on.
    """
    base, logits, came = base[start:], logits[start:], ids[start + 1 :]
    nll = np.empty(len(came))
    step = max(1, NUMBERS_PER_TILE // logits.shape[1])
    for row in range(0, len(came), step):
        logs = log_softmax(logits[row : row + step][: len(came) - row])
        nll[row : row + step] = -logs[np.arange(len(logs)), came[row : row + step]]
    same = base.argmax(axis=1) == logits.argmax(axis=1)
    return CacheEffect(kl_by_position(base, logits), same, nll, int(nbytes))


def checked_text(model: Model, ids: str | Sequence[int]) -> np.ndarray:
    """(T,) int64 token ids of a text. Raises: ParameterError unless there are two that fit."""
    ids = checked_ids(model.tokenizer.encode(ids) if isinstance(ids, str) else ids, "ids")
    most = model.config.n_ctx_train
    if not 2 <= len(ids) <= most:
        raise ParameterError(
            f"ids: no text to measure on; expected from 2 to the {most} token ids that the model "
            f"was trained on, or a text, got {len(ids)} tokens"
        )
    return ids


def checked_seed(seed: int) -> int:
    """A seed of NumPy's default generator. Raises: ParameterError for none."""
    if not is_integer(seed) or seed < 0:
        raise ParameterError(f"seed: none; expected an integer from 0 up, got {seed!r}")
    return int(seed)


def checked_list(argument: str, values: Iterable[Any], of: str) -> list[Any]:
    """Several values. Raises: ParameterError for a single one."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ParameterError(
            f"{argument}: not a list; expected several {of}, got {values!r}; write [{values!r}]"
        )
    return list(values)
