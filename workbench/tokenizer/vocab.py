"""The vocabulary of a GGUF file: texts, ids, scores and attributes, checked as they are read.

Source: `llama_vocab::impl::load` in llama.cpp src/llama-vocab.cpp; the `tokenizer.ggml.*` keys of
the GGUF specification. Left out: which tokens are special (special.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np

from ..errors import GGUFError

__all__ = ["TokenAttribute", "Vocabulary", "load_vocabulary", "read_key", "read_strings"]

TOKENS, SCORES, TYPES = (f"tokenizer.ggml.{key}" for key in ("tokens", "scores", "token_type"))
MISSING = object()


class TokenAttribute(IntFlag):
    """What a token is and how it behaves, with the numbers of `llama_token_attr`."""

    UNDEFINED = 0
    UNKNOWN = 1
    UNUSED = 2
    NORMAL = 4
    CONTROL = 8
    USER_DEFINED = 16
    BYTE = 32
    NORMALIZED = 64
    LSTRIP = 128
    RSTRIP = 256
    SINGLE_WORD = 512


ATTRIBUTE_OF_TYPE = np.array(  # index: the file's token type, 0 for any unknown one
    [
        TokenAttribute.UNDEFINED,
        TokenAttribute.NORMAL,
        TokenAttribute.UNKNOWN,
        TokenAttribute.CONTROL,
        TokenAttribute.USER_DEFINED,
        TokenAttribute.UNUSED,
        TokenAttribute.BYTE,
    ],
    np.uint16,
)


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a file.

    tokens: raw texts by id (a byte that is no UTF-8 is a lone surrogate U+DC80..DCFF); ids: the
    inverse; scores: (n_vocab,) float32; attributes: (n_vocab,) uint16 of TokenAttribute bits.
    """

    tokens: list[str]
    ids: dict[str, int]
    scores: np.ndarray
    attributes: np.ndarray

    def with_attribute(self, flags: TokenAttribute) -> list[int]:
        """The ids of all tokens with at least one of these attributes, in order."""
        return np.flatnonzero(self.attributes & np.uint16(flags)).tolist()


def read_key(metadata: Mapping[str, Any], key: str, kind: type, default: Any = MISSING) -> Any:
    """One scalar of the metadata as `kind` (str, bool or int); NumPy scalars will do.

    Raises: GGUFError if the key is missing without a default, or its value of another type.
    """
    value = metadata.get(key, MISSING)
    if value is MISSING:
        if default is MISSING:
            raise GGUFError(f"tokenizer: the key {key} is missing; expected a {kind.__name__}")
        return default
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) is not kind:
        raise GGUFError(
            f"tokenizer: {key} has the wrong type; expected {kind.__name__}, got {_kind(value)}"
        )
    return value


def read_strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    """One array of strings of the metadata as a list. Raises: GGUFError if it is not that."""
    if key not in metadata:
        raise GGUFError(f"tokenizer: the key {key} is missing; expected an array of strings")
    value = metadata[key]
    try:
        if isinstance(value, str | bytes | Mapping):
            raise TypeError
        strings = value.tolist() if isinstance(value, np.ndarray) else list(value)
        wrong = {type(item) for item in strings} - {str}
    except TypeError:
        wrong = {type(value)}
    if wrong:
        raise GGUFError(
            f"tokenizer: {key} has the wrong type; expected an array of strings, "
            f"got {', '.join(sorted(kind.__name__ for kind in wrong))}"
        )
    return strings


def load_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """Read tokens, scores (0 where the file has none) and types (NORMAL where it has none).

    Raises: GGUFError for arrays that are missing, of the wrong type or length, for an empty
    vocabulary, and for two ids with the same text.
    """
    tokens = read_strings(metadata, TOKENS)
    n = len(tokens)
    if n == 0:
        raise GGUFError(f"tokenizer: {TOKENS} is empty; expected at least one token")
    if "" in tokens:  # llama.cpp names them, so that they are not in the way of one another
        tokens = [text or f"[EMPTY_{i}]" for i, text in enumerate(tokens)]
    ids = dict(zip(tokens, range(n), strict=True))
    if len(ids) < n:
        again = next(i for i, text in enumerate(tokens) if ids[text] != i)
        raise GGUFError(
            f"tokenizer: {TOKENS} has the text {_short(tokens[again])} twice, as ids {again} and "
            f"{ids[tokens[again]]}; expected each text once"
        )
    scores = _numbers(metadata, SCORES, n, "fiu")
    types = _numbers(metadata, TYPES, n, "iu")
    attributes = (
        np.full(n, TokenAttribute.NORMAL, np.uint16)
        if types is None
        else ATTRIBUTE_OF_TYPE[np.where((types < 0) | (types > 6), 0, types).astype(np.intp)]
    )
    return Vocabulary(tokens, ids, _checked_scores(scores, n), attributes)


def _checked_scores(scores: np.ndarray | None, n: int) -> np.ndarray:
    if scores is None:
        return np.zeros(n, np.float32)
    with np.errstate(over="ignore"):
        scores = scores.astype(np.float32)
    if np.isnan(scores).any():
        first = int(np.flatnonzero(np.isnan(scores))[0])
        raise GGUFError(f"tokenizer: {SCORES}[{first}] is not a number; expected finite scores")
    return scores


def _numbers(metadata: Mapping[str, Any], key: str, n: int, kinds: str) -> np.ndarray | None:
    """A numeric array of the metadata, None if absent; kinds: the NumPy kinds that will do."""
    if key not in metadata:
        return None
    try:
        array = np.asarray(metadata[key])
    except (ValueError, TypeError, OverflowError):
        array = np.asarray("ragged")
    if array.dtype.kind not in kinds or array.ndim != 1:
        wanted = "floats" if "f" in kinds else "integers"
        raise GGUFError(
            f"tokenizer: {key} has the wrong type; expected an array of {wanted}, "
            f"got {_kind(metadata[key])} of {array.dtype.name}"
        )
    if len(array) != n:
        raise GGUFError(
            f"tokenizer: {key} has the wrong length; expected one entry a token ({n}), "
            f"got {len(array)}"
        )
    return array


def _kind(value: Any) -> str:
    return type(value).__name__


def _short(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "…")
