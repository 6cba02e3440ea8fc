"""What is in a vocabulary: tokens that never come out, doubles, gaps, and odd ones.

    unreachable    no text encodes to it         why: built differently, not buildable, cut, …
    unbuildable    no sequence of merges gives it (a kind of unreachable, but for whole words)
    double         stands for the same bytes as another token
    control-like   looks like "<|im_end|>" but is typed NORMAL: text in a prompt can forge it
    missing byte   a byte of UTF-8 that no token is

Only tokens of type NORMAL and BYTE are tried: the others are found by their text. What merges do is
decided by a proof (reach.py); what is done to a text before (regexes, normalisation), and encoders
that do not merge, by trying the token's text alone and beside a letter, digit, space, dot and line
end.

Source: our own. Left out: how well texts are encoded (vocabulary_texts.py).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError
from ..tokenizer import TokenAttribute, Tokenizer
from ..tokenizer.reach import buildable_tokens, encode_plain, merged_tokens

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["TokenFinding", "VocabularyAudit", "audit_vocabulary"]

LOOKS_LIKE_CONTROL = re.compile(
    r"<[|｜].+[|｜]>|</?(?:s|unk|pad|bos|eos|mask|sep|cls)>|\[(?:INST|/INST|[A-Z]{3,4})\]"
    r"|<(?:start|end|begin)_of_\w+>|<(?:unused|extra_id_|reserved_?\w*?)\d+>|<</?SYS>>",
    re.IGNORECASE,
)
NEIGHBOURS = "a1 .\n"
UNBUILT = "no sequence of merges gives it"
NEVER_IN_UTF8 = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))
PROGRESS_FROM = 20_000  # tokens; smaller vocabularies are done before a bar is drawn


@dataclass(frozen=True, slots=True)
class TokenFinding:
    """Something to know about one token. kind: as in the file docstring; why: in words."""

    token_id: int
    text: str
    kind: str
    why: str


@dataclass(frozen=True)
class VocabularyAudit:
    """What an audit found.

    model: of the tokenizer; n_vocab: tokens; n_tried: of type NORMAL or BYTE; n_open: of these,
    parts of characters that could not be tried; findings: in order of kind and id; missing_bytes:
    0..255; longest: (id, bytes) of the longest tokens, the longest first.
    """

    model: str
    n_vocab: int
    n_tried: int
    n_open: int
    findings: tuple[TokenFinding, ...]
    missing_bytes: tuple[int, ...]
    longest: tuple[tuple[int, bytes], ...]

    def ids(self, kind: str) -> list[int]:
        """The ids of one kind of finding."""
        return [finding.token_id for finding in self.findings if finding.kind == kind]

    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind."""
        kinds = [finding.kind for finding in self.findings]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}

    def to_frame(self) -> "DataFrame":
        """One row a finding: token_id, text, kind, why."""
        from pandas import DataFrame  # slow to import

        names = ("token_id", "text", "kind", "why")
        return DataFrame({name: [getattr(f, name) for f in self.findings] for name in names})

    def __repr__(self) -> str:
        found = ", ".join(f"{n} {kind}" for kind, n in self.counts().items()) or "no findings"
        return f"VocabularyAudit({self.model}, {self.n_vocab} tokens: {found})"


def audit_vocabulary(
    tokenizer: Tokenizer, n_longest: int = 20, progress: bool = True
) -> VocabularyAudit:
    """Look at every token of a vocabulary.

    n_longest: how many of the longest tokens to list; progress: show a bar for large ones.
    Returns: a VocabularyAudit. 128,000 tokens take some seconds.
    Raises: ParameterError if n_longest is no whole number.
    """
    if not isinstance(n_longest, int) or n_longest < 0:
        raise ParameterError(f"n_longest: expected a whole number, got {n_longest!r}")
    bar = _bar(progress and tokenizer.n_vocab >= PROGRESS_FROM)
    attributes = np.array([tokenizer.attribute(i) for i in range(tokenizer.n_vocab)], np.uint16)
    tried = np.flatnonzero(attributes & (TokenAttribute.NORMAL | TokenAttribute.BYTE)).tolist()
    pieces = {i: tokenizer.piece(i, special=True) for i in range(tokenizer.n_vocab)}
    unreachable, n_open = _unreachable(tokenizer, tried, pieces, attributes, bar)
    found = [
        *unreachable,
        *_doubles(tokenizer, tried, pieces),
        *_control_like(tokenizer, attributes),
    ]
    single = {piece[0] for piece in pieces.values() if len(piece) == 1}
    longest = sorted(tried, key=lambda i: (-len(pieces[i]), i))[:n_longest]
    return VocabularyAudit(
        model=tokenizer.model,
        n_vocab=tokenizer.n_vocab,
        n_tried=len(tried),
        n_open=n_open,
        findings=tuple(found),
        missing_bytes=tuple(sorted(set(range(256)) - single - NEVER_IN_UTF8)),
        longest=tuple((i, pieces[i]) for i in longest),
    )


