"""The `workbench` command: a thin edge around `import workbench as wb`; it parses, calls, prints.

Errors that a user or a file can cause are one sentence on stderr and exit code 2, no traceback.
Source: our own. Leaves out what notebooks do better: pictures and anything one wants to touch.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import workbench as wb

from .resources import notebooks_path

if TYPE_CHECKING:
    from pandas import DataFrame

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Study the GGUF file you run: its metadata, weights, tokenizer, KV cache and sampling.",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)
DEFAULTS = wb.SamplingParams()
TENSOR_COLUMNS = ["name", "type", "shape", "nbytes", "offset"]
FIRST_NOTEBOOK = "01_metadata_inspection.ipynb"


def main() -> None:
    """Entry point of the console script: run a command, its errors as one sentence and exit 2."""
    try:
        app()
    except (wb.WorkbenchError, OSError) as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2)


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


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    model: Annotated[
        Path | None, typer.Option("-m", "--model", help="GGUF file; default: the built-in model.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("-n", "--max-tokens")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = (
        DEFAULTS.temperature
    ),
    top_k: Annotated[int, typer.Option(help="0 turns it off.")] = DEFAULTS.top_k,
    top_p: Annotated[float, typer.Option(help="1 turns it off.")] = DEFAULTS.top_p,
    min_p: Annotated[float, typer.Option(help="0 turns it off.")] = DEFAULTS.min_p,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = DEFAULTS.seed,
) -> None:
    """Continue PROMPT; the text goes to stdout as it is made, the speed to stderr."""
    params = wb.SamplingParams(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed
    )
    with wb.load_model(model or wb.model_path()) as loaded:
        steps = wb.generate(loaded, prompt, params, max_tokens)
        out.print(prompt, end="", markup=False)
        n_tokens, stop, start = 0, "max_tokens", time.perf_counter()
        for step in steps:
            out.print(step.text, end="", markup=False)
            n_tokens, stop = n_tokens + 1, step.stop
        seconds = time.perf_counter() - start
    out.print()
    err.print(
        f"[dim]{n_tokens} tokens in {seconds:.2f} s ({n_tokens / seconds:.0f} tokens/s, prompt "
        f"included) on {loaded.device}; stopped at {stop}[/]"
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Option(help="Where the notebooks are, or are copied to if missing.")
    ] = Path("notebooks"),
) -> None:
    """Open JupyterLab on the notebooks; further options go to JupyterLab (--port, --no-browser)."""
    copied = copy_missing_notebooks(folder)
    if copied:
        err.print(f"copied into {escape(str(folder))}: {', '.join(copied)}")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    command += [f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        err.print("running as root: JupyterLab is started with --allow-root")
        command += ["--allow-root"]
    sys.exit(subprocess.run([*command, *context.args]).returncode)


def copy_missing_notebooks(folder: Path) -> list[str]:
    """Copy the package's notebooks that `folder` lacks; a file that is there is never touched."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = []
    for source in sorted(notebooks_path().glob("*.ipynb")):
        target = folder / source.name
        if not target.exists():
            shutil.copyfile(source, target)
            copied.append(source.name)
    return copied


def print_table(title: str, frame: "DataFrame") -> None:
    """Print a DataFrame as a table: numbers to the right, the first column never broken."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(frame.columns):
        number = frame[column].dtype.kind in "iuf"
        table.add_column(
            str(column), justify="right" if number else "left", overflow="fold", no_wrap=i == 0
        )
    for row, missing in zip(frame.itertuples(index=False), frame.isna().to_numpy(), strict=True):
        cells = zip(row, missing, strict=True)
        table.add_row(*("" if gone else escape(cell_text(value)) for value, gone in cells))
    out.print(table)


def cell_text(value: object) -> str:
    """A table cell: thousands separated, four digits of a fraction."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
