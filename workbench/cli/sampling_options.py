"""The sampling settings of `workbench generate` and `workbench chat`.

A setting that is not on the command line is the one that the file recommends, or else llama.cpp's.
Leaves out: the settings that few turn (dry, xtc, …); `wb.SamplingParams` has them all.
"""

from typing import Annotated, Any

import typer

import workbench as wb

__all__ = [
    "DEFAULTS",
    "MinP",
    "Mirostat",
    "PenaltyLastN",
    "PenaltyRepeat",
    "Seed",
    "Temperature",
    "TopK",
    "TopP",
    "TypP",
    "chosen_settings",
]

DEFAULTS = wb.SamplingParams()

Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token.")]
TopK = Annotated[int, typer.Option(help="0 turns it off.")]
TopP = Annotated[float, typer.Option(help="1 turns it off.")]
MinP = Annotated[float, typer.Option(help="0 turns it off.")]
TypP = Annotated[float, typer.Option(help="1 turns it off.")]
PenaltyRepeat = Annotated[float, typer.Option(help="1 turns it off.")]
PenaltyLastN = Annotated[int, typer.Option(help="Tokens that the penalty looks back at.")]
Mirostat = Annotated[int, typer.Option(help="1 or 2 instead of the others; 0: off.")]
Seed = Annotated[int, typer.Option(help="Same seed, same text.")]

NAMES = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typ_p",
    "penalty_repeat",
    "penalty_last_n",
    "mirostat",
    "seed",
)


def chosen_settings(ctx: typer.Context, gguf: Any) -> wb.SamplingParams:
    """What the command line says, and the file's recommendations for the rest.

    gguf: an open file. Raises: ParameterError for a value out of range.
    """
    given = {name: ctx.params[name] for name in NAMES if _is_given(ctx, name)}
    return wb.SamplingParams.from_gguf(gguf, **given)


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
