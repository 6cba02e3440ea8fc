"""`workbench generate`: a prompt continued on the terminal.

Source: our own. Leaves out what the sampling panel of notebook 05 shows of each token.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

import workbench as wb

from .app import app, err, out

__all__ = ["generate"]

DEFAULTS = wb.SamplingParams()


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
