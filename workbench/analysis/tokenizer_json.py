"""A GGUF tokenizer beside a Hugging Face tokenizer.json: the first stage at which they part.

    added tokens    the same special tokens found in the text?
    normalizer      the same text between them?
    pre-tokenizer   cut into the same words?              (where the model has words)
    model           the same tokens for every word?       (vocabulary, merges)
    post-processor  the same tokens put around it?
    whole           each part agrees, the ids do not     (truncation, for one)

The package `tokenizers` runs tokenizer.json; it is not one that the workbench depends on.

Source: our own; the stages are those of Hugging Face tokenizers' `Tokenizer.encode`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import GGUFError, ParameterError, UnsupportedError
from ..tokenizer import Tokenizer, TokenTrace
from .tokenizer_stages import STAGES, Parting, Theirs
from .vocabulary_samples import ODD_STRINGS, SAMPLES

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["JsonComparison", "StageDifference", "compare_tokenizer_json"]

WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class StageDifference:
    """Where one text parts. stage: as in the file docstring; at: character of the text.

    ours, theirs: what the stage made there; why: in words.
    """

    name: str
    text: str
    stage: str
    at: int
    ours: str
    theirs: str
    why: str


@dataclass(frozen=True)
class JsonComparison:
    """How many texts got the same ids, and where each of the others parts."""

    n_texts: int
    differences: tuple[StageDifference, ...]

    @property
    def n_equal(self) -> int:
        """Texts with the same ids in both."""
        return self.n_texts - len(self.differences)

    @property
    def first(self) -> StageDifference | None:
        """The difference of the earliest stage, None if there is none."""
        order = [*(stage.name for stage in STAGES), WHOLE]
        return min(self.differences, key=lambda d: order.index(d.stage), default=None)

    def to_frame(self) -> "DataFrame":
        """One row a text that differs."""
        from pandas import DataFrame  # slow to import

        names = ("name", "stage", "at", "ours", "theirs", "why", "text")
        return DataFrame({name: [getattr(d, name) for d in self.differences] for name in names})

    def __repr__(self) -> str:
        first = self.first
        part = f"; first parting: {first.stage} ({first.why})" if first else ""
        return f"JsonComparison({self.n_equal} of {self.n_texts} texts equal{part})"


def compare_tokenizer_json(
    tokenizer: Tokenizer, source: Any, texts: str | Mapping[str, str] | None = None
) -> JsonComparison:
    """Encode texts with a GGUF's tokenizer and a tokenizer.json, and name the stage they part at.

    source: path of a tokenizer.json, or a `tokenizers.Tokenizer`; texts: one, or name -> text;
    None: the samples and odd strings. Special tokens are read and added on both sides.
    Raises: UnsupportedError without the package `tokenizers`, GGUFError for a damaged file,
    ParameterError for wrong arguments.
    """
    theirs = Theirs(_load(source))
    if texts is None:
        texts = {**SAMPLES, **ODD_STRINGS}
    texts = {"text": texts} if isinstance(texts, str) else texts
    if not isinstance(texts, Mapping) or not all(isinstance(t, str) for t in texts.values()):
        raise ParameterError("texts: expected str or a mapping of name to str")
    found = (_difference(tokenizer, theirs, name, text) for name, text in texts.items())
    return JsonComparison(len(texts), tuple(d for d in found if d is not None))


def _load(source: Any) -> Any:
    try:
        import tokenizers  # a tool for comparing; nothing else needs it
    except ImportError:
        raise UnsupportedError(
            "compare_tokenizer_json: the package tokenizers is not installed; expected it to read "
            "tokenizer.json; run `pip install tokenizers`"
        ) from None
    if isinstance(source, tokenizers.Tokenizer):
        return source
    if not isinstance(source, str | os.PathLike):
        raise ParameterError(
            "compare_tokenizer_json: source: expected the path of a tokenizer.json or a "
            f"tokenizers.Tokenizer, got {type(source).__name__}"
        )
    try:
        text = Path(source).read_text("utf-8")
        json.loads(text)
        return tokenizers.Tokenizer.from_str(text)
    except OSError as error:
        raise ParameterError(f"{source}: cannot be read: {error.strerror}") from None
    except Exception as error:  # tokenizers raises plain Exception
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise GGUFError(f"{source}: not a tokenizer.json: {what}") from None


def _difference(
    tokenizer: Tokenizer, theirs: Theirs, name: str, text: str
) -> StageDifference | None:
    ids = theirs.encode(text, True)
    if tokenizer.encode(text, parse_special=True) == ids:
        return None
    trace = tokenizer.trace(text, parse_special=True)
    stage, parting = _first(tokenizer, trace, theirs)
    return StageDifference(name, text, stage, *parting)


def _first(tokenizer: Tokenizer, trace: TokenTrace, theirs: Theirs) -> tuple[str, Parting]:
    for stage in STAGES:
        parting = stage.compare(tokenizer, trace, theirs)
        if parting is not None:
            return stage.name, parting
    why = "every part gives the same on its own; tokenizer.json joins its parts another way"
    ids = theirs.encode(trace.text, True)
    pairs = zip_longest(trace.ids, ids)
    i = next((i for i, (mine, other) in enumerate(pairs) if mine != other), len(ids))
    sides = (
        f"{len(side)} ids, from number {i}: {list(side[i : i + 4])}" for side in (trace.ids, ids)
    )
    span = trace.tokens[i].span if i < len(trace.tokens) else None
    at = span.start if span else (0 if i < len(trace.tokens) else len(trace.text))
    return WHOLE, Parting(at, *sides, why)
