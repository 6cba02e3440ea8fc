"""Raw bytes of any ggml type to float32 and back, a tile of blocks at a time.

    type     dequantize  quantize  with imatrix
    F32      yes         yes       ignored
    F16      yes         yes       ignored
    BF16     yes         yes       ignored
    F64      yes         yes       ignored
    I8       yes         -         -
    I16      yes         -         -
    I32      yes         -         -
    I64      yes         -         -
    Q4_0     yes         yes       used
    Q4_1     yes         yes       used
    Q5_0     yes         yes       used
    Q5_1     yes         yes       used
    Q8_0     yes         yes       ignored
    Q8_1     yes         yes       ignored
    Q1_0     yes         yes       ignored
    Q2_0     yes         yes       ignored
    Q2_K     yes         yes       used
    Q3_K     yes         yes       used
    Q4_K     yes         yes       used
    Q5_K     yes         yes       used
    Q6_K     yes         yes       used
    Q8_K     yes         yes       ignored
    IQ4_NL   yes         yes       used
    IQ4_XS   yes         yes       used
    IQ1_S    yes         yes       needed
    IQ1_M    yes         yes       used
    IQ2_XXS  yes         yes       needed
    IQ2_XS   yes         yes       needed
    IQ2_S    yes         yes       used
    IQ3_XXS  yes         yes       used
    IQ3_S    yes         yes       used
    TQ1_0    yes         yes       ignored
    TQ2_0    yes         yes       ignored
    MXFP4    yes         yes       ignored
    NVFP4    yes         yes       ignored

Results are those of ggml bit for bit: each operation is rounded to float32, in ggml's order.
Source: ggml-quants.c, `dequantize_row_*` and `ggml_quantize_chunk` (ggml.c) of llama.cpp.
"""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType

import numpy as np

from ..errors import ParameterError, UnsupportedError
from . import floats, i_quants, iq4, k_quants, legacy, mx, ternary
from .codec import TILE_WEIGHTS, Codec

FAMILIES = (floats, legacy, k_quants, iq4, i_quants, ternary, mx)
CODECS: Mapping[str, Codec] = MappingProxyType(
    {codec.name: codec for family in FAMILIES for codec in family.CODECS}
)

Array = np.ndarray


