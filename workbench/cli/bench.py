"""`workbench bench`: the speed of the package beside that of others, who take turns in one run.

    workbench bench dequantize        a part of the package
    workbench bench tokenize FILE...  the same
    workbench bench open FILE         the same: time and memory until a file is open
    workbench bench sampling          the same: a token's way through the sampler chain
    workbench bench MODEL             a model: the first word names no part
    workbench bench --synthetic 8b:Q4_K_M      a model of random weights, made for it

Source: our own; the measuring is in analysis.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

import workbench as wb

from .app import app, out
from .printing import print_rows, print_table

if TYPE_CHECKING:
    from ..analysis import SpeedResult, SpeedRun

__all__ = ["dequantize", "model", "open_file", "sampling", "tokenize"]

MODEL = "model"  # the command whose name may be left out


class BenchGroup(TyperGroup):
    """The commands of `workbench bench`; a first word that is none of them is of `model`."""

    def parse_args(self, ctx, args):
        """The same with `model` in front, where the first word is no command."""
        known = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if known else [MODEL, *args])


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


@bench.command("open")
def open_file(
    file: Annotated[Path, typer.Argument(help="GGUF file.")],
    repeats: Annotated[int, typer.Option(min=1, help="Turns; the fastest counts.")] = 3,
) -> None:
    """Measure opening FILE beside gguf-py: seconds, and megabytes beyond the imports."""
    speed = wb.analysis.open_speed(file, repeats, progress=sys.stderr.isatty())
    for name in speed.attrs["missing"]:
        out.print(f"{name} is not installed: its row is left out")
    print_table(f"open {file.name}, {file.stat().st_size / 1e6:.1f} MB", speed)


@bench.command()
def sampling(
    n_vocab: Annotated[int, typer.Option(help="Logits of a token.")] = 128_256,
    repeats: Annotated[int, typer.Option(help="Turns; the fastest counts.")] = 20,
) -> None:
    """Measure the sampler chain, milliseconds of a token by stage."""
    speed = wb.analysis.sampling_speed(n_vocab, repeats)
    print_table(f"sampler chain, {n_vocab:,} logits: milliseconds of a token, on the CPU", speed)


@bench.command(MODEL)
def model(
    path: Annotated[Path | None, typer.Argument(help="GGUF file.", metavar="MODEL")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    n_prompt: Annotated[
        str, typer.Option("-p", "--n-prompt", help="Tokens of a prompt, such as 512,2048.")
    ] = "512",
    n_gen: Annotated[
        str, typer.Option("-n", "--n-gen", help="Tokens one after the other.")
    ] = "128",
    depth: Annotated[
        str, typer.Option("-d", "--depth", help="Tokens before the tests, such as 0,4096.")
    ] = "0",
    threads: Annotated[
        int | None,
        typer.Option(
            "-t",
            "--threads",
            min=1,
            help="Of products on the CPU, and of llama.cpp; default: all cores. NumPy's own "
            "threads, which attention uses, are bound only by OPENBLAS_NUM_THREADS in the "
            "environment.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("-r", "--repeats", min=1)] = 3,
    precision: Annotated[
        list[str] | None, typer.Option(help="exact or fast. Default: fast, on the CPU both.")
    ] = None,
    synthetic: Annotated[
        str | None,
        typer.Option(help="SHAPE:RECIPE such as 8b:Q4_K_M: makes MODEL of random weights."),
    ] = None,
    against: Annotated[str | None, typer.Option(help="llama.cpp: takes turns with us.")] = None,
    peer_python: Annotated[
        str | None, typer.Option(help="A Python with llama-cpp-python. Default: this one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON instead.")] = False,
) -> None:
    """Measure prompt (pp) and generation (tg) speed of MODEL, as llama-bench does.

    With --synthetic, MODEL is where the random model is kept; without MODEL it is gone afterwards.
    """
    if against not in (None, "llama.cpp"):
        raise wb.ParameterError(f"against: unknown; expected 'llama.cpp', got {against!r}")
    if threads:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)  # numba is not loaded yet and will read it
    python = (peer_python or sys.executable) if against or peer_python else None
    progress = sys.stderr.isatty()
    prompts, gens = _numbers("n_prompt", n_prompt), _numbers("n_gen", n_gen)
    depths = _numbers("depth", depth)
    wb.analysis.speed_tests(prompts, gens, depths)  # what cannot be asked costs no file
    with _model_file(path, synthetic, progress) as file:
        run = wb.analysis.speed_run(
            file, prompts, gens, repeats, precision, python, progress, device, depths
        )
    if json:
        sys.stdout.write(run.to_json() + "\n")
    else:
        _print_run(run)


def _numbers(name: str, text: str) -> list[int]:
    """ "0,4096" -> [0, 4096]."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise wb.ParameterError(
            f"{name}: not numbers of tokens; expected such as 512 or 0,4096, got {text!r}; "
            "separate them by commas"
        ) from None


