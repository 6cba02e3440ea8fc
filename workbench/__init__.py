"""The GGUF Research Workbench: study the very `.gguf` file you run.

import workbench as wb

    wb.open_gguf(path)        what is in the file                     gguf/, quants/
    wb.load_tokenizer(gguf)   text <-> token ids                      tokenizer/
    wb.load_model(path)       the transformer, its KV cache, traces   model/
    wb.generate(model, text)  tokens, one record a step               sampling/, generate.py
    wb.analysis, wb.plots, wb.panels                                  tables, pictures, widgets

All names are in `__init__.pyi` and loaded when first used; but for open_gguf, which nearly everyone
uses first (0.2 s, most of it NumPy's).
"""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from .quants import open_gguf as open_gguf


def _homes() -> dict[str, str]:
    """Each public name and the module it is imported from, "" for a module itself."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module or "" for node in imports for alias in node.names}


HOMES = _homes()
__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f".{HOMES[name] or name}", __name__)
    return getattr(home, name) if HOMES[name] else home


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """The package, in which `generate` is the function, although a module has its name too."""

    @property
    def generate(self):
        return __getattr__("generate")

    @generate.setter
    def generate(self, module):
        """Left as it is: Python puts the module here when it is imported."""


sys.modules[__name__].__class__ = _Package
