"""How well vocabularies fit texts: tokens for each byte, word and character, and round trips.

    fertility    tokens a word: 1.0 where every word is a token, 5 where it falls to pieces
    round trip   decode(encode(text)) == text? where not, from which character on, and why

Words are what white space separates; texts in scripts without it have none (NaN).

Source: our own. Left out: the vocabulary itself (vocabulary.py).
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ParameterError
from ..tokenizer import Tokenizer
from .vocabulary_samples import ODD_STRINGS, SAMPLES, script_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Fertility", "RoundTrip", "RoundTrips", "TextCost", "fertility", "round_trips"]

NO_SPACES = ("Han", "Kana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Emoji")


@dataclass(frozen=True, slots=True)
class TextCost:
    """One text in one vocabulary.

    n_words: None where white space separates no words; n_unknown: how many of the tokens stand for
    what has no token: then the ratios say little.
    """

    tokenizer: str
    name: str
    script: str
    n_bytes: int
    n_characters: int
    n_words: int | None
    n_tokens: int
    n_unknown: int

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes a token stands for on average."""
        return self.n_bytes / self.n_tokens if self.n_tokens else float("nan")

    @property
    def tokens_per_word(self) -> float:
        """The fertility; NaN without words."""
        return self.n_tokens / self.n_words if self.n_words else float("nan")

    @property
    def tokens_per_character(self) -> float:
        """Tokens for each Unicode character."""
        return self.n_tokens / self.n_characters if self.n_characters else float("nan")


@dataclass(frozen=True)
class Fertility:
    """Every text in every vocabulary, vocabularies in turn for each text."""

    costs: tuple[TextCost, ...]

    def to_frame(self) -> "DataFrame":
        """One row a text and tokenizer, with all counts and ratios."""
        from pandas import DataFrame  # slow to import

        names = (
            "tokenizer name script n_bytes n_characters n_words n_tokens n_unknown "
            "bytes_per_token tokens_per_word tokens_per_character"
        ).split()
        return DataFrame({name: [getattr(cost, name) for cost in self.costs] for name in names})

    def table(self, measure: str = "tokens_per_word") -> "DataFrame":
        """One measure with a row for each text and a column for each tokenizer.

        Raises: ParameterError for a name that is no measure.
        """
        frame = self.to_frame()
        if measure not in frame.columns[3:]:
            known = ", ".join(frame.columns[3:])
            raise ParameterError(f"measure: expected one of {known}, got {measure!r}")
        wide = frame.pivot(index="name", columns="tokenizer", values=measure)
        return wide.loc[frame["name"].unique(), frame["tokenizer"].unique()]

    def by_script(self) -> "DataFrame":
        """Bytes per token with a row for each script, over all its texts together."""
        sums = self.to_frame().groupby(["script", "tokenizer"], sort=False)
        totals = sums[["n_bytes", "n_tokens"]].sum()
        return (totals["n_bytes"] / totals["n_tokens"]).unstack("tokenizer")


def fertility(
    tokenizers: Tokenizer | Mapping[str, Tokenizer], texts: Mapping[str, str] = SAMPLES
) -> Fertility:
    """Count what texts cost in one or more vocabularies.

    tokenizers: one, or name -> tokenizer; texts: name -> text, by default sentences in many scripts
    and some program text. Nothing is added to the texts (no BOS).
    Raises: ParameterError for arguments of other types, and for a text that a vocabulary without
    bytes and without an unknown token cannot spell.
    """
    tokenizers = checked_tokenizers(tokenizers)
    return Fertility(
        tuple(
            _cost(label, tokenizer, name, text)
            for name, text in _checked_texts(texts).items()
            for label, tokenizer in tokenizers.items()
        )
    )


def checked_tokenizers(tokenizers: object) -> dict[str, Tokenizer]:
    """One tokenizer or a mapping as name -> tokenizer. Raises: ParameterError."""
    if isinstance(tokenizers, Tokenizer):
        return {tokenizers.model: tokenizers}
    if not isinstance(tokenizers, Mapping) or not tokenizers:
        got = "an empty one" if isinstance(tokenizers, Mapping) else type(tokenizers).__name__
        raise ParameterError(f"tokenizers: expected a Tokenizer or a mapping of them, got {got}")
    wrong = [name for name, value in tokenizers.items() if not isinstance(value, Tokenizer)]
    if wrong:
        raise ParameterError(
            f"tokenizers[{wrong[0]!r}]: expected a Tokenizer, "
            f"got {type(tokenizers[wrong[0]]).__name__}"
        )
    return {str(name): value for name, value in tokenizers.items()}


