"""`workbench quantize`: a file with its weights in smaller types.

Source: our own; which tensor gets which type is llama-quantize's (quants/mixes.py).
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from tqdm import tqdm

import workbench as wb

from ..quants.mixes import FILE_TYPES
from ..quants.whole_file import QuantizedFile, QuantizedTensor
from .app import app, err, out
from .printing import print_rows

__all__ = ["print_quantized", "quantize", "tensor_type_pair"]

QUANTIZED_COLUMNS = ["name", "shape", "old_type", "type", "old_nbytes", "nbytes", "why"]
MIB = 2**20


@app.command()
def quantize(
    file: Annotated[Path, typer.Argument(help="GGUF file, best in F32, F16 or BF16.")],
    out_file: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    type: Annotated[str, typer.Argument(help=f"One of {', '.join(FILE_TYPES)}.")],
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(help="REGEX=TYPE for tensors whose names match; the first match decides."),
    ] = None,
    output_type: Annotated[
        str | None, typer.Option("--output-tensor-type", help="Of output.weight.")
    ] = None,
    token_embd_type: Annotated[
        str | None, typer.Option("--token-embedding-type", help="Of token_embd.weight.")
    ] = None,
    pure: Annotated[bool, typer.Option("--pure", help="One type for all, no mix.")] = False,
    imatrix: Annotated[
        Path | None, typer.Option(help="Importances (.gguf or .dat), see `workbench imatrix`.")
    ] = None,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Quantize quantized weights once more.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell types and sizes.")] = False,
) -> None:
    """Write FILE with quantized weights, each tensor in the type that llama-quantize gives it."""
    with wb.open_gguf(file) as gguf:
        total = sum(tensor.n_elements for tensor in gguf.tensors.values())
    bar = tqdm(total=total, unit="w", unit_scale=True, disable=True if dry_run else None)
    with bar:
        result = wb.quantize_file(
            file,
            out_file,
            type,
            tensor_types=[tensor_type_pair(text) for text in tensor_type or ()],
            output_type=output_type,
            token_embd_type=token_embd_type,
            pure=pure,
            imatrix=imatrix,
            allow_requantize=allow_requantize,
            dry_run=dry_run,
            progress=lambda name, n: (bar.set_postfix_str(name, refresh=False), bar.update(n)),
        )
    if dry_run:
        rows = [[getattr(t, column) for column in QUANTIZED_COLUMNS] for t in result.tensors]
        print_rows("tensors", QUANTIZED_COLUMNS, rows)
    print_quantized(result, imatrix is not None)


def tensor_type_pair(text: str) -> tuple[str, str]:
    """ "ffn_down=Q8_0" as ("ffn_down", "Q8_0"). Raises: ParameterError without both."""
    pattern, equals, type_ = text.rpartition("=")
    if not (pattern and equals and type_):
        raise wb.ParameterError(
            f"--tensor-type {text!r}: cannot be split; expected REGEX=TYPE such as ffn_down=Q8_0, "
            f"got {text!r}"
        )
    return pattern, type_


def print_quantized(result: QuantizedFile, has_imatrix: bool) -> None:
    """What `quantize` did, by type, and what its user should know of it."""
    by_type: dict[str, list[QuantizedTensor]] = {}
    for tensor in result.tensors:
        by_type.setdefault(tensor.type, []).append(tensor)
    rows = [
        [type_, len(group), sum(t.old_nbytes for t in group), sum(t.nbytes for t in group)]
        for type_, group in sorted(by_type.items())
    ]
    print_rows("sizes by type", ["type", "n_tensors", "old_nbytes", "nbytes"], rows)
    out.print(
        f"{result.file_type}: {result.old_nbytes / MIB:.2f} MiB → {result.nbytes / MIB:.2f} MiB, "
        f"{result.bits_per_weight:.2f} bits per weight"
        + ("" if result.path is None else f", written to {escape(result.path)}")
    )
    changed = [t for t in result.tensors if t.type != t.old_type]
    fallen = [t.name for t in changed if t.why == "fallback"]
    bare = [t.name for t in changed if has_imatrix and not t.has_importance]
    lacking = [t.name for t in changed if t.needs_imatrix and not t.has_importance]
    for names, what in (
        (fallen, "rows do not fill a block of the wanted type, so that another was taken"),
        (bare, "the imatrix has no entry"),
        (lacking, "this type needs an imatrix; without one it will be refused"),
    ):
        if names:
            others = f" and {len(names) - 1} others" if names[1:] else ""
            err.print(f"[yellow]note:[/] {escape(names[0])}{others}: {what}")
