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
from .sampling_options import (
    DEFAULTS,
    MinP,
    Mirostat,
    PenaltyLastN,
    PenaltyRepeat,
    Seed,
    Temperature,
    TopK,
    TopP,
    TypP,
    chosen_settings,
)

__all__ = ["generate"]


@app.command()
def generate(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    model: Annotated[
        Path | None, typer.Option("-m", "--model", help="GGUF file; default: the built-in model.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("-n", "--max-tokens")] = 200,
    temperature: Temperature = DEFAULTS.temperature,
    top_k: TopK = DEFAULTS.top_k,
    top_p: TopP = DEFAULTS.top_p,
    min_p: MinP = DEFAULTS.min_p,
    typ_p: TypP = DEFAULTS.typ_p,
    penalty_repeat: PenaltyRepeat = DEFAULTS.penalty_repeat,
    penalty_last_n: PenaltyLastN = DEFAULTS.penalty_last_n,
    mirostat: Mirostat = DEFAULTS.mirostat,
    seed: Seed = DEFAULTS.seed,
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
    with wb.load_model(model or wb.model_path()) as loaded:
        params = chosen_settings(ctx, loaded.gguf)
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
