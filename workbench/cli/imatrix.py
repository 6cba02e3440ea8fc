"""`workbench imatrix`: the importances of a model's columns, collected from a text or described.

Source: our own; the numbers are llama-imatrix's (analysis/imatrix.py).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from tqdm import tqdm

import workbench as wb

from .app import app, out
from .printing import print_table

if TYPE_CHECKING:
    from ..analysis.imatrix import ImatrixStatistics

__all__ = ["imatrix", "print_statistics", "read_text"]


@app.command()
def imatrix(
    file: Annotated[Path, typer.Argument(help="A model; without TEXT an imatrix to describe.")],
    text: Annotated[Path | None, typer.Argument(help="UTF-8 text to run the model on.")] = None,
    out_file: Annotated[
        Path, typer.Option("-o", "--output", help="The imatrix to write (.gguf).")
    ] = Path("imatrix.gguf"),
    n_ctx: Annotated[
        int | None, typer.Option("-c", "--ctx-size", help="Tokens of a chunk; default: 512.")
    ] = None,
    output: Annotated[
        bool, typer.Option("--process-output", help="Include output.weight.")
    ] = False,
) -> None:
    """Collect the importances of FILE's columns from TEXT, or describe the imatrix FILE."""
    if text is None:
        print_statistics(wb.analysis.imatrix_statistics(wb.read_imatrix(file)))
        return
    if out_file.exists() and any(out_file.samefile(read) for read in (file, text)):
        raise wb.ParameterError(
            f"{out_file}: is a file to read; expected another path for the imatrix, got the same"
        )
    with wb.load_model(file) as model, tqdm(unit="chunk", disable=None) as bar:
        collected = wb.analysis.collect_imatrix(
            model,
            read_text(text),
            n_ctx,
            output=output,
            dataset=str(text),
            progress=lambda done, n: (setattr(bar, "total", n), bar.update(done - bar.n)),
        )
    wb.write_imatrix(out_file, collected)
    print_statistics(wb.analysis.imatrix_statistics(collected))
    out.print(
        f"{len(collected.entries)} entries from {collected.chunk_count} chunks of "
        f"{collected.chunk_size} tokens, written to {escape(str(out_file))}"
    )


def read_text(path: Path) -> str:
    """The text of a file. Raises: ParameterError where it is not UTF-8; OSError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise wb.ParameterError(
            f"{path}, byte {error.start}: not UTF-8; expected a text file, got byte "
            f"{error.object[error.start]:#04x}; convert it"
        ) from None


def print_statistics(statistics: "ImatrixStatistics") -> None:
    """The two tables of llama-imatrix --show-statistics."""
    print_table("tensors: mean squares of their inputs", statistics.to_frame())
    print_table("layers: means over their tensors", statistics.layers())
