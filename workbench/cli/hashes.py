"""`workbench hash`: SHA-256 of a file and of each tensor.

Source: our own; llama.cpp's gguf-hash prints the tensors' in the same form.
"""

import json
import sys
from typing import Annotated

import typer
from rich.markup import escape

import workbench as wb

from .app import app, out

__all__ = ["hash_file"]


@app.command("hash")
def hash_file(
    file: Annotated[str, typer.Argument(help="GGUF file; of a split model, any file.")],
    tensors: Annotated[bool, typer.Option(help="Hash each tensor too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the SHA-256 of FILE and of each tensor in it."""
    hashes = wb.hash_gguf(file, tensors=tensors, progress=sys.stderr.isatty())
    if as_json:
        text = {"files": dict(hashes.files), "tensors": dict(hashes.tensors)}
        out.print(json.dumps(text, indent=2), markup=False, soft_wrap=True)
        return
    for names in (hashes.tensors, hashes.files):
        for name, digest in names.items():
            out.print(f"{digest}  {escape(name)}", soft_wrap=True, highlight=False)
