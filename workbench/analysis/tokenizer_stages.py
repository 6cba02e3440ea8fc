"""The stages of a tokenizer, ours and Hugging Face's side by side.

Each stage takes what `Tokenizer.trace` recorded and runs the same part of tokenizer.json on the
same text; the first difference is a Parting. A stage is only asked when all before it agreed.

Source: our own; the parts are those of Hugging Face tokenizers (added_vocabulary, normalizer,
pre_tokenizer, model, post_processor).
"""

import json
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple

from ..tokenizer import Tokenizer, TokenTrace
from ..tokenizer.bpe import BYTE_CHARACTERS
from ..tokenizer.reach import token_id_of
from ..tokenizer.trace_merges import watch_merges
from ..tokenizer.trace_steps import Fragment, MergeStep, WordTrace

__all__ = ["STAGES", "Parting", "Stage", "Theirs"]

BYTE_OF = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
END = "no more words"
WORD_MODELS = ("gpt2", "bert")  # the others cut words only to be fast


class Parting(NamedTuple):
    """Where (character of the text), what each side made, and why."""

    at: int
    ours: str
    theirs: str
    why: str


class Stage(NamedTuple):
    """A stage's name and how to compare it: (tokenizer, trace, theirs) -> Parting or None."""

    name: str
    compare: Callable[[Tokenizer, TokenTrace, "Theirs"], Parting | None]


class Theirs:
    """A `tokenizers.Tokenizer`, taken apart into its stages."""

    def __init__(self, tokenizer: Any):
        self._tokenizer, self._settings = tokenizer, json.loads(tokenizer.to_str())
        self._added = {entry["id"]: entry["content"] for entry in self._settings["added_tokens"]}
        merges = self._settings["model"].get("merges", [])
        pairs = (line if isinstance(line, list) else line.split(" ", 1) for line in merges)
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        self._byte_level = "ByteLevel" in json.dumps(self._settings["pre_tokenizer"])

    def encode(self, text: str, add_special: bool) -> list[int]:
        """The ids of a text."""
        return self._tokenizer.encode(text, add_special_tokens=add_special).ids

    def specials(self, text: str) -> list[tuple[int, int, int]]:
        """(start, end, id) of the added tokens found in a text."""
        made = self._tokenizer.encode(text, add_special_tokens=False)
        places = zip(made.offsets, made.ids, strict=True)
        return [(start, end, i) for (start, end), i in places if i in self._added]

    def is_added(self, text: str) -> bool:
        """Whether tokenizer.json has an added token of this text."""
        return text in self._added.values()

    def normalise(self, text: str) -> str:
        """What the normalizer makes of a text."""
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def words(self, text: str) -> list[str]:
        """What the pre-tokenizer makes of a normalised text, bytes as characters again."""
        splitter = self._tokenizer.pre_tokenizer
        pieces = [text] if splitter is None else [p for p, _ in splitter.pre_tokenize_str(text)]
        if not self._byte_level:
            return pieces
        raw = (bytes(BYTE_OF.get(character, 0x3F) for character in piece) for piece in pieces)
        return [piece.decode("utf-8", "replace") for piece in raw]

    def token(self, token_id: int | None) -> str:
        """The text of an id."""
        return "nothing" if token_id is None else str(self._tokenizer.id_to_token(token_id))

    def token_id(self, text: str) -> int | None:
        """The id of a token's text."""
        return self._tokenizer.token_to_id(text)

    def kind(self, part: str) -> str:
        """The type of a part of tokenizer.json, as its file calls it."""
        settings = self._settings[part]
        if settings is None:
            return "none"
        inner = settings.get(f"{part}s", settings.get("pretokenizers", settings.get("normalizers")))
        if settings["type"] == "Sequence" and inner:
            return " + ".join(entry["type"] for entry in inner)
        return settings["type"]


def _compare_added(tokenizer: Tokenizer, trace: TokenTrace, theirs: Theirs) -> Parting | None:
    ours = [(s.span.start, s.span.end, s.token_id) for s in trace.specials]
    for mine, other in zip_longest(ours, theirs.specials(trace.text)):
        if mine == other:
            continue
        at = min(place[0] for place in (mine, other) if place)
        names = (
            ascii(tokenizer.token_text(mine[2])) if mine else "no special token",
            ascii(theirs.token(other[2])) if other else "no added token",
        )
        return Parting(at, *names, _why_added(tokenizer, theirs, mine, other))
    return None


def _why_added(
    tokenizer: Tokenizer, theirs: Theirs, mine: tuple | None, other: tuple | None
) -> str:
    if mine and (not other or mine[0] <= other[0]):
        text = tokenizer.token_text(mine[2])
        if not theirs.is_added(text):
            return f"{text!r} is a special token of the GGUF, but no added token of tokenizer.json"
    if other and (not mine or other[0] <= mine[0]):
        text = theirs.token(other[2])
        ours = token_id_of(tokenizer, text)
        if ours is None:
            return f"{text!r} is an added token of tokenizer.json, but no token of the GGUF"
        if mine is None or mine[0] != other[0]:
            return f"{text!r} is an added token of tokenizer.json, but not special in the GGUF"
    if mine and other and mine[:2] != other[:2]:
        return "they differ in which special token comes first or in the white space it takes"
    return "the same special token has another id"


