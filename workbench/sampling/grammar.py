"""Grammars over tokens: which token of a vocabulary may come next, so that the text obeys one.

    text so far  {"name": "L      pieces  il  ok      "}  end of "}  ok, the text is complete
                                  i"  ok      }"  refused            and an end token may follow

A JSON schema, a regular expression, a Lark or a GBNF grammar (`gbnf.py`) becomes an object for
`SamplerChain(grammar=...)`. The parser and the masks are llguidance's (github.com/guidance-ai/
llguidance, MIT); the vocabulary it works on is made here of our tokenizer's pieces.

Rules of our own: control and unknown tokens are never allowed, and end tokens exactly where the
text is complete. White space in JSON is short, as llama.cpp's json-schema-to-grammar has it, or a
model in doubt would write it for ever. The text meant is the joined pieces: a tokenizer that
cleans up spaces may print some of them no more.
Leaves out: tokens that a grammar forces, which the model computes all the same.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import ParameterError, UnsupportedError
from .gbnf import gbnf_to_lark
from .grammar_words import pattern_words, placed_words, schema_words, words

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from ..tokenizer.tokenizer import Tokenizer

__all__ = ["TokenGrammar", "gbnf", "json_schema", "lark", "regex"]

WHITE_SPACE = r"[ ]?|\n{1,2}[ \t]{0,20}"
MOST_RULES = 1000  # llguidance follows rules by recursion; some 3000 in a row overflow its stack
MOST_ITEMS = 5_000_000  # of the parser, for one mask: grammars by characters need many
Words = Callable[[str], str]
# Behind a text that a grammar forces, llguidance's masks would count on us to have written it.
NO_FORCING = '\n%llguidance {"no_forcing": true}'
NO_MORE = "NoExtension"  # how llguidance's stop reasons begin where no token fits


def json_schema(schema: Mapping[str, Any] | bool | str, tokenizer: "Tokenizer") -> "TokenGrammar":
    """A grammar of the JSON texts that a schema describes.

    schema: a JSON schema as a mapping, or as JSON text. tokenizer: of the model that will write.
    Raises: ParameterError for a schema that is no JSON, is wrong, or allows nothing;
        UnsupportedError for one that is too large.
    Source: llguidance docs/json_schema.md, which lists the keywords.

    Example: json_schema({"type": "object", "properties": {"age": {"type": "integer"}}}, tok)
    """
    from llguidance import LLMatcher  # a compiled library, only where a grammar is wanted

    text, value = _json_text(schema)
    _demand_few_rules("json_schema", text)

    def said(message: str) -> str:
        return schema_words(value, lambda part: LLMatcher.validate_grammar(_schema_lark(part)))

    return _made("json_schema", _schema_lark(value), tokenizer, said)


def regex(pattern: str, tokenizer: "Tokenizer") -> "TokenGrammar":
    """A grammar of the texts that a regular expression matches from end to end.

    pattern: in the syntax of Rust's regex crate, without look-around and back references.
    tokenizer: of the model that will write. Raises: as `json_schema`.

    Example: regex(r"(yes|no)[.!]", tok)
    """
    from llguidance import LLMatcher  # as above

    text = _checked_text("regex", pattern)
    made = json.loads(LLMatcher.grammar_from_regex(text))  # between slashes, those in it escaped
    return _made("regex", made["grammars"][0]["lark_grammar"], tokenizer, pattern_words)


def lark(grammar: str, tokenizer: "Tokenizer") -> "TokenGrammar":
    """A grammar in llguidance's form of Lark; it begins at the rule `start`.

    Its terminals (names in capitals, regular expressions) take as much text as they can.
    tokenizer: of the model that will write. Raises: as `json_schema`.
    Source: llguidance docs/syntax.md.
    """
    text = _checked_text("lark", grammar)
    _demand_few_rules("lark", text)
    return _made("lark", text, tokenizer, placed_words)


def gbnf(grammar: str, tokenizer: "Tokenizer") -> "TokenGrammar":
    """A grammar in llama.cpp's form of BNF; it begins at the rule `root`.

    tokenizer: of the model that will write. Raises: as `json_schema`; UnsupportedError also for
    tokens written as <[id]> or <text>.
    Source: llama.cpp grammars/README.md.

    Example: gbnf('root ::= ("ha" " "?)+ "."', tok)
    """
    text = gbnf_to_lark(_checked_text("gbnf", grammar))
    _demand_few_rules("gbnf", text)
    return _made("gbnf", text, tokenizer, words)


class TokenGrammar:
    """A place in a text that obeys a grammar, as `SamplerChain` asks for it.

    kind: "json_schema", "regex", "lark" or "gbnf". Made by the functions of those names.
    """

    def __init__(
        self, kind: str, matcher: "LLMatcher", usable: np.ndarray, ends: frozenset[int]
    ) -> None:
        """usable: (n_vocab,) bool, tokens that have a text; ends: tokens that end generation."""
        self.kind = kind
        self._start, self._matcher = matcher, matcher.deep_copy()
        self._usable, self._ends, self._ended = usable, ends, False

    def __repr__(self) -> str:
        state = "complete" if self.is_finished else "not complete"
        return f"TokenGrammar({self.kind}, {len(self._usable)} tokens, text {state})"

    @property
    def is_finished(self) -> bool:
        """Whether the text is complete: it may end here, and may yet go on where the mask says."""
        return self._ended or self._matcher.is_accepting()

    def allows(self, token_id: int) -> bool:
        """Whether a token may come next. Raises: ParameterError for an id outside the vocabulary"""
        if not 0 <= token_id < len(self._usable):
            raise ParameterError(
                f"{self.kind}: made for another vocabulary; expected a token from 0 to "
                f"{len(self._usable) - 1}, got {token_id}"
            )
        if self._ended:
            return False
        if token_id in self._ends:
            return self.is_finished
        return bool(self._usable[token_id]) and self._matcher.validate_tokens([token_id]) == 1

    def mask(self) -> np.ndarray:
        """Which tokens may come next, (n_vocab,) bool; none where the vocabulary cannot go on.

        Raises: UnsupportedError where the grammar needs more steps than llguidance takes.
        """
        allowed = np.zeros(len(self._usable), bool)
        if self._ended:
            return allowed
        finished = self.is_finished  # a mask without tokens ends the matcher
        if not self._matcher.is_stopped():
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, count=len(self._usable), bitorder="little") > 0
            allowed &= self._usable
            self._demand_no_error()
        allowed[list(self._ends)] = finished
        return allowed

    def accept(self, token_id: int) -> None:
        """Go on behind a token. Raises: ParameterError if it is not allowed here."""
        if not self.allows(token_id):
            self._demand_no_error()
            raise ParameterError(
                f"{self.kind}: token {token_id} may not come next; expected one that the grammar "
                "allows, got one that it refuses; draw with a chain that has this grammar"
            )
        if token_id in self._ends:
            self._ended = True
        else:
            self._matcher.consume_token(token_id)

    def fork(self) -> "TokenGrammar":
        """An independent copy in the same state."""
        twin = TokenGrammar(self.kind, self._start, self._usable, self._ends)
        twin._matcher, twin._ended = self._matcher.deep_copy(), self._ended
        return twin

    def reset(self) -> None:
        """Return to the start of the text."""
        self._matcher, self._ended = self._start.deep_copy(), False

    def _demand_no_error(self) -> None:
        said = words(self._matcher.get_error())
        if self._matcher.is_error() and not said.startswith(NO_MORE):
            raise UnsupportedError(
                f"{self.kind}: too much work for one token ({said}); expected a smaller grammar, "
                "fewer repetitions or fewer ambiguous rules"
            )


class _Vocabulary:
    """What llguidance asks of a tokenizer: all pieces, and one token more that ends the text."""

    is_tokenizer_wrapper, bos_token_id = True, None

    def __init__(self, pieces: list[bytes]) -> None:
        self.tokens = [*pieces, b"<end>"]
        self.eos_token_id = len(pieces)
        self.special_token_ids = [len(pieces)]

    def __call__(self, text: Any) -> list[int]:
        return []  # for tokens that a grammar forces, which nobody asks for


_OPEN: WeakKeyDictionary = WeakKeyDictionary()  # tokenizer -> (its LLTokenizer, usable tokens)


def _open_vocabulary(tokenizer: "Tokenizer") -> tuple[Any, np.ndarray]:
    """llguidance's tokenizer over our pieces, made once, and which tokens have a text."""
    from llguidance import LLTokenizer  # as above

    if tokenizer not in _OPEN:
        pieces = [tokenizer.piece(token_id) for token_id in range(tokenizer.n_vocab)]
        usable = np.array([bool(piece) for piece in pieces])
        usable[list(tokenizer.eog_ids)] = False
        _OPEN[tokenizer] = LLTokenizer(_Vocabulary(pieces)), usable
    return _OPEN[tokenizer]


