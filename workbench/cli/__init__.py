"""The `workbench` command: a thin edge around `import workbench as wb`; it parses, calls, prints.

One module a command. Errors that a user or a file can cause are one sentence on stderr and exit
code 2, no traceback. Source: our own. Leaves out what notebooks do better: pictures and anything
one wants to touch.
"""

import sys

from rich.markup import escape

from ..errors import WorkbenchError
from . import (
    bench,
    chat,
    diff,
    edit,
    generate,
    hashes,
    imatrix,
    info,
    lab,
    parity,
    perplexity,
    quantize,
    split,
    tokens,
    validate,
)
from .app import app, err

__all__ = [
    "app",
    "bench",
    "chat",
    "diff",
    "edit",
    "generate",
    "hashes",
    "imatrix",
    "info",
    "lab",
    "main",
    "parity",
    "perplexity",
    "quantize",
    "split",
    "tokens",
    "validate",
]


def main() -> None:
    """Entry point of the console script: run a command, its errors as one sentence and exit 2."""
    try:
        app()
    except (WorkbenchError, OSError) as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2)
