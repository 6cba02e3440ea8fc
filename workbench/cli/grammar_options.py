"""The options that hold a text to a grammar: --json-schema, --regex, --lark, --gbnf.

Source: llama.cpp's --json-schema and --grammar. Leaves out: what the grammars mean
(`sampling/grammar.py`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import workbench as wb

if TYPE_CHECKING:
    from ..sampling.grammar import TokenGrammar
    from ..tokenizer import Tokenizer

__all__ = ["Gbnf", "JsonSchema", "Lark", "Regex", "chosen_grammar"]

JsonSchema = Annotated[
    str | None, typer.Option("--json-schema", help="Write JSON of this schema; @FILE reads it.")
]
Regex = Annotated[
    str | None, typer.Option("--regex", help="Write what this pattern matches; @FILE reads it.")
]
Lark = Annotated[
    str | None, typer.Option("--lark", help="Write by this Lark grammar; @FILE reads it.")
]
Gbnf = Annotated[
    str | None, typer.Option("--gbnf", help="Write by llama.cpp's grammar; @FILE reads it.")
]


def chosen_grammar(
    tokenizer: "Tokenizer",
    json_schema: str | None,
    regex: str | None,
    lark: str | None,
    gbnf: str | None,
) -> "TokenGrammar | None":
    """The grammar of the one option that is given, None without any.

    Raises: ParameterError for two of them, and for a wrong grammar.
    """
    texts = {"json_schema": json_schema, "regex": regex, "lark": lark, "gbnf": gbnf}
    given = {kind: text for kind, text in texts.items() if text is not None}
    if len(given) > 1:
        names = ", ".join(f"--{kind.replace('_', '-')}" for kind in given)
        raise wb.ParameterError(f"grammar: expected one of its options, got {names}")
    for kind, text in given.items():
        return getattr(wb.sampling.grammar, kind)(_read(text, kind), tokenizer)
    return None


def _read(text: str, kind: str) -> str:
    if not text.startswith("@"):
        return text
    read = Path(text[1:]).read_text(encoding="utf-8", errors="surrogateescape")
    return read.rstrip("\r\n") if kind == "regex" else read
