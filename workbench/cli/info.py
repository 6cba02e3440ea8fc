"""`workbench info`: what is in a file.

Source: our own. Leaves out what notebook 01 shows as pictures.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import workbench as wb

from .app import app, out
from .printing import print_table

if TYPE_CHECKING:
    from ..gguf import GGUFFile

__all__ = ["info"]

MOST_ITEMS = 100  # of an array in JSON
TENSOR_COLUMNS = ["name", "type", "shape", "nbytes", "offset"]


@app.command()
def info(
    file: Annotated[
        str | None,
        typer.Argument(
            help="A path, https://…, or hf://owner/repository/file.gguf. Default: the built-in "
            "model."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is in FILE: metadata, sizes by type, tensors."""
    with wb.open_gguf(file or wb.model_path()) as gguf:
        if as_json:
            out.print(json.dumps(_facts(gguf), indent=2), markup=False, soft_wrap=True)
            return
        out.print(f"[bold]{escape(str(gguf.path))}[/]")
        out.print(
            f"GGUF version {gguf.version}, {gguf.byte_order}-endian, {gguf.size:,} bytes, "
            f"{len(gguf.metadata)} metadata keys, {len(gguf.tensors)} tensors"
        )
        print_table("metadata", wb.analysis.metadata_table(gguf))
        if gguf.tensors:
            print_table("sizes by type", wb.analysis.size_by(gguf, "type").to_frame())
            print_table("tensors", wb.analysis.tensor_table(gguf)[TENSOR_COLUMNS])


def _facts(gguf: "GGUFFile") -> dict[str, Any]:
    """Everything as plain values; arrays of more than a hundred items by their length."""
    metadata = [
        {"key": key, "type": gguf.metadata.types[key], "value": _plain(value)}
        for key, value in gguf.metadata.items()
    ]
    tensors = [asdict(info) | {"shape": list(info.shape)} for info in gguf.tensors.values()]
    files = [{"path": shard.path, "bytes": shard.nbytes} for shard in gguf.shards]
    form = {"version": gguf.version, "byte_order": gguf.byte_order, "alignment": gguf.alignment}
    return {"files": files, **form, "metadata": metadata, "tensors": tensors}


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float):
        return value
    items = [_plain(item.item() if hasattr(item, "item") else item) for item in value[:MOST_ITEMS]]
    return items if len(value) <= MOST_ITEMS else {"length": len(value), "first": items}
