"""Where the built-in model and the notebooks lie: beside the package, or in it in a wheel.

Source: our own. Leaves out any download: what the package needs came with it.
"""

import os
from pathlib import Path

__all__ = ["builtin_model_path", "model_path", "notebooks_path"]

PACKAGE = Path(__file__).resolve().parent
SHARE = PACKAGE / "share"  # made when a wheel is built, absent in a checkout
ROOT = SHARE if SHARE.is_dir() else PACKAGE.parent


def builtin_model_path() -> Path:
    """Path of the built-in model, a story-teller of 7 million weights in F16."""
    return ROOT / "data" / "stories-7m-f16.gguf"


def model_path() -> Path:
    """Path of the model to study: the environment's WORKBENCH_MODEL, else the built-in one."""
    chosen = os.environ.get("WORKBENCH_MODEL")
    return Path(chosen).expanduser() if chosen else builtin_model_path()


def notebooks_path() -> Path:
    """Folder of the notebooks as they came with the package."""
    return ROOT / "notebooks"
