"""`workbench bench`: the speed of the package beside that of others, who take turns in one run.

    workbench bench dequantize        a part of the package
    workbench bench tokenize FILE...  the same
    workbench bench MODEL             a model: the first word names no part

Source: our own; the measuring is in analysis.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

import workbench as wb

from .app import app, out
from .printing import print_table

__all__ = ["dequantize", "tokenize"]

MODEL = "model"  # the command whose name may be left out


class BenchGroup(TyperGroup):
    """The commands of `workbench bench`; a first word that is none of them is a model's path."""

    def resolve_command(self, ctx, args):
        """Name, command and its arguments; `model` where the first word is no name."""
        known = args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else [MODEL, *args])


bench = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    help="Measure the speed of the package beside that of others, or of MODEL.",
)
app.add_typer(bench, name="bench")


@bench.command()
def dequantize(
    type: Annotated[list[str] | None, typer.Option(help="Default: all types of blocks.")] = None,
    rows: Annotated[int, typer.Option(help="Rows of the matrix.")] = 4096,
    row_length: Annotated[int, typer.Option(help="Weights in a row.")] = 14336,
    repeats: Annotated[int, typer.Option(help="Turns of each program; the median counts.")] = 5,
) -> None:
    """Measure `dequantize` beside gguf-py's."""
    speed = wb.analysis.dequantize_speed(
        type, (rows, row_length), repeats, progress=sys.stderr.isatty()
    )
    print_table(f"dequantize, {rows} x {row_length}: million weights per second", speed)


@bench.command()
def tokenize(
    file: Annotated[list[Path] | None, typer.Argument(help="Default: the built-in model.")] = None,
    text: Annotated[
        Path | None, typer.Option(help="UTF-8. Default: the sources of Python's library.")
    ] = None,
    mb: Annotated[float, typer.Option(help="At most so many millions of bytes of it.")] = 10.0,
) -> None:
    """Measure tokenizers beside Hugging Face's and tiktoken built from the same FILE."""
    sample = wb.analysis.sample_text(text, mb)
    progress = sys.stderr.isatty()
    speed = wb.analysis.tokenizer_speed(file or [wb.model_path()], sample, progress)
    for name in speed.attrs["missing"]:
        out.print(f"{name} is not installed: its columns stay empty")
    print_table(f"tokenize, {len(sample.encode()) / 1e6:.3g} MB, one thread", speed)
