"""`workbench generate`: a prompt continued on the terminal.

Source: our own. Leaves out what the sampling panel of notebook 05 shows of each token.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

import workbench as wb

from .app import app, err, out
from .grammar_options import Gbnf, JsonSchema, Lark, Regex, chosen_grammar

__all__ = ["generate"]

DEFAULTS = wb.SamplingParams()


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command()
def generate(
    ctx: typer.Context,
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
    typ_p: Annotated[float, typer.Option(help="1 turns it off.")] = DEFAULTS.typ_p,
    penalty_repeat: Annotated[float, typer.Option(help="1 turns it off.")] = (
        DEFAULTS.penalty_repeat
    ),
    penalty_last_n: Annotated[int, typer.Option()] = DEFAULTS.penalty_last_n,
    mirostat: Annotated[int, typer.Option(help="1 or 2 instead of the others; 0: off.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = DEFAULTS.seed,
    record: Annotated[
        Path | None, typer.Option(help="Save the run, for wb.RunRecord.load and wb.replay.")
    ] = None,
    json_schema: JsonSchema = None,
    regex: Regex = None,
    lark: Lark = None,
    gbnf: Gbnf = None,
) -> None:
    """Continue PROMPT; the text goes to stdout as it is made, the speed to stderr.

    Settings that are not given are those that the file recommends, or else llama.cpp's.
    """
    names = ("temperature", "top_k", "top_p", "min_p", "typ_p", "seed", "mirostat")
    names += ("penalty_repeat", "penalty_last_n")
    given = {name: ctx.params[name] for name in names if is_given(ctx, name)}
    with wb.load_model(model or wb.model_path()) as loaded:
        params = wb.SamplingParams.from_gguf(loaded.gguf, **given)
        grammar = chosen_grammar(loaded.tokenizer, json_schema, regex, lark, gbnf)
        chain: wb.SamplingParams | wb.SamplerChain = params
        if grammar is not None:
            chain = wb.SamplerChain(params, tokenizer=loaded.tokenizer, grammar=grammar)
        recorder = None if record is None else wb.Recorder()
        steps = wb.generate(loaded, prompt, chain, max_tokens, record=recorder)
        out.print(prompt, end="", markup=False)
        n_tokens, stop, start = 0, "max_tokens", time.perf_counter()
        for step in steps:
            out.print(step.text, end="", markup=False)
            n_tokens, stop = n_tokens + 1, step.stop
        seconds = time.perf_counter() - start
        if recorder is not None:
            recorder.record.save(record)
    out.print()
    err.print(
        f"[dim]{n_tokens} tokens in {seconds:.2f} s ({n_tokens / seconds:.0f} tokens/s, prompt "
        f"included) on {loaded.device}; stopped at {stop}[/]"
    )
