"""`workbench edit`: other metadata and names in a copy of a file, or in place.

Source: our own. Leaves out changing weights: `workbench quantize`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import workbench as wb

from ..errors import ParameterError
from ..gguf.edit import finish_interrupted
from .app import app, out

__all__ = ["edit"]


@app.command()
def edit(
    file: Annotated[Path, typer.Argument(help="GGUF file.")],
    target: Annotated[Path | None, typer.Argument(help="The file to write.", metavar="OUT")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="key=value, or key:TYPE=value for a new key of a type such as UINT64; arrays and "
            "numbers as JSON. Repeatable.",
        ),
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(help="A key to remove. Repeatable.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="old=new, of a key or a tensor. Repeatable.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Change FILE itself, if the header still fits.")
    ] = False,
) -> None:
    """Write FILE to OUT with other metadata or names; what is not named stays as it is."""
    finish_interrupted(file)  # a header that is half written cannot be opened for its types
    with wb.open_gguf(file, whole=False) as gguf:
        known = dict(gguf.metadata.types)
    values, types = {}, {}
    for text in set_ or []:
        key, type_name, value = _assignment(text, known)
        values[key] = value
        if type_name:
            types[key] = type_name
    names = dict(_pair("--rename", text) for text in rename or [])
    done = wb.edit_gguf(
        file, target, set=values, types=types, unset=unset or (), rename=names, in_place=in_place
    )
    for change in done.changes:
        out.print(escape(change))
    out.print(f"{'changed' if in_place else 'wrote'} {escape(done.path)}, {done.nbytes:,} bytes")


def _assignment(text: str, known: dict[str, str]) -> tuple[str, str | None, Any]:
    """The key, the type if one is named, and the value of "key=value" or "key:TYPE=value"."""
    name, value = _pair("--set", text)
    key, colon, type_name = name.rpartition(":")
    if not colon or name in known:
        key, type_name = name, ""
    wanted = type_name.upper() or known.get(key)
    return key, type_name.upper() or None, _value(text, value, wanted)


def _value(text: str, value: str, wanted: str | None) -> Any:
    """A value as its type wants it; without a type, what JSON makes of it, else text."""
    if wanted == "STRING":
        return value
    try:
        return json.loads(value)
    except ValueError:
        if wanted is None:
            return value
        raise ParameterError(
            f"--set {text!r}: not a value of this type; expected {wanted} as JSON, such as 3, 0.5, "
            f"true or [1, 2], got {value!r}"
        ) from None


def _pair(option: str, text: str) -> tuple[str, str]:
    before, sign, after = text.partition("=")
    if not sign or not before:
        raise ParameterError(
            f"{option} {text!r}: not a pair; expected a name, = and what it becomes, got no "
            f"{'name' if sign else '='}"
        )
    return before, after
