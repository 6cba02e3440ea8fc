"""The arithmetic of a transformer, one module per device with the same function names.

    cpu.py        NumPy: the plain text of every operation, and the truth for the others
    cpu_fast.py   the same, with activations rounded as llama.cpp rounds them
    cuda.py       CuPy: the same operations on a GPU, in float32; imported when a model asks for it
    cuda_fast.py  the same, with products and attention in float16 by the tensor cores
    packed.py     a weight in its quantized blocks, the form in which all of them take weights

A model holds one of these modules and calls nothing else for its sums.
"""

from . import cpu, cpu_fast
from .packed import PackedTensor

__all__ = ["PackedTensor", "cpu", "cpu_fast"]