@contextmanager
def _model_file(path: Path | None, synthetic: str | None, progress: bool) -> Iterator[Path]:
    """The file to measure; a random one is written now, and removed if it has no path."""
    if synthetic is None and path is None:
        raise wb.ParameterError(
            "MODEL: nothing to measure; expected a GGUF file or --synthetic, got neither; for "
            "example --synthetic 1b:Q4_0"
        )
    if synthetic is None:
        yield path
        return
    if path is not None and path.exists():
        raise wb.ParameterError(
            f"{path}: there is a file already; expected a new path for --synthetic, got one that "
            "is taken; leave --synthetic out to measure it"
        )
    with tempfile.TemporaryDirectory() as folder:
        made = path or Path(folder) / f"{synthetic.replace(':', '-')}.gguf"
        wb.analysis.synthetic_model(made, synthetic, progress)
        yield made


def _print_run(run: "SpeedRun") -> None:
    """llama-bench's table, then what stands behind it."""
    frame = run.to_frame()
    columns = {
        "model": frame.model,
        "size": [_size(1e6 * mb) for mb in frame.size_mb],
        "params": [_count(1e6 * m) for m in frame.mparams],
        "backend": frame.backend,
        "threads": frame.threads,
        "test": frame.test,
        "t/s": [f"{row.tokens_per_s:.2f} ± {row.std:.2f}" for row in frame.itertuples()],
        "MB/token": frame.mb_per_token,
        "GB/s": frame.gb_per_s,
        "share of copy": [f"{x:.0%}" if x == x else None for x in frame.share_of_copy],
    }
    print_table("tokens per second", frame[[]].assign(**columns))
    name = run.machine["name"]
    speeds = ", ".join(f"{what} {speed:,.4g} GB/s" for what, speed in run.ceilings.items())
    out.print(f"{run.device}: {name}; measured now: {speeds}")
    for precision, load in run.load.items():
        device = ""
        if "gb_per_s" in load:
            share = load["gb_per_s"] / run.ceilings["upload"]
            device = (
                f" ({load['gb_per_s']:.3g} GB/s, {share:.0%} of uploading pinned memory; "
                f"{load['compiled']} kernels compiled)"
            )
        out.print(
            f"{precision}: loaded in {load['seconds']:.3g} s, first tokens after "
            f"{load['first_tokens_s']:.3g} s more{device}"
        )
    _print_families(run.results)


def _size(nbytes: float) -> str:
    """As llama-bench writes it: 4.58 GiB."""
    gib = nbytes / 2**30
    return f"{gib:.2f} GiB" if gib >= 1 else f"{nbytes / 2**20:.2f} MiB"


def _count(n: float) -> str:
    """As llama-bench writes it: 8.03 B."""
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.2f} M"


def _print_families(results: Sequence["SpeedResult"]) -> None:
    """Microseconds of a token: the whole, its floor, and what each kernel or operation takes."""
    timed = [result for result in results if result.families]
    if not timed:
        return
    names = dict.fromkeys(name for result in timed for name in result.families)
    rows = [
        ["a token in all", *(1e6 / result.tokens_per_s for result in timed)],
        ["floor: bytes / copy bandwidth", *(result.floor_us for result in timed)],
        *([name, *(result.families.get(name) for result in timed)] for name in names),
    ]
    columns = ["microseconds of a token", *(f"{r.backend}, {r.test}" for r in timed)]
    print_rows("where the time goes", columns, rows)
