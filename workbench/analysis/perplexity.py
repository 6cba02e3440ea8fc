"""Perplexity of a text, and how far one model is from another on it, as llama-perplexity counts.

    text ─► ids ─► chunks of n_ctx, each with an empty cache, its first id replaced by BOS

    chunk   BOS  1  2  …  n/2-1 │ n/2  …  n-2 │ n-1        only ids n/2+1 … n-1 are scored, which
            └──── read only ────┘ └ predict ──┘            positions n/2 … n-2 predict

Source: llama.cpp tools/perplexity/perplexity.cpp (`perplexity`, `kl_divergence`).
Left out: strides, and the 16-bit file of base probabilities that llama-perplexity writes: here
both models run side by side, so their differences are not rounded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model import Model, to_numpy
from .divergence import NUMBERS_PER_TILE, log_softmax

__all__ = ["KLDivergence", "Perplexity", "kl_divergence", "perplexity"]

LOGITS_AT_ONCE = 1 << 25  # float32 logits of one piece of a chunk: 128 MiB
SHARES = (99.9, 99.0, 95.0, 90.0, 50.0, 10.0, 5.0, 1.0, 0.1)  # percentiles that are shown


@dataclass(frozen=True, eq=False)
class Perplexity:
    """How surprised a model is by a text.

    n_ctx: tokens of a chunk. nll: (n_chunks, n) float64, the negative log of each scored token's
    probability, in nats. float(result) is the perplexity.
    """

    n_ctx: int
    nll: np.ndarray

    def __float__(self) -> float:
        return self.ppl

    @property
    def n_scored(self) -> int:
        """Tokens scored."""
        return self.nll.size

    @property
    def ppl(self) -> float:
        """exp of the mean."""
        return float(np.exp(self.nll.mean()))

    @property
    def ppl_error(self) -> float:
        """Its standard error."""
        return self.ppl * _error(self.nll.ravel())

    @property
    def running(self) -> np.ndarray:
        """(n_chunks,): the perplexity up to and with each chunk."""
        return np.exp(self.nll.mean(axis=1).cumsum() / np.arange(1, len(self.nll) + 1))

    def to_frame(self) -> pd.DataFrame:
        """One row a chunk: its own perplexity and the running one."""
        columns = {"chunk": range(len(self.nll)), "ppl": np.exp(self.nll.mean(axis=1))}
        return pd.DataFrame(columns | {"running": self.running})


@dataclass(frozen=True, eq=False)
class KLDivergence:
    """How far a model's predictions are from a base model's, token by token of a text.

    base, other: their perplexities. kl: (n_chunks, n) float64 nats. p_diff: (n_chunks, n), the
    true token's probability under other minus that under base. same_top: (n_chunks, n) bool, both
    find the same token best. float(result) is the mean of kl.
    """

    base: Perplexity
    other: Perplexity
    kl: np.ndarray
    p_diff: np.ndarray
    same_top: np.ndarray

    def __float__(self) -> float:
        return self.mean

    @property
    def mean(self) -> float:
        """Mean KL divergence, nats."""
        return float(self.kl.mean())

    @property
    def same_top_share(self) -> float:
        """Share of tokens at which both find the same token best."""
        return float(self.same_top.mean())

    @property
    def rms_p_diff(self) -> float:
        """Root mean square of p_diff."""
        return float(np.sqrt(np.mean(self.p_diff**2)))

    def statistics(self) -> dict[str, tuple[float, float | None]]:
        """llama-perplexity's table: its names, each with a value and (or None) standard error."""
        rows = _ratio_rows(self.base, self.other)
        rows["Mean KLD"] = (self.mean, _error(self.kl.ravel()))
        rows |= _percentiles("KLD", self.kl.ravel())
        percent = 100 * self.p_diff.ravel()
        rows["Mean Δp"] = (float(percent.mean()), _error(percent))
        rows |= _percentiles("Δp", percent)
        rms = 100 * self.rms_p_diff
        rows["RMS Δp"] = (rms, _error(percent**2) / (2 * rms) if rms else 0.0)
        same, n = self.same_top_share, self.same_top.size
        rows["Same top p"] = (100 * same, 100 * float(np.sqrt(same * (1 - same) / max(1, n - 1))))
        return rows

    def to_frame(self) -> pd.DataFrame:
        """One row a statistic: name, value, error. Differences of probability are in percent."""
        rows = [(name, *numbers) for name, numbers in self.statistics().items()]
        return pd.DataFrame(rows, columns=["statistic", "value", "error"])


