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

import sys
from types import ModuleType

import lazy_loader

from .quants import open_gguf as open_gguf

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(ModuleType):
    """The package, in which `generate` is the function, although a module has its name too."""

    @property
    def generate(self):
        return __getattr__("generate")

    @generate.setter
    def generate(self, module):
        """Left as it is: Python puts the module here when it is imported."""


sys.modules[__name__].__class__ = _Package
