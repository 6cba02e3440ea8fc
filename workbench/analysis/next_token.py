"""The next token's distribution before and after a sampler chain, ready to be shown.

Source: our own; the numbers come from `sampling/chain.py`.
Leaves out: what each single stage did; `SamplerChain.explain` tells that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ParameterError
from ..sampling import SamplerChain, StageReport
from ..sampling.candidates import candidates_from


@dataclass(frozen=True, eq=False)
class NextToken:
    """The most probable next tokens and what a sampler chain made of them.

    ids: (n,) int32, most probable first. pieces: their texts, escaped for display.
    probs_before, probs_after: (n,) float32, under the model and after the chain (0 = removed).
    removed_by: for each token the name of the stage that removed it, or None.
    n_vocab, n_kept: tokens before and after the chain. rest_before, rest_after: probability of
    all tokens not listed. entropy_before, entropy_after: nats. effects: a sentence for each stage.
    """

    ids: np.ndarray
    pieces: tuple[str, ...]
    probs_before: np.ndarray
    probs_after: np.ndarray
    removed_by: tuple[str | None, ...]
    n_vocab: int
    n_kept: int
    rest_before: float
    rest_after: float
    entropy_before: float
    entropy_after: float
    effects: tuple[str, ...]


def next_token(
    logits: np.ndarray,
    chain: SamplerChain,
    tokenizer,
    n_top: int = 16,
    history: Sequence[int] = (),
) -> NextToken:
    """List the n_top most probable tokens before and after the chain.

    logits: (n_vocab,) float32 of the next token. history: token ids so far, oldest first.
    Returns a NextToken. Raises ParameterError for unusable logits or n_top below 1.
    """
    if not isinstance(n_top, int | np.integer) or n_top < 1:
        raise ParameterError(f"n_top: expected a whole number from 1 up, got {n_top!r}")
    start = candidates_from(logits)
    reports = chain.explain(logits, history)
    end = reports[-1].after if reports else start
    ids = np.argsort(-start.logits, kind="stable")[:n_top].astype(np.int32)
    after = np.zeros(len(start), np.float32)
    after[end.ids] = end.probs
    return NextToken(
        ids=ids,
        pieces=tuple(display_piece(tokenizer, int(i)) for i in ids),
        probs_before=start.probs[ids],
        probs_after=after[ids],
        removed_by=tuple(_remover(reports, int(i)) for i in ids),
        n_vocab=len(start),
        n_kept=int(np.count_nonzero(end.logits > -np.inf)),
        rest_before=max(0.0, 1 - float(start.probs[ids].sum(dtype=np.float64))),
        rest_after=max(0.0, 1 - float(after[ids].sum(dtype=np.float64))),
        entropy_before=start.entropy,
        entropy_after=end.entropy,
        effects=tuple(report.effect for report in reports),
    )


def display_piece(tokenizer, token_id: int) -> str:
    """A token's text in visible characters: " a\\n" is "␣a\\\\n", a lone byte is "\\\\xe2".

    Tokens without text (control tokens) are shown by their name in the vocabulary.
    """
    raw = tokenizer.piece(token_id)
    if not raw:
        return tokenizer.token_text(token_id) or f"<{token_id}>"
    return visible_text(raw.decode("utf-8", "backslashreplace"))


def visible_text(text: str) -> str:
    """A text in visible characters: " a\\n" is "␣a\\\\n"."""
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char == " ":
        return "␣"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def _remover(reports: list[StageReport], token_id: int) -> str | None:
    for report in reports:
        if token_id in report.removed:
            return report.name
    return None