def _made(kind: str, text: str, tokenizer: "Tokenizer", said: Words) -> TokenGrammar:
    """A grammar in Lark at its start; said: llguidance's message -> ours."""
    vocabulary, usable = _open_vocabulary(tokenizer)
    matcher = _matcher(vocabulary, text + NO_FORCING)
    if matcher.is_error():
        raise ParameterError(f"{kind}: {said(matcher.get_error())}")
    made = TokenGrammar(kind, matcher, usable, frozenset(tokenizer.eog_ids))
    if not made.mask().any() and not made.is_finished:
        raise ParameterError(
            f"{kind}: allows no text that this vocabulary can write; expected at least one token "
            "to begin with, got none"
        )
    made.reset()
    return made


def _schema_lark(schema: Any) -> str:
    """A JSON schema as a Lark grammar, with our white space unless the schema asks for another."""
    from llguidance import LLMatcher  # as above

    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    options = {"whitespace_pattern": WHITE_SPACE}
    made = json.loads(LLMatcher.grammar_from_json_schema(schema, defaults=options))
    return f"start: %json {json.dumps(made['grammars'][0]['json_schema'])}"


def _matcher(vocabulary: Any, grammar: str) -> "LLMatcher":
    from llguidance import LLMatcher, LLParserLimits  # as above

    limits = LLParserLimits(step_max_items=MOST_ITEMS, verbose_errors=False)
    return LLMatcher(vocabulary, grammar, log_level=0, limits=limits)


