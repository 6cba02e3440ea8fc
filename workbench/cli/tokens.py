"""`workbench tokens`: a text as tokens, on the terminal or as JSON.

Source: our own. Leaves out what the stepper of notebook 03 shows.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import workbench as wb

from ..tokenizer import TokenAttribute
from ..tokenizer.trace_tree import visible
from .app import app, out

if TYPE_CHECKING:
    from ..tokenizer import Tokenizer

__all__ = ["coloured_pieces", "token_report", "tokens"]

TINTS = ("black on sky_blue1", "black on light_goldenrod2")
SPECIAL = "white on dark_orange3"
SILENT = TokenAttribute.CONTROL | TokenAttribute.UNKNOWN


@app.command()
def tokens(
    file: Annotated[Path, typer.Argument(help="GGUF file; only its metadata is read.")],
    text: Annotated[str, typer.Argument(help='The text; "-" reads UTF-8 from stdin.')],
    trace: Annotated[
        bool, typer.Option("--trace", help="Print every stage, and what lost at each merge.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, no colours.")] = False,
    no_special: Annotated[
        bool, typer.Option("--no-special", help="Add no BOS, EOS and the like.")
    ] = False,
    parse_special: Annotated[
        bool, typer.Option("--parse-special", help='Read "</s>" and the like as tokens.')
    ] = False,
) -> None:
    """Show TEXT as the tokens of FILE: ids, pieces, bytes per token."""
    raw = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    with wb.open_gguf(file) as gguf:
        tokenizer = wb.load_tokenizer(gguf)
    report = token_report(tokenizer, raw, not no_special, parse_special)
    traced = tokenizer.trace(raw, not no_special, parse_special) if trace else None
    if as_json:
        more = {"trace": traced.to_dict()} if traced else {}
        out.print(Text(json.dumps(report | more)))  # as Text: rich would read :smile: in a str
        return
    if traced:
        out.print(Text(str(traced)))
    ids = report["ids"]
    separator = "" if out.color_system else "|"  # without colours nothing else parts the pieces
    out.print(coloured_pieces(tokenizer, ids, separator))
    out.print(Text(" ".join(map(str, ids))))
    out.print(
        f"{report['n_tokens']:,} tokens ({report['n_added']} added) for {report['n_bytes']:,} bytes"
        f", {report['bytes_per_token']:.2f} bytes per token"
    )


def token_report(
    tokenizer: "Tokenizer", raw: bytes, add_special: bool, parse_special: bool
) -> dict[str, Any]:
    """A text's ids, the tokens behind them, and counts; bytes per token without the added ones."""
    ids = tokenizer.encode(raw, add_special, parse_special)
    n_own = len(tokenizer.encode(raw, False, parse_special)) if add_special else len(ids)
    known = {i: (tokenizer.token_text(i), tokenizer.piece(i, special=True)) for i in set(ids)}
    return {
        "text": raw.decode(),
        "model": tokenizer.model,
        "pre": tokenizer.pre,
        "ids": ids,
        "tokens": [known[i][0] for i in ids],
        "pieces_hex": [known[i][1].hex() for i in ids],
        "n_tokens": len(ids),
        "n_added": len(ids) - n_own,
        "n_bytes": len(raw),
        "bytes_per_token": len(raw) / n_own if n_own else 0.0,
    }


def coloured_pieces(tokenizer: "Tokenizer", ids: list[int], separator: str = "") -> Text:
    """The pieces in alternating colours, special tokens in a third; unprintable bytes escaped."""
    line = Text()
    for number, token_id in enumerate(ids):
        piece = tokenizer.piece(token_id, special=True)
        style = SPECIAL if tokenizer.attribute(token_id) & SILENT else TINTS[number % 2]
        line.append(separator if number else "")
        line.append(visible(piece.decode("utf-8", "backslashreplace")), style)
    return line
