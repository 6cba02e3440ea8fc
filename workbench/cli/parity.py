"""`workbench parity`: a model's logits beside those that llama.cpp gave.

Source: our own (analysis/parity.py). Left out: making such recordings.
"""

import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import workbench as wb

from .app import app
from .printing import print_table

__all__ = ["parity"]


@app.command()
def parity(
    model: Annotated[Path, typer.Argument(help="GGUF file.")],
    golden: Annotated[
        Path, typer.Argument(help="Recording (.npz): tokens, logits, greedy_tokens.")
    ],
) -> None:
    """Compare MODEL with llama.cpp's logits in GOLDEN: NMSE, KL (nats), share of same best tokens.

    Of a quantized model, logits_dequant should agree; plain logits were made with quantized
    activations and differ.
    """
    with wb.load_model(model) as loaded:
        results = wb.analysis.parity(loaded, _arrays(golden))
    print_table(f"{model.name} beside llama.cpp", wb.analysis.parity_table(results))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Raises: ParameterError if it is none; OSError."""
    try:
        with np.load(path, allow_pickle=False) as golden:
            return {name: golden[name] for name in golden.files}
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):  # TypeError: .npy
        raise wb.ParameterError(
            f"{path}: not a recording; expected an .npz file of arrays, got something else"
        ) from None