def _checked_texts(texts: object) -> Mapping[str, str]:
    if not isinstance(texts, Mapping) or not all(isinstance(t, str) for t in texts.values()):
        raise ParameterError("texts: expected a mapping of name to str, such as {'mine': 'a text'}")
    return texts


def _cost(label: str, tokenizer: Tokenizer, name: str, text: str) -> TextCost:
    script, ids = script_of(text), tokenizer.encode(text, add_special=False)
    return TextCost(
        tokenizer=label,
        name=name,
        script=script,
        n_bytes=len(text.encode("utf-8", "replace")),
        n_characters=len(text),
        n_words=None if script in NO_SPACES else len(text.split()),
        n_tokens=len(ids),
        n_unknown=ids.count(tokenizer.special.unk),
    )


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One text encoded and decoded; at: the first character that differs, None if none does."""

    name: str
    text: str
    decoded: str
    at: int | None
    why: str


@dataclass(frozen=True)
class RoundTrips:
    """The round trips of several texts."""

    trips: tuple[RoundTrip, ...]

    @property
    def failed(self) -> tuple[RoundTrip, ...]:
        """Those that did not come back as they were."""
        return tuple(trip for trip in self.trips if trip.at is not None)

    def to_frame(self) -> "DataFrame":
        """One row a text: name, text, decoded, at, why."""
        from pandas import DataFrame  # slow to import

        names = ("name", "text", "decoded", "at", "why")
        return DataFrame({name: [getattr(trip, name) for trip in self.trips] for name in names})

    def __repr__(self) -> str:
        return f"RoundTrips({len(self.trips) - len(self.failed)} of {len(self.trips)} come back)"


def round_trips(tokenizer: Tokenizer, texts: Mapping[str, str] | None = None) -> RoundTrips:
    """Encode and decode texts, and say where and why something else comes back.

    texts: name -> text; None: the samples and some odd strings.
    Raises: ParameterError for texts of other types.
    """
    texts = _checked_texts({**SAMPLES, **ODD_STRINGS} if texts is None else texts)
    return RoundTrips(tuple(_round_trip(tokenizer, name, text) for name, text in texts.items()))


def _round_trip(tokenizer: Tokenizer, name: str, text: str) -> RoundTrip:
    try:
        ids = tokenizer.encode(text, add_special=False)
    except ParameterError as error:
        return RoundTrip(name, text, "", 0, f"cannot be encoded: {error}")
    decoded = tokenizer.decode(ids)
    if decoded == text:
        return RoundTrip(name, text, decoded, None, "")
    pairs = enumerate(zip(text, decoded, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(text), len(decoded)))
    return RoundTrip(name, text, decoded, at, _why(tokenizer, ids, text, decoded))


def _why(tokenizer: Tokenizer, ids: list[int], text: str, decoded: str) -> str:
    if tokenizer.special.unk in ids:
        return f"{ids.count(tokenizer.special.unk)} unknown tokens stand for what has no token"
    for change, reason in CHANGES:
        if change(text) == change(decoded):
            return reason
    if len(decoded) < len(text) and set(decoded) <= set(text):
        return "characters were dropped"
    return "the text was changed in several ways"


def _without_spaces(text: str) -> str:
    return "".join(text.replace("▁", " ").split())


def _without_marks(text: str) -> str:
    kept = (c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return _without_spaces("".join(kept)).lower()


CHANGES = (  # the first that makes the two texts equal is the reason
    (lambda text: text.replace("▁", " "), "▁ is read as a space"),
    (lambda text: text.lstrip(" "), "a space in front was dropped or added"),
    (_without_spaces, "white space was changed"),
    (lambda text: unicodedata.normalize("NFC", text), "normalised to another Unicode form (NFC)"),
    (lambda text: _without_spaces(text.lower()), "lower-cased"),
    (
        lambda text: _without_spaces(unicodedata.normalize("NFKC", text)),
        "normalised to compatible forms (NFKC)",
    ),
    (_without_marks, "lower-cased and accents dropped"),
)
