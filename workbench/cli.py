"""The `workbench` command: a thin edge around `import workbench as wb`; it parses, calls, prints.

Errors that a user or a file can cause are one sentence on stderr and exit code 2, no traceback.
Source: our own. Leaves out what notebooks do better: pictures and anything one wants to touch.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

import workbench as wb

from .quants.mixes import FILE_TYPES
from .quants.whole_file import QuantizedFile, QuantizedTensor
from .resources import notebooks_path

if TYPE_CHECKING:
    from pandas import DataFrame

    from .analysis.imatrix import ImatrixStatistics

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Study the GGUF file you run: its metadata, weights, tokenizer, KV cache and sampling.",
)
WIDTH = None if sys.stdout.isatty() else 160  # nobody reads a pipe on a narrow screen
out = Console(highlight=False, soft_wrap=True, width=WIDTH)
err = Console(highlight=False, soft_wrap=True, stderr=True)
DEFAULTS = wb.SamplingParams()
TENSOR_COLUMNS = ["name", "type", "shape", "nbytes", "offset"]
QUANTIZED_COLUMNS = ["name", "shape", "old_type", "type", "old_nbytes", "nbytes", "why"]
MIB = 2**20
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


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="What to measure: dequantize.")],
    type: Annotated[list[str] | None, typer.Option(help="Default: all types of blocks.")] = None,
    rows: Annotated[int, typer.Option(help="Rows of the matrix.")] = 4096,
    row_length: Annotated[int, typer.Option(help="Weights in a row.")] = 14336,
    repeats: Annotated[int, typer.Option(help="Turns of each program; the median counts.")] = 5,
) -> None:
    """Measure the speed of the package beside that of others, who take turns in one run."""
    if what != "dequantize":
        raise wb.ParameterError(
            f"bench: nothing of this name to measure; expected dequantize, got {what!r}"
        )
    speed = wb.analysis.dequantize_speed(
        type, (rows, row_length), repeats, progress=sys.stderr.isatty()
    )
    print_table(f"dequantize, {rows} x {row_length}: million weights per second", speed)


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
    options = [f"--ServerApp.root_dir={folder.resolve()}"]
    options += [f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        err.print("running as root: JupyterLab is started with --allow-root")
        options += ["--allow-root"]
    from jupyterlab.labapp import LabApp  # a second to import: only when needed

    LabApp.launch_instance([*options, *context.args])  # in this process: one Ctrl-C ends it


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
    """Print a DataFrame as a table; what is missing stays empty."""
    rows = [
        [None if gone else value for value, gone in zip(row, missing, strict=True)]
        for row, missing in zip(frame.itertuples(index=False), frame.isna().to_numpy(), strict=True)
    ]
    print_rows(title, [str(column) for column in frame.columns], rows)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: numbers to the right, the first column never broken, None empty."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        values = [row[i] for row in rows if row[i] is not None]
        number = bool(values) and all(isinstance(v, int | float | np.number) for v in values)
        table.add_column(
            column, justify="right" if number else "left", overflow="fold", no_wrap=i == 0
        )
    for row in rows:
        table.add_row(*("" if value is None else escape(cell_text(value)) for value in row))
    out.print(table)


def cell_text(value: object) -> str:
    """A table cell: thousands separated, four digits of a fraction."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