def codec_of(type: str) -> Codec:
    """The codec of a type name, in any letter case.

    Raises: ParameterError for a name that no ggml type has.
    """
    if not isinstance(type, str):
        raise ParameterError(
            f"type: not a name; expected a str such as 'Q4_K', got {_kind(type)}; give its name"
        )
    name = type.upper()
    if name in CODECS:
        return CODECS[name]
    near = difflib.get_close_matches(name, CODECS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "choose one of those"
    raise ParameterError(
        f"type: no ggml type has this name; expected one of {', '.join(CODECS)}, "
        f"got {type!r}; {hint}"
    )


def dequantize(raw: Array, type: str, byte_order: str = "little") -> Array:
    """Decodes rows of raw blocks to float32, exactly as ggml's `to_float` does.

    raw: (..., bytes) uint8, rows of whole blocks, as `GGUFFile.raw` gives them.
    type: a type name as in the table at the top of this file, in any letter case.
    byte_order: "little" or "big", the byte order of the numbers within the blocks.

    Returns: (..., n) float32, a new array; memory beyond it stays below a few megabytes where raw
    is contiguous. Scales that overflow give infinities and NaN, as in ggml.
    Raises: ParameterError for another dtype, a length that is no whole number of blocks, or an
    unknown name.
    Example: dequantize(gguf.raw(name), gguf.tensors[name].type).
    Source: ggml-quants.c, `dequantize_row_*`.
    """
    codec = CODECS.get(type) if isinstance(type, str) else None
    if codec is None:
        codec = codec_of(type)
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8 or raw.ndim == 0:
        raise ParameterError(
            f"dequantize: raw is no array of bytes; expected (..., bytes) uint8, got {_kind(raw)}; "
            "view it as np.uint8"
        )
    n_blocks, rest = divmod(raw.shape[-1], codec.dtype.itemsize)
    if rest:
        raise ParameterError(
            f"dequantize: a row is no whole number of {codec.name} blocks; expected a multiple of "
            f"{codec.type_size} bytes, got {raw.shape[-1]}; check the type and the row's bounds"
        )
    blocks = np.ascontiguousarray(raw).reshape(-1).view(_dtype(codec, byte_order))
    out = np.empty((len(blocks), codec.block_size), dtype=np.float32)
    step = codec.tile_blocks
    with np.errstate(all="ignore"):
        for start in range(0, len(blocks), step):
            codec.decode(blocks[start : start + step], out[start : start + step])
    return out.reshape(*raw.shape[:-1], n_blocks * codec.block_size)


def quantize(x: Array, type: str, imatrix: Array | None = None) -> Array:
    """Encodes rows of float32 weights as blocks of a type, with the bytes that ggml writes.

    x: (..., n) float32, n a multiple of the type's block size.
    type: a type name that the table at the top of this file can quantize, in any letter case.
    imatrix: (n,) float32, not negative: the importance of each column (the mean square of the
        activation it is multiplied with), by which types that use it weight the error; the others
        ignore it, as ggml does. For a stack of matrices, as of experts, also one a matrix:
        (n_expert, n) for x (n_expert, rows, n), any leading axes of x but the rows.

    Returns: (..., bytes) uint8, little-endian. Large arrays are encoded by a thread a core, tile by
    tile; memory beyond the result stays below five megabytes a thread where x is contiguous and
    its rows no longer than 100 thousand weights.
    Raises: ParameterError for another dtype or length, an unknown name, a bad imatrix or one that
    the type needs and lacks, or NaN or infinite weights (only F32, F16, BF16 and F64 hold them).
    ggml does not look for them: a NaN becomes some finite weight in most types, and llama-quantize
    refuses only what gives a block a scale of NaN or infinity. UnsupportedError for a type that can
    be read but not written.
    Finite weights too large for the float16 scale of their block make it infinite, as in ggml
    (where llama-quantize refuses the block).
    Example: quantize(np.zeros((2, 64), np.float32), "q8_0").shape == (2, 68).
    Source: ggml.c, `ggml_quantize_chunk`; ggml-quants.c, `quantize_*`.
    """
    codec = codec_of(type)
    _check_writable(codec, imatrix)
    _check_weights(x, codec)
    if imatrix is not None:
        imatrix = _checked_imatrix(imatrix, x.shape)
    out = np.empty((*x.shape[:-1], x.shape[-1] // codec.block_size * codec.type_size), np.uint8)
    if x.size == 0:
        return out
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    blocks = out.reshape(-1).view(codec.dtype)
    if imatrix is None or codec.encode_weighted is None:
        _for_each(_block_tiles(codec, rows, blocks))
    else:
        _for_each(_row_tiles(codec, rows, imatrix, blocks.reshape(len(rows), -1)))
    return out


Tile = Callable[[], None]


def _block_tiles(codec: Codec, rows: Array, out: Array) -> Iterator[Tile]:
    """What fills out (B,) tile by tile; blocks do not depend on each other."""
    blocks = rows.reshape(-1, codec.block_size)

    def encode(start: int, stop: int) -> None:
        if not codec.keeps_nonfinite:
            _check_finite(blocks[start:stop], start * codec.block_size, rows)
        codec.encode(blocks[start:stop], out[start:stop])

    for start in range(0, len(blocks), codec.tile_blocks):
        yield partial(encode, start, start + codec.tile_blocks)


def _row_tiles(codec: Codec, rows: Array, imatrix: Array, out: Array) -> Iterator[Tile]:
    """What fills out (R, blocks) by whole rows, whose mean square may enter the weights.

    imatrix: (G, n); the first R / G rows go with the first of it, and so on.
    """
    group = len(rows) // len(imatrix)
    step = max(1, TILE_WEIGHTS // rows.shape[1])

    def encode(importance: Array, start: int, stop: int) -> None:
        _check_finite(rows[start:stop], start * rows.shape[1], rows)
        codec.encode_weighted(rows[start:stop], importance, out[start:stop])

    for g, importance in enumerate(imatrix):
        for start in range(g * group, (g + 1) * group, step):
            yield partial(encode, importance, start, min(start + step, (g + 1) * group))


def _for_each(tiles: Iterator[Tile]) -> None:
    """Runs the tiles, in threads if there are more than a few; raises the first tile's error."""
    tiles = list(tiles)
    threads = min(core_count(), len(tiles) // 2)
    if threads < 2:
        for tile in tiles:
            _run(tile)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(_run, tiles):  # an error cancels the tiles that have not begun
            pass


def _run(tile: Tile) -> None:
    """Runs a tile; NumPy's error state belongs to the thread that sets it."""
    with np.errstate(all="ignore"):
        tile()


def core_count() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _dtype(codec: Codec, byte_order: str) -> np.dtype:
    """The block's dtype in a byte order."""
    if byte_order == "little":
        return codec.dtype
    if byte_order == "big":
        return codec.dtype.newbyteorder(">")
    raise ParameterError(
        f"dequantize: no such byte order; expected 'little' or 'big', got {byte_order!r}; "
        "take it from GGUFFile.byte_order"
    )


def _kind(value: object) -> str:
    """What a wrong argument is, for a message: `int64 (2, 3)`, or the name of its class."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return value.__class__.__name__


def _check_writable(codec: Codec, imatrix: Array | None) -> None:
    """Raises unless the codec can write, with what it is given."""
    if codec.encode is None and codec.encode_weighted is None:
        able = ", ".join(name for name, other in CODECS.items() if other.can_write)
        raise UnsupportedError(
            f"quantize: this version cannot write {codec.name}; expected one of {able}, "
            f"got {codec.name}; choose one of those"
        )
    if codec.encode is None and imatrix is None:
        raise ParameterError(
            f"quantize: {codec.name} has too few bits without an importance matrix; expected "
            "imatrix, got None; collect one with llama-imatrix or choose a larger type"
        )


def _check_weights(x: Array, codec: Codec) -> None:
    """Raises ParameterError unless x is float32 with rows of whole blocks."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim == 0:
        raise ParameterError(
            f"quantize: x is no array of weights; expected (..., n) float32, got {_kind(x)}; "
            "convert it with np.asarray(x, dtype=np.float32)"
        )
    if x.shape[-1] % codec.block_size:
        raise ParameterError(
            f"quantize: a row is no whole number of {codec.name} blocks; expected a multiple of "
            f"{codec.block_size} weights, got {x.shape[-1]}; choose a type with smaller blocks"
        )


def _check_finite(tile: Array, start: int, rows: Array) -> None:
    """Raises ParameterError at the first NaN or infinity of a tile; start: its first weight."""
    finite = np.isfinite(tile)
    if finite.all():
        return
    flat = start + int(finite.reshape(-1).argmin())
    row, column = divmod(flat, rows.shape[1])
    raise ParameterError(
        f"quantize: row {row}, column {column} of x is {rows[row, column]}; expected finite "
        "weights, which alone fit into blocks; repair the tensor or store it as F16, BF16 or F32"
    )


def _checked_imatrix(imatrix: Array, shape: tuple[int, ...]) -> Array:
    """The imatrix of x of a shape as (G, n) float32, one row for each run of rows of x.

    Raises: ParameterError unless it fits, is finite and not negative.
    """
    fits = isinstance(imatrix, np.ndarray) and imatrix.dtype.kind == "f" and imatrix.ndim > 0
    lead = imatrix.shape[:-1] if fits else ()
    if not fits or imatrix.shape != (*shape[: len(lead)], shape[-1]) or lead[len(shape) - 2 :]:
        stacked = f" or {(*shape[:-2], shape[-1])}" if len(shape) > 2 else ""
        raise ParameterError(
            f"quantize: imatrix does not fit x; expected ({shape[-1]},){stacked} float32, one "
            f"importance a column, got {_kind(imatrix)}; take the imatrix of this tensor"
        )
    values = imatrix.astype(np.float32, order="C")
    bad = np.argwhere(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        place = ", ".join(map(str, bad[0]))
        raise ParameterError(
            f"quantize: imatrix[{place}] is {values[tuple(bad[0])]}; expected finite values not "
            f"below 0, got {len(bad)} others; collect the imatrix again"
        )
    return values.reshape(-1, shape[-1])
