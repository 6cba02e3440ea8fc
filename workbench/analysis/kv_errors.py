"""What a coarser cache type does to keys and values, head by head: the error of each type.

    row of a head   k0 k1 k2 … k31 │ k32 …      a block of a type: 32 numbers with one scale
    an outlier      ·  ·  █  …  ·  │ ·          makes the scale coarse for the other 31
    hadamard        ▂  ▃  ▂  …  ▃  │ ▂          spreads it over all: one grid fits all again

Rows are quantized as the cache does it, by the package's own codecs, which write ggml's bytes; or,
along positions, each channel for itself, which no ggml cache does.
Sources: llama.cpp src/llama-kv-cache.cpp; per channel or per token, KIVI
(https://arxiv.org/abs/2402.02750). Left out: what the error does to the text (`kv_frontier.py`).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..model.kv_checks import demand_instance
from ..quants import codec_of
from .kv_arrays import SPREAD, KVArrays
from .kv_stats import checked_list
from .quant_error import quant_error

__all__ = ["KV_ERROR_TYPES", "kv_errors"]

Array = np.ndarray

KV_ERROR_TYPES = ("q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0")  # more bits first
KINDS = tuple(kind + form for kind in ("k", "v") for form in ("", SPREAD))
ALONG = ("channels", "positions")


def kv_errors(
    kv: KVArrays,
    types: str | Sequence[str] = KV_ERROR_TYPES,
    kinds: str | Sequence[str] = KINDS,
    along: str = "channels",
) -> pd.DataFrame:
    """Quantize each head's keys and values in several types and measure what is read back.

    kv: from `analysis.kv_arrays`. types: a ggml type or several, in any letter case. kinds: one or
    several as for `KVArrays.of`, "k_before_rope" included. along: "channels", a block holds numbers
    of one position, as in ggml; "positions", of one channel (the last positions, which fill no
    block, are left out).
    Returns: one row a kind, type, layer and KV head, with bits (per number, scales included),
    relative_rmse (1: as large as the numbers) and sqnr_db (dB).
    Raises: ParameterError for a type whose block does not divide the rows, or as `quant_error`.
    """
    demand_instance("kv", kv, KVArrays, "analysis.kv_arrays")
    if along not in ALONG:
        raise ParameterError(
            f"along: no such way to lay blocks; expected one of {', '.join(ALONG)}, got {along!r}"
        )
    types = [types] if isinstance(types, str) else checked_list("types", types, "names of types")
    kinds = [kinds] if isinstance(kinds, str) else checked_list("kinds", kinds, "kinds of rows")
    rows = [
        {"kind": kind, "type": str(type).lower(), "layer": layer, "head": head}
        | _numbers(_laid(heads[:, head], type, along, kind), type)
        for kind in kinds
        for layer, heads in enumerate(kv.of(kind))
        for type in types
        for head in range(heads.shape[1])
    ]
    return pd.DataFrame(rows)


def _numbers(x: Array, type: str) -> dict[str, float]:
    error = quant_error(x, type)
    bits = error.bits_per_weight
    return {"bits": bits, "relative_rmse": error.relative_rmse, "sqnr_db": error.sqnr_db}


def _laid(x: Array, type: str, along: str, kind: str) -> Array:
    """A head's rows (S, D), or its columns (D, S') where blocks lie along positions."""
    block = codec_of(type).block_size
    if along == "positions":
        x = x[: len(x) // block * block].T
        if not x.size:
            raise ParameterError(
                f"types: {type} has blocks of {block}, more than there are positions; expected at "
                f"least {block} positions, got fewer; send a longer text through the model"
            )
    elif x.shape[1] % block:
        raise ParameterError(
            f"types: blocks of {type} do not divide a row of {kind}; expected a head_dim that is "
            f"a multiple of {block}, got {x.shape[1]}; choose among f32, f16, bf16"
        )
    return np.ascontiguousarray(x)
