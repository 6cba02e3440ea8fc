"""`workbench perplexity`: how surprised a model is by a text, and how far it is from another one.

Source: our own; the numbers and their names are llama-perplexity's (analysis/perplexity.py).
"""

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

import workbench as wb

from .app import app, out
from .imatrix import read_text
from .printing import print_rows

__all__ = ["perplexity"]


@app.command()
def perplexity(
    model: Annotated[Path, typer.Argument(help="GGUF file.")],
    text: Annotated[Path, typer.Argument(help="UTF-8 text to score.")],
    n_ctx: Annotated[
        int | None, typer.Option("-c", "--ctx-size", help="Tokens of a chunk; default: 512.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option("--base", help="The clean model, for the KL divergence from it.")
    ] = None,
) -> None:
    """Score TEXT with MODEL as llama-perplexity does; with --base also compare the two."""
    words = read_text(text)
    with tqdm(unit="chunk", disable=None, leave=False) as bar:

        def progress(done: int, n_chunks: int) -> None:
            bar.total = n_chunks
            bar.update(done - bar.n)

        with wb.load_model(model) as loaded:
            if base is None:
                result = wb.analysis.perplexity(loaded, words, n_ctx, progress)
            else:
                with wb.load_model(base) as clean:
                    compared = wb.analysis.kl_divergence(clean, loaded, words, n_ctx, progress)
                result = compared.other
    out.print(
        f"PPL = {result.ppl:.4f} ± {result.ppl_error:.5f} ({result.n_scored} tokens scored in "
        f"{len(result.nll)} chunks of {result.n_ctx})"
    )
    if base is not None:
        rows = [(name, *_texts(name, *numbers)) for name, numbers in compared.statistics().items()]
        print_rows("compared with the base (KL in nats)", ["statistic", "value", "error"], rows)


def _texts(name: str, value: float, error: float | None) -> tuple[str, str | None]:
    """A statistic as llama-perplexity prints it: probabilities and correlations in percent."""
    percent = "Δp" in name or "top" in name or name.startswith("Cor")
    digits, unit = (3, " %") if percent else (6, "")
    return f"{value:.{digits}f}{unit}", None if error is None else f"{error:.{digits}f}{unit}"
