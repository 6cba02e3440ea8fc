"""The typer application that the commands register with, and the two streams they write to.

Source: our own.
"""

import sys

import typer
from rich.console import Console

__all__ = ["app", "err", "out"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Study the GGUF file you run: its metadata, weights, tokenizer, KV cache and sampling.",
)
WIDTH = None if sys.stdout.isatty() else 160  # nobody reads a pipe on a narrow screen
out = Console(highlight=False, soft_wrap=True, width=WIDTH)
err = Console(highlight=False, soft_wrap=True, stderr=True)
