"""The CUDA text of the kernels and the tables they read, put together without CUDA.

    ptx.cuh             the machine's instructions behind plain names: numbers and memory
    ptx_warp.cuh        what the threads of a warp do together: shuffles, tensor cores
    ptx_async.cuh       copies beside the threads, barriers, other thread blocks
    blocks.cuh          the dequantizing kernel, a template over the type
    dequantize_*.cu     the types, a file a family, as in `workbench.quants`

A source is some shared text and one family's file, one after the other: never an `#include`, as the
cache of compiled kernels knows only the text it was given. `SOURCES` names all of them, and the
tests compile each.
Left out: compiling and launching, which is `workbench.ops.cuda`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ...quants import grids, iq4, mx

__all__ = [
    "CHUNKS",
    "DECODE_SHARED",
    "FAMILIES",
    "FOLDER",
    "SHARED",
    "SOURCES",
    "Source",
    "THREADS",
    "WEIGHTS_PER_THREAD_BLOCK",
    "dequantize_table",
    "join_sources",
]

FOLDER = Path(__file__).parent
SHARED = (FOLDER / "ptx.cuh", FOLDER / "blocks.cuh")
DECODE_SHARED = (FOLDER / "ptx.cuh", FOLDER / "ptx_warp.cuh", FOLDER / "ptx_async.cuh")

THREADS = 256  # of a dequantizing thread block
CHUNKS = 2  # times 8 weights a thread
WEIGHTS_PER_THREAD_BLOCK = THREADS * CHUNKS * 8
DEQUANTIZE_SIZES: Mapping[str, object] = MappingProxyType({"THREADS": THREADS, "CHUNKS": CHUNKS})

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


def join_sources(paths: Iterable[Path], defines: Mapping[str, object] = DEQUANTIZE_SIZES) -> str:
    """The texts of the files one after the other, each line reported as that of its own file.

    defines: names that stand for a value in all of the text, such as {"HEAD_DIM": 128}.
    """
    sizes = "".join(f"#define {name} {value}\n" for name, value in defines.items())
    texts = ((path.name, path.read_text("utf-8")) for path in paths)
    return sizes + "\n".join(f'#line 1 "{name}"\n{text}' for name, text in texts)


@dataclass(frozen=True)
class Source:
    """The files of one compiled text, in order, and the names that it takes as given."""

    paths: tuple[Path, ...]
    defines: Mapping[str, object] = field(default_factory=dict)

    def text(self) -> str:
        """What the compiler gets."""
        return join_sources(self.paths, self.defines)


def _dequantize(family: str) -> Source:
    return Source((*SHARED, FOLDER / f"dequantize_{family}.cu"), DEQUANTIZE_SIZES)


def _matvec(family: str) -> Source:
    shared = ("ptx.cuh", "ptx_warp.cuh", "blocks.cuh", "matvec.cuh", f"dequantize_{family}.cu")
    return Source(tuple(FOLDER / file for file in shared), DEQUANTIZE_SIZES)


def _decode(*files: str, **defines: object) -> Source:
    """A source that begins with the whole vocabulary of the machine."""
    return Source((*DECODE_SHARED, *(FOLDER / file for file in files)), defines)


PACKET_FILES = tuple(f"packets{part}.cuh" for part in ("", "_float", "_legacy", "_k", "_levels"))
DECODE_FILES = (  # of the decode kernel; model/decode_plan.py gives the names
    *("activations.cuh", *PACKET_FILES, "decode_records.cuh", "decode_stream.cuh"),
    *("decode_exchange.cuh", "decode_vector.cuh", "decode_heads.cuh", "decode_attention.cuh"),
    "decode_token.cu",
)
# What a float32 is that thread blocks exchange, until it is written: a NaN no arithmetic gives; and
# how many states of the residual stream are kept.
UNWRITTEN, N_STATES = 0x7FFFA5A5, 6
EXCHANGE: Mapping[str, object] = MappingProxyType(
    {"UNWRITTEN": f"{UNWRITTEN:#x}u", "N_STATES": N_STATES}
)
LLAMA_8B: Mapping[str, object] = MappingProxyType(
    {
        **{"N_WARPS": 11, "N_SLOTS": 33, "SLOT_BYTES": 4608, "PLANE_BYTES": 62208, "STATS": 1},
        "PACKET_TYPES(CASE)": "CASE(0, Q4_K) CASE(1, Q6_K)",
        **{f"{product}_PLANES": "Digits" for product in ("ATTN", "OUT", "GATE", "DOWN", "HEAD")},
        **{"N_LAYER": 32, "N_EMBD": 4096, "N_FF": 14336, "N_HEAD": 32, "N_HEAD_KV": 8},
        **{"HEAD_DIM": 128, "N_ROT": 128, "ROPE_NEOX": 0, "ACTIVATION": "swiglu", "POST_NORMS": 0},
        **{"NORM_EPS": "1e-5f", "ATTENTION_SCALE": "0.088388346f"},
        **{"RESIDUAL_SCALE": "1.0f", "LOGIT_SCALE": "1.0f"},
        **EXCHANGE,
    }
)
EMBEDDING = {"EMBEDDING": "Q4_K", "EMBEDDING_IS_NUMBERS": 0, "EMBEDDING_SCALE": "1.0f"}

# Every text that is compiled, with one typical choice of the names that it takes as given.
SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        **{f"dequantize_{family}": _dequantize(family) for family in FAMILIES},
        **{f"matvec_{family}": _matvec(family) for family in FAMILIES},
        "plain": _decode("plain.cu"),
        "repack": _decode("repack.cu", THREADS=256, TILES=2),
        "prefill": _decode("prefill.cu", ROW_THREADS=256),
        "flash_attention": _decode("flash_attention.cu", HEAD_DIM=128, RULES=0, ROW_TILES=2),
        "decode_begin": Source(
            (*SHARED, FOLDER / "dequantize_k.cu", FOLDER / "decode_begin.cu"),
            {**DEQUANTIZE_SIZES, **EMBEDDING, **EXCHANGE},
        ),
        "decode_token": _decode(*DECODE_FILES, **LLAMA_8B),
        "decode_shares": _decode("decode_shares.cu", THREADS=THREADS),
        "sample": _decode("sample.cuh", "sample_exact.cuh", "sample_chain.cuh", "sample.cu"),
    }
)


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