def _bar(shown: bool) -> Callable[[str], Callable[[Iterable], Iterable]]:
    if not shown:
        return lambda name: iter
    from tqdm.auto import tqdm  # slow to import

    return lambda name: lambda values: tqdm(values, desc=name, unit=" tokens", leave=False)


def _unreachable(
    tokenizer: Tokenizer,
    tried: list[int],
    pieces: dict[int, bytes],
    attributes: np.ndarray,
    bar: Callable[[str], Callable[[Iterable], Iterable]],
) -> tuple[list[TokenFinding], int]:
    is_byte = (attributes & np.uint16(TokenAttribute.BYTE)).astype(bool).tolist()
    characters = {pieces[i] for i in tried if len(pieces[i]) == 1 and not is_byte[i]}
    found = [f for i in tried if is_byte[i] and (f := _byte(tokenizer, i, pieces[i], characters))]
    normal = [i for i in tried if not is_byte[i]]
    outcome = {i: _comes_out(tokenizer, i, pieces[i], "") for i in bar("encoding")(normal)}
    doubtful = [i for i, came in outcome.items() if not came]
    merged, buildable = merged_tokens(tokenizer, doubtful), buildable_tokens(tokenizer)
    n_open = 0
    for i in bar("trying again")(doubtful):
        if merged is not None and not merged[i]:
            why = "merges lead elsewhere" if buildable[i] else UNBUILT
        elif outcome[i] is None:  # part of a character
            n_open += merged is None
            continue
        elif _comes_out(tokenizer, i, pieces[i], NEIGHBOURS):
            continue
        else:
            why = "never chosen" if merged is None else "the text is cut or changed before"
        found.append(_finding(tokenizer, i, "unreachable", why))
    found.sort(key=lambda finding: finding.token_id)
    unbuilt = [] if buildable is None else [i for i in normal if not buildable[i]]
    found += [_finding(tokenizer, i, "unbuildable", UNBUILT) for i in unbuilt]
    return found, n_open


def _byte(
    tokenizer: Tokenizer, token_id: int, piece: bytes, characters: set[bytes]
) -> TokenFinding | None:
    if piece and piece[0] in NEVER_IN_UTF8:
        return _finding(tokenizer, token_id, "unreachable", "a byte that UTF-8 never has")
    if piece in characters:
        why = "its character has a token of its own"
        return _finding(tokenizer, token_id, "unreachable", why)
    return None


def _comes_out(tokenizer: Tokenizer, token_id: int, piece: bytes, neighbours: str) -> bool | None:
    """Whether its text, alone or beside a sign, gives the token; None if its bytes are no text."""
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return None
    beside = (t for sign in neighbours for t in (text + sign, sign + text))
    for tried in (text, *beside):
        try:
            if token_id in encode_plain(tokenizer, tried):
                return True
        except ParameterError:  # a neighbour this vocabulary cannot spell
            continue
    return False


def _doubles(
    tokenizer: Tokenizer, tried: list[int], pieces: dict[int, bytes]
) -> list[TokenFinding]:
    first: dict[bytes, int] = {}
    found = []
    for i in tried:
        other = first.setdefault(pieces[i], i)
        if other != i:
            found.append(
                _finding(tokenizer, i, "double", f"stands for the same bytes as token {other}")
            )
    return found


def _control_like(tokenizer: Tokenizer, attributes: np.ndarray) -> list[TokenFinding]:
    normal = np.flatnonzero(attributes & TokenAttribute.NORMAL).tolist()
    matching = [i for i in normal if LOOKS_LIKE_CONTROL.fullmatch(tokenizer.token_text(i))]
    why = "looks like a control token, but its type is NORMAL"
    return [_finding(tokenizer, i, "control-like", why) for i in matching]


def _finding(tokenizer: Tokenizer, token_id: int, kind: str, why: str) -> TokenFinding:
    return TokenFinding(token_id, tokenizer.token_text(token_id), kind, why)
