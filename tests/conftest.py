"""Where the llama.cpp goldens lie, the mark for tests that need them, and who runs with whom.

Two processes run the tests (pytest-xdist; `-n 0` is one).
"""

import os
from pathlib import Path
from typing import Any

import pytest

# Notebooks are compared output by output, and a progress bar is one: their kernels inherit this.
os.environ.setdefault("TQDM_DISABLE", "1")

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT.parent / "shared" / "reference"
BUILTIN_MODEL = ROOT / "data" / "stories-7m-f16.gguf"

needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the llama.cpp goldens (../shared/reference) are not here"
)


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is not installed
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.file_scheduling import FileScheduling

    return FileScheduling(config, log)