def _checked_text(kind: str, text: Any) -> str:
    if not isinstance(text, str):
        raise ParameterError(f"{kind}: expected a text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ParameterError(
            f"{kind}: character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}; expected Unicode characters"
        ) from None
    return text


def _json_text(schema: Any) -> tuple[str, Any]:
    """A schema as JSON text, and as what that stands for."""
    if not isinstance(schema, Mapping | bool | str):
        raise ParameterError(
            f"json_schema: expected a mapping or JSON text, got {type(schema).__name__}"
        )
    try:
        text = schema if isinstance(schema, str) else _dumped(schema)
        value = json.loads(text)
        plain = _dumped(value)  # every text in its plain spelling, so that "$ref" can be counted
        plain.encode()
    except json.JSONDecodeError as error:
        raise ParameterError(
            f"json_schema: line {error.lineno}, column {error.colno}: {error.msg}; expected JSON, "
            f"got {text[error.pos : error.pos + 20]!r}"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ParameterError(f"json_schema: no JSON can stand for it; {error}") from None
    if not isinstance(value, Mapping | bool):
        raise ParameterError(
            f"json_schema: no schema; expected an object, true or false, got {text[:40]!r}"
        )
    return plain, value


def _dumped(schema: Any) -> str:
    plain = dict(schema) if isinstance(schema, Mapping) else schema
    return json.dumps(plain, allow_nan=False, ensure_ascii=False)


def _demand_few_rules(kind: str, text: str) -> None:
    n_rules = len(re.findall(r'^\s*[?!]?\w+[^\n:"]*:|"\$ref"', text, re.MULTILINE))
    if n_rules > MOST_RULES:
        raise UnsupportedError(
            f"{kind}: too large; expected at most {MOST_RULES} rules or references, got {n_rules}"
        )
