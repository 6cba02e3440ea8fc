"""`workbench info`: what is in a file.

Source: our own. Leaves out what notebook 01 shows as pictures.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import workbench as wb

from .app import app, out
from .printing import print_table

__all__ = ["info"]

TENSOR_COLUMNS = ["name", "type", "shape", "nbytes", "offset"]


@app.command()
def info(
    file: Annotated[Path | None, typer.Argument(help="Default: the built-in model.")] = None,
) -> None:
    """Show what is in FILE: metadata, sizes by type, tensors."""
    with wb.open_gguf(file or wb.model_path()) as gguf:
        out.print(f"[bold]{escape(str(gguf.path))}[/]")
        out.print(
            f"GGUF version {gguf.version}, {gguf.byte_order}-endian, {gguf.size:,} bytes, "
            f"{len(gguf.metadata)} metadata keys, {len(gguf.tensors)} tensors"
        )
        print_table("metadata", wb.analysis.metadata_table(gguf))
        if gguf.tensors:
            print_table("sizes by type", wb.analysis.size_by(gguf, "type").to_frame())
            print_table("tensors", wb.analysis.tensor_table(gguf)[TENSOR_COLUMNS])
