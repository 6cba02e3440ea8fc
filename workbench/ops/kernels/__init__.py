"""The CUDA text of the kernels and the tables they read, put together without CUDA.

    ptx.cuh             the machine's instructions behind plain names
    blocks.cuh          the dequantizing kernel, a template over the type
    dequantize_*.cu     the types, a file a family, as in `workbench.quants`

A source is the shared text and one family's file, one after the other: never an `#include`, because
the cache of compiled kernels knows only the text it was given.
Left out: compiling and launching, which is `workbench.ops.cuda`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ...quants import grids, iq4, mx

__all__ = [
    "CHUNKS",
    "FAMILIES",
    "FOLDER",
    "SHARED",
    "THREADS",
    "WEIGHTS_PER_THREAD_BLOCK",
    "dequantize_table",
    "join_sources",
]

FOLDER = Path(__file__).parent
SHARED = (FOLDER / "ptx.cuh", FOLDER / "blocks.cuh")

THREADS = 256  # of a thread block
CHUNKS = 2  # times 8 weights a thread
WEIGHTS_PER_THREAD_BLOCK = THREADS * CHUNKS * 8

# The types of dequantize_FAMILY.cu.
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "floats": ("F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"),
        "legacy": ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q1_0", "Q2_0"),
        "k": ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"),
        "levels": ("IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4"),
        "grids": ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"),
        "ternary": ("TQ1_0", "TQ2_0"),
    }
)


def join_sources(paths: Iterable[Path]) -> str:
    """The texts of the files one after the other, each line reported as that of its own file."""
    sizes = f"#define THREADS {THREADS}\n#define CHUNKS {CHUNKS}\n"
    return sizes + "\n".join(f'#line 1 "{path.name}"\n{path.read_text()}' for path in paths)


def dequantize_table(type: str) -> np.ndarray | None:
    """The numbers that the kernel of a type looks its codes up in, or None: (bytes,) uint8.

    Source: the tables of `workbench.quants`, in the form that the header of the kernel names.
    """
    levels = {"IQ4_NL": iq4.LEVELS, "IQ4_XS": iq4.LEVELS, "MXFP4": mx.LEVELS, "NVFP4": mx.LEVELS}
    if type in levels:
        return np.array(levels[type], np.int8).view(np.uint8)
    if type not in FAMILIES["grids"]:
        return None
    points = grids.grid_levels(type)  # (points, 8), of IQ3 (points, 4)
    if type in ("IQ1_S", "IQ1_M"):
        pairs = (points + 1).astype("<u2") << np.arange(0, 16, 2, dtype=np.uint16)
        return np.bitwise_or.reduce(pairs, axis=1).view(np.uint8)
    return points.view(np.uint8).reshape(-1)
