"""What mutation tests and the fuzzer ask of one file: does it open, is it accepted."""

from pathlib import Path

from workbench.errors import GGUFError
from workbench.gguf import open_gguf
from workbench.quants import validate_gguf


def reads(path: Path) -> bool:
    """Whether a file opens, with every value and tensor looked at."""
    try:
        with open_gguf(path) as gguf:
            for value in gguf.metadata.values():
                repr(value)
                list(value) if hasattr(value, "__len__") else None
            for name in gguf.tensors:
                gguf.raw(name).sum()
    except GGUFError:
        return False
    return True


def accepts(path: Path, profile: str) -> bool:
    """Whether no rule calls the file wrong; its weights are looked at too."""
    return validate_gguf(path, profile, data=True).accepted
