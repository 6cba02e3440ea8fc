"""`workbench split` and `workbench merge`: one file into several, and back.

Source: llama.cpp tools/gguf-split, whose names and limits they take.
"""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import workbench as wb

from ..errors import ParameterError
from .app import app, out

__all__ = ["merge", "split"]

UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}


@app.command()
def split(
    file: Annotated[Path, typer.Argument(help="GGUF file.")],
    name: Annotated[str, typer.Argument(help="What the names of the files begin with.")],
    max_tensors: Annotated[int | None, typer.Option(help="Most tensors of a file.")] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Most bytes of tensors in a file, such as 500M or 4G.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
) -> None:
    """Write FILE as NAME-00001-of-0000N.gguf and so on."""
    for path in wb.split_gguf(file, name, max_tensors, _bytes(max_size), overwrite):
        out.print(f"wrote {escape(path)}, {Path(path).stat().st_size:,} bytes")


@app.command()
def merge(
    file: Annotated[Path, typer.Argument(help="Any file of a split model.")],
    target: Annotated[Path, typer.Argument(help="The file to write.", metavar="OUT")],
    overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
) -> None:
    """Write the split model that FILE is part of as one file."""
    path = wb.merge_gguf(file, target, overwrite)
    out.print(f"wrote {escape(path)}, {Path(path).stat().st_size:,} bytes")


def _bytes(size: str | None) -> int | None:
    if size is None:
        return None
    match = re.fullmatch(r"(\d+)([KMG]?)", size.upper())
    if match is None:
        raise ParameterError(
            f"--max-size {size!r}: no size; expected a number with K, M or G behind it, such as 4G"
        )
    return int(match[1]) * UNITS[match[2]]
