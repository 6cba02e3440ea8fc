"""The arithmetic of a transformer, one module per device with the same function names.

    cpu.py      NumPy: the plain text of every operation, and the truth for the others
    packed.py   a weight in its quantized blocks, the form in which all of them take weights

A model holds one of these modules and calls nothing else for its sums.
"""

from . import cpu
from .packed import PackedTensor

__all__ = ["PackedTensor", "cpu"]