def perplexity(
    model: Model,
    ids: str | Sequence[int],
    n_ctx: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Perplexity:
    """The perplexity of a text under a model.

    ids: the text, or its token ids, BOS first. n_ctx: tokens of a chunk, by default 512 or what the
    model was trained for; tokens that do not fill a last chunk are left out.
    progress: called with the number of chunks done and of all.
    Returns: Perplexity. Raises: ParameterError for a text shorter than one chunk or a wrong n_ctx.
    Source: llama.cpp tools/perplexity/perplexity.cpp, `perplexity`.
    """
    chunks = _chunks(model, ids, n_ctx)
    nll = []
    for done, chunk in enumerate(chunks, 1):
        pieces = [_score(logits, targets) for logits, targets in _predictions(model, chunk)]
        nll.append(np.concatenate(pieces))
        if progress:
            progress(done, len(chunks))
    return Perplexity(chunks.shape[1], np.array(nll))


def kl_divergence(
    base: Model,
    other: Model,
    ids: str | Sequence[int],
    n_ctx: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> KLDivergence:
    """How far another model is from a base model on a text; both run side by side.

    base, other: with the same vocabulary. ids, n_ctx, progress: as for `perplexity`; a text is
    encoded by the base's tokenizer.
    Returns: KLDivergence. Raises: ParameterError, also for vocabularies of different sizes.
    Source: llama.cpp tools/perplexity/perplexity.cpp, `kl_divergence`.
    """
    if base.config.n_vocab != other.config.n_vocab:
        raise ParameterError(
            f"other: has another vocabulary; expected the base's {base.config.n_vocab} tokens, "
            f"got {other.config.n_vocab}; compare copies of one model"
        )
    chunks = _chunks(base, ids, n_ctx)
    rows = []
    for done, chunk in enumerate(chunks, 1):
        both = zip(_predictions(base, chunk), _predictions(other, chunk), strict=True)
        pieces = [_compare(x, y, targets) for (x, targets), (y, _) in both]
        rows.append([np.concatenate(column) for column in zip(*pieces, strict=True)])
        if progress:
            progress(done, len(chunks))
    nll_base, nll, kl, same_top = (np.array(column) for column in zip(*rows, strict=True))
    size = chunks.shape[1]
    p_diff = np.exp(-nll) - np.exp(-nll_base)
    return KLDivergence(Perplexity(size, nll_base), Perplexity(size, nll), kl, p_diff, same_top)


def _chunks(model: Model, ids: str | Sequence[int], n_ctx: int | None) -> np.ndarray:
    """(n_chunks, n_ctx) token ids, the first of each BOS where the tokenizer adds it."""
    n_max = model.config.n_ctx_train
    n_ctx = min(512, n_max) if n_ctx is None else n_ctx
    whole = isinstance(n_ctx, int | np.integer) and not isinstance(n_ctx, bool)
    if not whole or not 3 <= n_ctx <= n_max:
        raise ParameterError(
            f"n_ctx: no chunk length; expected an integer from 3 to the {n_max} that the model was "
            f"trained on, got {n_ctx!r}"
        )
    ids = np.array(model.tokenizer.encode(ids) if isinstance(ids, str) else ids)
    if ids.ndim != 1 or ids.size < n_ctx:
        raise ParameterError(
            f"ids: too short a text; expected at least one chunk of {n_ctx} tokens, got "
            f"{ids.size}; give a longer text or a smaller n_ctx"
        )
    chunks = ids[: len(ids) // n_ctx * n_ctx].reshape(-1, n_ctx).copy()
    tokenizer = model.tokenizer
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        chunks[:, 0] = tokenizer.bos_id
    return chunks


def _predictions(model: Model, chunk: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces of a chunk's scored part: logits (t, n_vocab) and the tokens that came true (t,)."""
    half, stop = len(chunk) // 2, len(chunk) - 1
    cache = model.new_cache(len(chunk), "f32", "f32")
    model.forward(chunk[:half], cache, last_only=True)  # read only
    step = max(32, LOGITS_AT_ONCE // model.config.n_vocab)
    for start in range(half, stop, step):
        end = min(start + step, stop)
        yield to_numpy(model.forward(chunk[start:end], cache)), chunk[start + 1 : end + 1]


def _tiles(n_rows: int, n_vocab: int) -> Iterator[slice]:
    step = max(1, NUMBERS_PER_TILE // n_vocab)
    return (slice(start, start + step) for start in range(0, n_rows, step))


def _score(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Negative log probabilities (t,) of the targets."""
    nll = np.empty(len(targets))
    for rows in _tiles(*logits.shape):
        logs = log_softmax(logits[rows])
        nll[rows] = -logs[np.arange(len(logs)), targets[rows]]
    return nll


def _compare(base: np.ndarray, other: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Both models' negative log probabilities, KL, and whether the best tokens agree; (t,) each."""
    nll_base, nll, kl = (np.empty(len(targets)) for _ in range(3))
    for rows in _tiles(*base.shape):
        p, q = log_softmax(base[rows]), log_softmax(other[rows])
        i = np.arange(len(p))
        nll_base[rows], nll[rows] = -p[i, targets[rows]], -q[i, targets[rows]]
        kl[rows] = (np.exp(p) * (p - q)).sum(axis=1)
    return nll_base, nll, np.maximum(kl, 0), base.argmax(axis=1) == other.argmax(axis=1)


def _error(x: np.ndarray) -> float:
    """Standard error of the mean of (n,) numbers; 0 for 10 or fewer, as llama-perplexity has it."""
    return float(x.std() / np.sqrt(len(x) - 1)) if len(x) > 10 else 0.0


def _ratio_rows(base: Perplexity, other: Perplexity) -> dict[str, tuple[float, float | None]]:
    """The perplexities and their relation, whose errors are correlated."""
    x, y = other.nll.ravel(), base.nll.ravel()
    error, error_base = _error(x), _error(y)
    covariance = float(np.mean((x - x.mean()) * (y - y.mean()))) / max(1, len(x) - 1)
    correlation = covariance / (error * error_base) if error * error_base else 0.0
    log_ratio = float(x.mean() - y.mean())
    log_error = float(np.sqrt(max(0.0, error**2 + error_base**2 - 2 * covariance)))
    ppl, ppl_base, ratio = other.ppl, base.ppl, float(np.exp(log_ratio))
    spread = (ppl * error) ** 2 + (ppl_base * error_base) ** 2 - 2 * ppl * ppl_base * covariance
    return {
        "Mean PPL(Q)": (ppl, ppl * error),
        "Mean PPL(base)": (ppl_base, ppl_base * error_base),
        "Cor(ln(PPL(Q)), ln(PPL(base)))": (100 * correlation, None),
        "Mean ln(PPL(Q)/PPL(base))": (log_ratio, log_error),
        "Mean PPL(Q)/PPL(base)": (ratio, ratio * log_error),
        "Mean PPL(Q)-PPL(base)": (ppl - ppl_base, float(np.sqrt(max(0.0, spread)))),
    }


def _percentiles(what: str, x: np.ndarray) -> dict[str, tuple[float, None]]:
    """Maximum, percentiles and minimum under llama-perplexity's names."""
    shares = sorted({*SHARES, *((75.0, 25.0) if what == "Δp" else ())}, reverse=True)
    names = ["Maximum", *("Median" if s == 50 else f"{s:.1f}%" for s in shares), "Minimum"]
    values = [x.max(), *np.percentile(x, shares), x.min()]
    return {f"{n} {what}": (float(v), None) for n, v in zip(names, values, strict=True)}
