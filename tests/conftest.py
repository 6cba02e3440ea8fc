"""Where the llama.cpp goldens lie, and the mark for tests that need them."""

import os
from pathlib import Path

import pytest

# Notebooks are compared output by output, and a progress bar is one: their kernels inherit this.
os.environ.setdefault("TQDM_DISABLE", "1")

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT.parent / "shared" / "reference"
BUILTIN_MODEL = ROOT / "data" / "stories-7m-f16.gguf"

needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the llama.cpp goldens (../shared/reference) are not here"
)
