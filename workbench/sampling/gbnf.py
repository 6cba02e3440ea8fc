r"""GBNF, llama.cpp's form of BNF, written as Lark for llguidance, character by character.

    root ::= "yes" | [a-c]+          start: /[\x{79}]/ /[\x{65}]/ /[\x{73}]/ | /[\x{61}-\x{63}]/+

Every terminal becomes a single character. A lexer takes as much as it can: with longer terminals
`[a-z]+ "a"` could never end, and one literal would hide the start of another. Without them the
language is exactly the one that llama.cpp reads.

Source: llama.cpp grammars/README.md; src/llama-grammar.cpp, `llama_grammar_parser`. Differences:
left recursion is allowed, [] and [z-a] are refused, and a text stays UTF-8, where llama.cpp lets
[^x] begin with the bytes F5 to FF, which no character has.
Leaves out: tokens, <[12]> and <think>.
"""

import re
from collections.abc import Callable

from ..errors import ParameterError, UnsupportedError

__all__ = ["gbnf_to_lark"]

NAME = re.compile(r"[A-Za-z0-9-]+")
ROOT = "root"
COUNT = re.compile(r"\{[ \t\r\n]*([0-9]{1,9})[ \t\r\n]*(,?)[ \t\r\n]*([0-9]{0,9})[ \t\r\n]*\}")
SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
ESCAPED = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
DEEPEST = 100  # parentheses within parentheses
ANY = "/(?s:.)/"


def gbnf_to_lark(text: str) -> str:
    """A GBNF grammar as a Lark grammar of the same language.

    Raises: ParameterError with line and column where it is wrong, UnsupportedError for tokens.
    """
    return _Reader(text).lark()


