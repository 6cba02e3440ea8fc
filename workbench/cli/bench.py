"""`workbench bench`: the speed of the package beside that of others, who take turns in one run.

    workbench bench dequantize        a part of the package
    workbench bench MODEL             a model: the first word names no part

Source: our own; the measuring is in analysis.
"""

import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

import workbench as wb

from .app import app
from .printing import print_table

__all__ = ["dequantize"]

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
