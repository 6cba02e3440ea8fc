"""`workbench bench`: the speed of the package beside that of others, who take turns in one run.

    workbench bench dequantize        a part of the package
    workbench bench tokenize FILE...  the same
    workbench bench MODEL             a model: the first word names no part

Source: our own; the measuring is in analysis.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

import workbench as wb

from .app import app, out
from .printing import print_table

__all__ = ["dequantize", "model", "tokenize"]

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


@bench.command(MODEL)
def model(
    path: Annotated[Path, typer.Argument(help="GGUF file.", metavar="MODEL")],
    device: Annotated[str, typer.Option(help="Only 'cpu' so far.")] = "cpu",
    n_prompt: Annotated[int, typer.Option("-p", "--n-prompt")] = 512,
    n_gen: Annotated[int, typer.Option("-n", "--n-gen")] = 128,
    threads: Annotated[
        int | None,
        typer.Option(
            "-t",
            "--threads",
            min=1,
            help="Of products, and of llama.cpp; default: all cores. NumPy's own threads, which "
            "attention uses, are bound only by OPENBLAS_NUM_THREADS in the environment.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("-r", "--repeats", min=1)] = 3,
    precision: Annotated[
        list[str] | None, typer.Option(help="exact or fast. Default: both.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="llama.cpp: takes turns with us.")] = None,
    peer_python: Annotated[
        str | None, typer.Option(help="A Python with llama-cpp-python. Default: this one.")
    ] = None,
) -> None:
    """Measure prompt (pp) and generation (tg) speed of MODEL, as llama-bench does."""
    if device != "cpu":
        raise wb.UnsupportedError(
            f"device: only the CPU is measured; expected 'cpu', got {device!r}"
        )
    if against not in (None, "llama.cpp"):
        raise wb.ParameterError(f"against: unknown; expected 'llama.cpp', got {against!r}")
    if threads:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)  # numba is not loaded yet and will read it
    python = (peer_python or sys.executable) if against or peer_python else None
    speed = wb.analysis.model_speed(
        path, n_prompt, n_gen, repeats, precision or ["exact", "fast"], python, sys.stderr.isatty()
    )
    rates = [f"{row.tokens_per_s:.2f} ± {row.std:.2f}" for row in speed.itertuples()]
    speed.insert(6, "tokens/s", rates)
    print_table("tokens per second", speed.drop(columns=["tokens_per_s", "std"]))
