"""Speculative decoding: a draft guesses some tokens, the model judges all of them in one pass.

    text so far ─▶ draft: x1 x2 x3 x4 ─▶ model, one pass: p1 p2 p3 p4 p5
                   accepted with probability min(1, p(x) / q(x)), up to the first refusal;
                   there a token is drawn from max(0, p - q); after four acceptances one from p5

Whatever the draft says, tokens are distributed as if the model had drawn each of them.
Sources: Leviathan et al., https://arxiv.org/abs/2211.17192; Chen et al.,
https://arxiv.org/abs/2302.01318; n-gram drafts: llama.cpp examples/lookup.
Leaves out: trees of drafts, samplers that remember what they drew, grammars.
"""

import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .errors import ContextFullError, ParameterError, UnsupportedError
from .generate import Step, TextStream, logprob_of, prompt_ids, stop_reason
from .model import to_numpy
from .sampling import Candidates, SamplerChain, SamplingParams
from .sampling.dist import Generator

if TYPE_CHECKING:
    from .model import KVCache, Model

__all__ = ["Acceptance", "Draft", "ModelDraft", "NgramDraft", "accepted_or_redrawn", "speculate"]


class Draft(Protocol):
    """What guesses tokens."""

    def propose(
        self, ids: Sequence[int], n: int, chain: SamplerChain, random: Generator
    ) -> list[tuple[int, Candidates]]:
        """Up to n tokens after `ids`, each with the distribution that it was drawn from."""


class ModelDraft:
    """A smaller or more quantized model of the same vocabulary."""

    def __init__(self, model: "Model"):
        self.model = model
        self._cache: KVCache | None = None

    def propose(
        self, ids: Sequence[int], n: int, chain: SamplerChain, random: Generator
    ) -> list[tuple[int, Candidates]]:
        """See `Draft`; positions shared with the last call are not computed again."""
        n_most = self.model.config.n_ctx_train
        n = min(n, n_most - len(ids))
        if self._cache is None:
            self._cache = self.model.new_cache()
        text, proposed = list(ids), []
        new = text[self._cache.reuse(text) :] if n > 0 else []
        for _ in range(n):
            logits = to_numpy(self.model.forward(new, self._cache, last_only=True))[-1]
            left = chain.apply(logits, text)
            token_id = drawn_from(left, random)
            proposed.append((token_id, left))
            text.append(token_id)
            new = [token_id]
        return proposed