class _Reader:
    """Reads a grammar from its start; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.numbers: dict[str, int] = {}  # of each rule that is named
        self.first_use: dict[str, int] = {}
        self.rules: dict[str, str] = {}

    def lark(self) -> str:
        """All rules."""
        self._skip(SPACE_AND_LINES)
        while self.at < len(self.text):
            self._rule()
            self._skip(SPACE_AND_LINES)
        for name, at in self.first_use.items():
            if name not in self.rules:
                self._fail(f"no rule is called {name!r}", "the name of a rule", at)
        if ROOT not in self.rules:
            self._fail("there is no rule to begin with", f"a rule {ROOT!r}", 0)
        lines = [f"start: {self._lark_name(ROOT)}"]
        lines += [f"{self._lark_name(name)}: {body}" for name, body in self.rules.items()]
        return "\n".join(lines)

    def _rule(self) -> None:
        name = self._name()
        self._skip(SPACE)
        if not self.text.startswith("::=", self.at):
            self._fail("a rule without its body", "'::='")
        self.at += 3
        self._skip(SPACE_AND_LINES)
        self.rules[name] = self._alternatives(SPACE)
        if self.at < len(self.text) and self.text[self.at] not in "\r\n":
            self._fail("the rule goes on in a way that GBNF does not know", "the end of the line")

    def _alternatives(self, space: re.Pattern) -> str:
        """Sequences with | between them; space: what may stand within."""
        found = [self._sequence(space)]
        while self._next() == "|":
            self.at += 1
            self._skip(SPACE_AND_LINES)
            found.append(self._sequence(space))
        return " | ".join(found)

    def _sequence(self, space: re.Pattern) -> str:
        items: list[str] = []
        read: dict[str, Callable[[], str]] = {
            '"': self._literal, "[": self._class, "(": self._group, ".": self._dot,
        }  # fmt: skip
        while mark := self._next():
            if mark in read:
                items.append(read[mark]())
            elif NAME.match(mark):
                items.append(self._reference())
            elif mark in "*+?{":
                items[-1:] = [self._repeated(items)]
            elif mark in "<!":
                raise UnsupportedError(
                    f"gbnf: {self._place(self.at)}: tokens in a grammar are not in this package; "
                    f"expected characters, rules or groups, got {self.text[self.at :][:12]!r}"
                )
            else:
                break
            self._skip(space)
        return " ".join(items)

    def _literal(self) -> str:
        start, found = self.at, []
        self.at += 1
        while self._next('a closing "', start) != '"':
            found.append(f"/[{self._character()}]/")
        self.at += 1
        return f"({' '.join(found)})"

    def _class(self) -> str:
        start = self.at
        self.at += 1
        found = ""
        no = "^" if self._next("a closing ]", start) == "^" else ""
        self.at += len(no)
        while self._next("a closing ]", start) != "]":
            found += self._range()
        self.at += 1
        if not found:
            self._fail("an empty class", "at least one character in [ ]", start)
        return f"/[{no}{found}]/"

    def _range(self) -> str:
        """One character of a class, or two with - between them."""
        start, first = self.at, self._character()
        if self._next("a closing ]", start) != "-" or self.text[self.at + 1 :][:1] == "]":
            return first
        self.at += 1
        last = self._character()
        if int(last[3:-1], 16) < int(first[3:-1], 16):
            self._fail("a range that ends before it begins", "the smaller character first", start)
        return f"{first}-{last}"

    def _group(self) -> str:
        start, self.depth = self.at, self.depth + 1
        if self.depth > DEEPEST:
            self._fail("too many parentheses within another", f"up to {DEEPEST}")
        self.at += 1
        self._skip(SPACE_AND_LINES)
        inner = self._alternatives(SPACE_AND_LINES)
        if self._next("a closing )", start) != ")":
            self._fail("a group that does not end", "a closing )")
        self.at, self.depth = self.at + 1, self.depth - 1
        return f"({inner})"

    def _dot(self) -> str:
        self.at += 1
        return ANY

    def _reference(self) -> str:
        start = self.at
        name = self._name()
        self.first_use.setdefault(name, start)
        return self._lark_name(name)

    def _repeated(self, items: list[str]) -> str:
        """The last item with * + ? or {m,n}."""
        if not items:
            self._fail("nothing to repeat", "an item before it")
        mark = self._next()
        if mark != "{":
            self.at += 1
            return f"({items[-1]}){mark}"
        count = COUNT.match(self.text, self.at)
        if not count:
            self._fail("no number of repetitions", "{m}, {m,} or {m,n}")
        low, comma, high = count.groups()
        if high and (not comma or int(high) < int(low)):
            self._fail("no number of repetitions", "{m,n} with m up to n")
        self.at = count.end()
        most = high or ("" if comma else low)
        if most and not int(most):
            return "()"  # Lark has no {0}
        return f"({items[-1]}){{{int(low)}{comma}{high and int(high)}}}"

    def _character(self) -> str:
        r"""One character or escape, as the \x{…} of a regular expression."""
        start, mark = self.at, self._next("a character")
        self.at += 1
        if mark == "\\":
            mark = self._next("an escape", start)
            self.at += 1
            n_digits = HEX_DIGITS.get(mark, 0)
            digits = self.text[self.at : self.at + n_digits]
            if n_digits and re.fullmatch(f"[0-9a-fA-F]{{{n_digits}}}", digits):
                self.at += n_digits
                return self._code(int(digits, 16), start)
            if mark not in ESCAPED:
                known = r"\n \r \t \\ \" \[ \] \- \xHH \uHHHH or \UHHHHHHHH"
                self._fail("no such escape", known, start)
            mark = ESCAPED[mark]
        return self._code(ord(mark), start)

    def _code(self, code: int, start: int) -> str:
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self._fail(f"U+{code:04X} is no character", "a Unicode character", start)
        return f"\\x{{{code:x}}}"

    def _name(self) -> str:
        found = NAME.match(self.text, self.at)
        if not found:
            self._fail("no name of a rule", "letters, digits and -")
        self.at = found.end()
        return found[0]

    def _lark_name(self, name: str) -> str:
        return f"r{self.numbers.setdefault(name, len(self.numbers))}"

    def _next(self, wanted: str = "", start: int | None = None) -> str:
        """The next character, "" at the end; wanted: what is missing if that is there."""
        if wanted and self.at >= len(self.text):
            self._fail("the grammar ends here", wanted, start)
        return self.text[self.at : self.at + 1]

    def _skip(self, space: re.Pattern) -> None:
        self.at = space.match(self.text, self.at).end()

    def _place(self, at: int) -> str:
        line = self.text.count("\n", 0, at) + 1
        return f"line {line}, column {at - self.text.rfind(chr(10), 0, at)}"

    def _fail(self, what: str, wanted: str, at: int | None = None) -> None:
        at = self.at if at is None else at
        got = repr(self.text[at : at + 20]) if at < len(self.text) else "the end"
        raise ParameterError(f"gbnf: {self._place(at)}: {what}; expected {wanted}, got {got}")
