"""`workbench diff`: what differs between files.

Source: our own. Leaves out how far weights lie apart: notebook 02.
"""

import json
import sys
from typing import Annotated

import typer

import workbench as wb

from .app import app, out
from .printing import print_table

__all__ = ["diff"]


@app.command()
def diff(
    files: Annotated[list[str], typer.Argument(help="Two or more GGUF files.", metavar="FILE...")],
    tensors: Annotated[bool, typer.Option(help="Compare the bytes of tensors.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what differs between FILEs: keys, types by layer and role, sizes; exit 1 if anything."""
    found = wb.diff_gguf(*files, tensors=tensors, progress=sys.stderr.isatty())
    if as_json:
        out.print(json.dumps(found.to_dict(), indent=2), markup=False, soft_wrap=True)
    else:
        print_table("sizes", found.sizes)
        if len(found.metadata):
            print_table("metadata that differs", found.metadata)
        differ = found.tensors[[same is False for same in found.tensors["same"]]]
        if len(differ):
            print_table("types, F16 → Q4_0 where they differ", found.types.reset_index())
        out.print(f"{len(differ)} of {len(found.tensors)} tensors differ")
    if len(found.metadata) or any(same is False for same in found.tensors["same"]):
        raise typer.Exit(1)
