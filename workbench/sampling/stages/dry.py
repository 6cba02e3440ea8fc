"""DRY ("don't repeat yourself"): lowers tokens that would go on with a passage said before.

    … Tom and Anna were in the park. ¶ Tom and Anna were
             ╰──── said before ────╯  ╰─ 4 tokens ──────╯ ▶ "in" would make it 5

A breaker ("\\n", ":") ends a passage: nothing before it counts.
Source: llama_sampler_dry_apply and get_overlapping_token_sequences, src/llama-sampler.cpp in
llama.cpp; p-e-w, https://github.com/oobabooga/text-generation-webui/pull/5677. Leaves out: nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from ...errors import ParameterError
from ..candidates import Candidates
from .bias import last_tokens
from .stage import History, Stage, real, stage, whole

if TYPE_CHECKING:
    from ...tokenizer.tokenizer import Tokenizer

MAX_BREAKER_BYTES, MAX_TAIL_TOKENS = 40, 20
FLOAT_MAX_LOG = np.float32(88.7228391)  # base ** exponent stays within float32
Breakers = Mapping[int, Sequence[Sequence[int]]]

# vocabulary -> breakers -> where they are: minutes of sliders would search it again and again
_FOUND: WeakKeyDictionary = WeakKeyDictionary()


def dry(
    multiplier: float,
    base: float = 1.75,
    allowed_length: int = 2,
    last_n: int = 64,
    breakers: Sequence[str] = ("\n", ":", '"', "*"),
    tokenizer: "Tokenizer | None" = None,
) -> Stage:
    """Lower each token that would continue a repeat of n tokens.

    Its logit falls by multiplier * base ** (n - allowed_length); multiplier 0, base < 1 or
    last_n <= 0 is off. allowed_length: repeats shorter than this are free. last_n: so many of the
    last tokens are searched. breakers: texts that end a passage, found in the vocabulary of
    `tokenizer`.
    Raises: ParameterError for breakers without a tokenizer.
    """
    multiplier, base = real("dry", "multiplier", multiplier), real("dry", "base", base)
    allowed = whole("dry", "allowed_length", allowed_length)
    last_n, texts = whole("dry", "last_n", last_n), _texts(breakers)
    off = _why_off(multiplier, base, last_n)
    found = {} if off or not texts else breaker_tokens(texts, tokenizer)

    def apply(candidates: Candidates, history: History) -> Candidates:
        repeats = repeated_lengths(last_tokens(history, last_n).tolist(), allowed, found)
        if repeats is None:
            return candidates
        lengths = {t: n for t, n in repeats.items() if () not in found.get(t, ())}
        at = candidates.places_of(np.array(list(lengths), np.int64))
        amounts = _amounts(lengths.values(), multiplier, base, allowed)
        logits = candidates.logits.copy()
        logits[at[at >= 0]] -= amounts[at >= 0]
        return Candidates(candidates.ids, logits, sorted=False)

    params = {"multiplier": multiplier, "base": base, "allowed_length": allowed, "last_n": last_n}
    return stage("dry", apply, off, **params, breakers=texts)


def repeated_lengths(
    tokens: Sequence[int], allowed: int, breakers: Breakers
) -> dict[int, int] | None:
    """Token -> length of the longest repeat, of at least `allowed` tokens, that it would continue.

    tokens: the last ones, oldest first. Returns None where there are too few of them to repeat.
    """
    n = len(tokens)
    if n <= allowed:
        return None
    back = tokens[::-1]  # the newest first
    limit = _since_breaker(back, breakers)
    if limit < allowed:
        return None
    lengths: dict[int, int] = {}
    for k, matched in enumerate(_matches_with_end(back)):
        matched = min(matched, limit)
        if k and matched >= allowed:
            token = back[k - 1]  # what came after the passage that ends k tokens back
            lengths[token] = max(lengths.get(token, matched), matched)
    return lengths


def breaker_tokens(texts: Sequence[str], tokenizer: "Tokenizer | None") -> Breakers:
    """Token -> what must follow it to make a breaker; () where the token holds all of one.

    texts: the breakers, of which 40 bytes count. Raises: ParameterError without a tokenizer.
    """
    if tokenizer is None:
        raise ParameterError(
            "dry: breakers are texts, and there is no tokenizer that knows their tokens; expected "
            "tokenizer=model.tokenizer, got None; or set dry_sequence_breakers=()"
        )
    known = _FOUND.setdefault(tokenizer, {})
    if texts not in known:
        if "words" not in known:
            known["words"] = [tokenizer.decode_bytes([i]) for i in range(tokenizer.n_vocab)]
        known[texts] = _found_in(texts, known["words"], tokenizer)
    return known[texts]


def _found_in(texts: Sequence[str], words: Sequence[bytes], tokenizer: "Tokenizer") -> Breakers:
    found: dict[int, list[tuple[int, ...]]] = {}
    for text in texts:
        breaker = text.encode("utf-8", "surrogatepass").split(b"\0")[0][:MAX_BREAKER_BYTES]
        if not breaker:
            continue
        for token_id in (i for i, word in enumerate(words) if breaker in word):
            found.setdefault(token_id, []).append(())
        for n in range(1, len(breaker)):  # a token may end within the breaker
            head = breaker[:n]
            ends = [i for i, w in enumerate(words) if w.endswith(head) and breaker not in w]
            if ends:
                rest = breaker[n:].decode("utf-8", "replace")
                tail = tuple(tokenizer.encode(rest, add_special=False)[:MAX_TAIL_TOKENS])
                for token_id in ends:
                    found.setdefault(token_id, []).append(tail)
    return found


def _since_breaker(back: Sequence[int], breakers: Breakers) -> int:
    """How many of the newest tokens come after the last breaker."""
    for i, token in enumerate(back):
        tails = [
            len(tail)
            for tail in breakers.get(token, ())
            if len(tail) <= i and all(back[i - 1 - j] == t for j, t in enumerate(tail))
        ]
        if tails:
            return i - max(tails)
    return len(back)


def _matches_with_end(back: Sequence[int]) -> list[int]:
    """For each k, how many tokens back from k equal those back from the end: the Z-algorithm.

    back: newest first. Linear in its length, whatever it holds.
    """
    n = len(back)
    z, left, right = [0] * n, 0, 0  # back[left:right] equals back[: right - left]
    for k in range(1, n):
        m = min(z[k - left], right - k) if k < right else 0
        while k + m < n and back[m] == back[k + m]:
            m += 1
        z[k] = m
        if k + m > right:
            left, right = k, k + m
    return z


def _amounts(lengths: Iterable[int], multiplier: float, base: float, allowed: int) -> np.ndarray:
    """What is subtracted for each length, (n,) float32."""
    base32 = float(np.float32(base))
    most = int(float(FLOAT_MAX_LOG / np.float32(math.log(base32)))) if base32 > 1.000001 else 0
    exponents = np.array([n - allowed for n in lengths], np.float64)
    if most > 0:
        exponents = np.minimum(exponents, most)
    powers = np.power(base32, exponents)
    with np.errstate(over="ignore"):  # beyond float32 the token is banned
        return (float(np.float32(multiplier)) * powers).astype(np.float32)


def _why_off(multiplier: float, base: float, last_n: int) -> str | None:
    if multiplier == 0:
        return "dry_multiplier 0: off"
    if last_n <= 0:
        return f"dry_penalty_last_n {last_n}: off"
    return f"dry_base {base:g}: off" if np.float32(base) < 1 else None


def _texts(breakers: object) -> tuple[str, ...]:
    good = isinstance(breakers, Sequence) and not isinstance(breakers, str | bytes)
    if good and all(isinstance(text, str) for text in breakers):
        return tuple(breakers)
    raise ParameterError(f"dry: breakers: expected a list of texts, got {breakers!r:.80}")