def _compare_normalised(tokenizer: Tokenizer, trace: TokenTrace, theirs: Theirs) -> Parting | None:
    for fragment in trace.fragments:
        mine, other = fragment.normalised, theirs.normalise(fragment.text)
        if _same_text(trace.model, fragment, other):
            continue
        mine = mine.removeprefix(fragment.prefix)
        at = _first_difference(_spaced(mine), _spaced(other).removeprefix(fragment.prefix))
        unchanged = mine == fragment.text
        why = (
            f"the normalizer {theirs.kind('normalizer')} changes what the GGUF leaves as it is"
            if unchanged
            else f"the GGUF's model changes text that the normalizer {theirs.kind('normalizer')} "
            "leaves or changes otherwise"
        )
        at = fragment.span.start + min(at, max(len(fragment.text) - 1, 0))
        return Parting(at, ascii(mine[:80]), ascii(other[:80]), why)
    return None


def _spaced(text: str) -> str:
    return text.replace("▁", " ")


def _same_text(model: str, fragment: Fragment, other: str) -> bool:
    """Equal but for how spaces are written and for a space in front, which later stages show."""
    mine, other = _spaced(fragment.normalised), _spaced(other)
    if model in ("bert", "t5"):  # white space is no part of their words
        return "".join(mine.split()) == "".join(other.split())
    return other in (mine, mine.removeprefix(fragment.prefix))


def _first_difference(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def _compare_words(tokenizer: Tokenizer, trace: TokenTrace, theirs: Theirs) -> Parting | None:
    if trace.model not in WORD_MODELS:
        return None
    for fragment in trace.fragments:
        words = [word for word in fragment.words if word.text.strip() or trace.model == "gpt2"]
        others = theirs.words(theirs.normalise(fragment.text))
        at = fragment.span.start
        for word, other in zip_longest(words, others):
            if word is not None and word.text == other:
                at = word.span.end if word.span else at
                continue
            sides = (END if side is None else ascii(side) for side in (word and word.text, other))
            at = word.span.start if word and word.span else at
            ours = f"pre {trace.pre!r}" if trace.pre else f"model {trace.model!r}"
            why = f"the GGUF's {ours} cuts words otherwise than {theirs.kind('pre_tokenizer')}"
            return Parting(at, *sides, why)
    return None


def _compare_tokens(tokenizer: Tokenizer, trace: TokenTrace, theirs: Theirs) -> Parting | None:
    tokens = [token for token in trace.tokens if token.how != "added"]
    for token, other in zip_longest(tokens, theirs.encode(trace.text, False)):
        if token is not None and token.token_id == other:
            continue
        name = theirs.token(other)
        if token is None:
            return Parting(len(trace.text), "nothing", name, "tokenizer.json gives more tokens")
        word = None if token.word is None else trace.words[token.word]
        why = _why_token(tokenizer, token.text, name, word, theirs)
        sides = (f"{token.text!a} ({token.token_id})", f"{name!a} ({other})")
        return Parting(token.span.start, *sides, why)
    return None


def _why_token(
    tokenizer: Tokenizer, mine: str, other: str, word: WordTrace | None, theirs: Theirs
) -> str:
    if mine == other:
        return f"the token {mine!r} has another id"
    if theirs.token_id(mine) is None:
        return f"the token {mine!r} is missing in tokenizer.json"
    if token_id_of(tokenizer, other) is None:
        return f"the token {other!r} is missing in the GGUF"
    if word is not None and any(lookup.how == "whole word" for lookup in word.lookups):
        return "the GGUF takes whole words that are tokens without merging (ignore_merges)"
    if word is not None and theirs.ranks and all(isinstance(s, MergeStep) for s in word.steps):
        return _why_merges(word, theirs)
    return "the same text becomes other tokens: scores or rules of the model differ"


def _why_merges(word: WordTrace, theirs: Theirs) -> str:
    """The first merge at which the two tables take another way through a word."""
    steps = watch_merges(word.symbols, lambda left, right: theirs.ranks.get((left, right)))
    for mine, other in zip_longest(word.steps, steps):
        if mine and other and (mine.start, mine.end) == (other.start, other.end):
            continue
        if mine and (mine.left, mine.right) not in theirs.ranks:
            return f"the merge {mine.left!r} + {mine.right!r} is missing in tokenizer.json"
        known = {(step.left, step.right) for step in word.steps}
        losers = {(loser.left, loser.right) for step in word.steps for loser in step.losers}
        if other and (other.left, other.right) not in known | losers:
            return f"the merge {other.left!r} + {other.right!r} is missing in the GGUF"
        return "the merges have another order"
    return "the same merges; whole words are taken otherwise (ignore_merges)"


def _compare_ends(tokenizer: Tokenizer, trace: TokenTrace, theirs: Theirs) -> Parting | None:
    plain, full = theirs.encode(trace.text, False), theirs.encode(trace.text, True)
    n = len(full) - len(plain)
    front = next((i for i in range(n + 1) if full[i : i + len(plain)] == plain), 0)
    back = full[front + len(plain) :]
    ours = [list(trace.ids[: _added(trace)]), list(trace.ids[len(trace.ids) - _added(trace, -1) :])]
    if [full[:front], back] == ours:
        return None
    both = (ours, (full[:front], back))
    sides = [f"{len(before)} in front, {len(behind)} behind" for before, behind in both]
    at = 0 if full[:front] != ours[0] else len(trace.text)
    why = f"the post-processor {theirs.kind('post_processor')} adds other tokens than the GGUF"
    return Parting(at, *sides, why)


def _added(trace: TokenTrace, step: int = 1) -> int:
    """How many tokens encode added in front (or, with step -1, behind)."""
    hows = [token.how for token in trace.tokens][::step]
    return next((i for i, how in enumerate(hows) if how != "added"), len(hows) if step > 0 else 0)


STAGES = (
    Stage("added tokens", _compare_added),
    Stage("normalizer", _compare_normalised),
    Stage("pre-tokenizer", _compare_words),
    Stage("model", _compare_tokens),
    Stage("post-processor", _compare_ends),
)