class NgramDraft:
    """Whatever followed the same last tokens earlier in the text; needs no model.

    longest: tokens that must be the same, or fewer down to 1 where so many never were.
    """

    def __init__(self, longest: int = 3):
        self.longest = _whole("longest", longest)

    def propose(
        self, ids: Sequence[int], n: int, chain: SamplerChain, random: Generator
    ) -> list[tuple[int, Candidates]]:
        """See `Draft`; every token is certain, so it is accepted with the model's probability."""
        text = np.asarray(ids)
        for length in range(min(self.longest, len(text) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(text[:-1], length)
            found = np.flatnonzero((windows == text[-length:]).all(axis=1))
            if found.size:
                start = int(found[-1]) + length
                return [(int(i), _certain(int(i))) for i in text[start : start + n]]
        return []


def _certain(token_id: int) -> Candidates:
    return Candidates(np.array([token_id], np.int32), np.zeros(1, np.float32), True)


@dataclass
class Acceptance:
    """How often drafts were right; filled by `speculate`.

    proposed, accepted: (n_draft,) int64, by place in the draft. n_passes: of the model;
    n_tokens: that came of them.
    """

    proposed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    accepted: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    n_passes: int = 0
    n_tokens: int = 0

    @property
    def rates(self) -> np.ndarray:
        """(n_draft,) float64: accepted of the proposed, NaN where nothing was."""
        return np.where(self.proposed > 0, self.accepted / np.maximum(self.proposed, 1), np.nan)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens for each pass of the model; 1 without drafts."""
        return self.n_tokens / self.n_passes if self.n_passes else float("nan")

    def __str__(self) -> str:
        return (
            f"{self.accepted.sum()} of {self.proposed.sum()} drafted tokens accepted, "
            f"{self.n_tokens} tokens in {self.n_passes} passes ({self.tokens_per_pass:.2f} a pass)"
        )


def speculate(
    model: "Model",
    draft: Draft,
    prompt: str | Sequence[int],
    params: SamplingParams | SamplerChain | None = None,
    max_tokens: int = 100,
    n_draft: int = 4,
    acceptance: Acceptance | None = None,
) -> Iterator[Step]:
    """Continue a prompt as `generate` does, several tokens a pass of the model.

    draft: `ModelDraft(other)` or `NgramDraft()`. params: as in `generate`; both the model's and
    the draft's distributions are those after the samplers. With temperature 0 the text is that of
    `generate`; else it has the same distribution, but other random numbers choose it.
    n_draft: tokens guessed for a pass. acceptance: filled in while it runs.

    Raises, when called: ParameterError for bad arguments or a draft of another vocabulary,
    UnsupportedError for samplers with a memory, ContextFullError.
    """
    n_draft, max_tokens = _whole("n_draft", n_draft), _whole("max_tokens", max_tokens)
    if isinstance(draft, ModelDraft):
        _demand_same_vocabulary(model, draft.model)
    if isinstance(params, SamplerChain):
        chain = params
    else:
        settings = SamplingParams.from_gguf(model.gguf) if params is None else params
        chain = SamplerChain(settings, tokenizer=model.tokenizer)
    _demand_forgetful(chain)
    ids = prompt_ids(model.tokenizer, prompt)
    n_ctx = model.config.n_ctx_train
    if len(ids) > n_ctx:
        raise ContextFullError(
            f"speculate: the prompt does not fit; expected at most n_ctx = {n_ctx} tokens, got "
            f"{len(ids)}; shorten the prompt"
        )
    acceptance = Acceptance() if acceptance is None else acceptance
    acceptance.proposed = np.zeros(n_draft, np.int64)
    acceptance.accepted = np.zeros(n_draft, np.int64)
    acceptance.n_passes = acceptance.n_tokens = 0
    return _steps(model, draft, ids, chain, max_tokens, acceptance)


def accepted_or_redrawn(
    token_id: int, guessed: Candidates, wanted: Candidates, random: Generator
) -> tuple[int, bool]:
    """The token to keep where a draft proposed one, and whether it is the draft's.

    guessed: what the draft drew token_id from; wanted: what the model would have drawn from.
    The result is distributed as `wanted`. Source: Leviathan et al., algorithm 1.
    """
    p, q = _prob_of(wanted, token_id), _prob_of(guessed, token_id)
    if random.uniform() * q < p:
        return token_id, True
    taken = dict(zip(guessed.ids.tolist(), _probs(guessed).tolist(), strict=True))
    overlap = np.array([taken.get(i, 0.0) for i in wanted.ids.tolist()])
    rest = np.maximum(_probs(wanted) - overlap, 0)
    if not rest.sum():  # p = q but for rounding: either may stay
        return token_id, True
    return int(wanted.ids[_place(rest, random)]), False


def drawn_from(candidates: Candidates, random: Generator) -> int:
    """A token by its probability."""
    return int(candidates.ids[_place(_probs(candidates), random)])


def _probs(candidates: Candidates) -> np.ndarray:
    p = candidates.probs.astype(np.float64)
    return p / p.sum()


def _prob_of(candidates: Candidates, token_id: int) -> float:
    return float(_probs(candidates)[candidates.ids == token_id].sum())


def _place(weights: np.ndarray, random: Generator) -> int:
    running = np.cumsum(weights)
    place = np.searchsorted(running, running[-1] * random.uniform(), side="right")
    return min(int(place), int(np.flatnonzero(weights)[-1]))


def _steps(
    model: "Model",
    draft: Draft,
    ids: list[int],
    chain: SamplerChain,
    max_tokens: int,
    acceptance: Acceptance,
) -> Iterator[Step]:
    n_ctx = model.config.n_ctx_train
    cache = model.new_cache(n_ctx=min(n_ctx, len(ids) + max_tokens))
    text, random, stream = list(ids), Generator(chain.seed), TextStream(model.tokenizer, ids)
    n_new = 0
    while True:
        for token_id, logits, left in _pass(model, draft, text, chain, cache, random, acceptance):
            n_new += 1
            acceptance.n_tokens += 1
            full = len(text) >= n_ctx
            stop = stop_reason(model.tokenizer, token_id, n_new == max_tokens, full)
            piece = stream.last_push(token_id, stop) if stop else stream.push(token_id)
            logprob = logprob_of(logits, token_id)
            yield Step(token_id, piece, logprob, left, len(text), stop)
            if stop is not None:
                return
            text.append(token_id)


def _pass(
    model: "Model",
    draft: Draft,
    text: list[int],
    chain: SamplerChain,
    cache: "KVCache",
    random: Generator,
    acceptance: Acceptance,
) -> Iterator[tuple[int, np.ndarray, Candidates]]:
    """The tokens of one pass of the model, with its logits and candidates at each."""
    n_most = min(len(acceptance.proposed), cache.n_ctx - len(text))
    guesses = draft.propose(text, n_most, chain, random)
    past = list(text)
    new = [*past[cache.n_past :], *(token_id for token_id, _ in guesses)]
    rows = to_numpy(model.forward(new, cache))[-len(guesses) - 1 :]
    acceptance.n_passes += 1
    for place, (guess, guessed) in enumerate(guesses):
        left = chain.apply(rows[place], past)
        token_id, is_guess = accepted_or_redrawn(guess, guessed, left, random)
        acceptance.proposed[place] += 1
        acceptance.accepted[place] += is_guess
        if not is_guess:
            cache.truncate(len(past))
            yield token_id, rows[place], left
            return
        yield token_id, rows[place], left
        past.append(token_id)
    left = chain.apply(rows[-1], past)
    yield drawn_from(left, random), rows[-1], left


def _demand_same_vocabulary(model: "Model", draft: "Model") -> None:
    ours, theirs = model.tokenizer, draft.tokenizer
    if ours.n_vocab != theirs.n_vocab:
        raise ParameterError(
            f"draft: another vocabulary; expected {ours.n_vocab} tokens as in the model, got "
            f"{theirs.n_vocab}; take a draft of the same family"
        )
    for i in range(ours.n_vocab):
        a, b = ours.decode_bytes([i]), theirs.decode_bytes([i])
        if a != b:
            raise ParameterError(
                f"draft: another vocabulary; expected token {i} to be {a!r} as in the model, got "
                f"{b!r}; take a draft of the same family"
            )


def _demand_forgetful(chain: SamplerChain) -> None:
    names = [stage.name for stage in chain.stages if stage.memory is not None and not stage.off]
    names += [chain.last.name] if chain.last.name not in ("dist", "greedy") else []
    names += ["a grammar"] if chain.grammar is not None else []
    if names:
        raise UnsupportedError(
            "speculate: a draft needs samplers without a memory; expected none such as mirostat, "
            f"adaptive_p, xtc or a grammar, got {', '.join(names)}; use generate"
        )


def _whole(name: str, value: object) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise ParameterError(f"{name}: expected a whole number from 1 up, got {value!r}")
