"""Writes small random models for check_decode, check_forward and others: python -m … FOLDER.

Those of the tests of the decode kernel: a file per recipe and type, and wrong-*.gguf, whose logits
must all be NaN or infinite.
"""

import sys
from pathlib import Path

import workbench as wb
from tests.model.test_decode_kernel import WRONG, load, tiny_model

RECIPES = ("llama", "llama-biases", "qwen2", "qwen3", "gemma2", "gemma3", "phi3")
TYPES = ("F16", "Q8_0", "Q4_0")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for type in TYPES:
        for name in RECIPES:
            load(folder, name, type).close()
        for n_ff in (32, 8224):
            _rename(folder, tiny_model(folder, type, n_ff), f"tiny-{n_ff}-{type}")
        for name, changed in WRONG.items():
            _rename(folder, tiny_model(folder, type, **changed), f"wrong-{name}-{type}")


def _rename(folder: Path, model: wb.Model, name: str) -> None:
    model.close()
    (folder / "tiny.gguf").rename(folder / f"{name}.gguf")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
