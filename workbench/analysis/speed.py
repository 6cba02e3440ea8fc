"""How fast the package is beside others, measured in one run: here dequantization and gguf-py's.

Both programs take turns on the same bytes, so that what else the machine does strikes both alike;
the median counts. Source: our own; gguf-py is `gguf.quants.dequantize` of llama.cpp's package.
Left out: quantization, and anything on a GPU.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..errors import ParameterError
from ..quants import CODECS, codec_of, dequantize

__all__ = ["dequantize_speed", "random_blocks"]

Array = np.ndarray
Decoder = Callable[[Array], Array]

SHAPE = (4096, 14336)  # a feed-forward matrix of a model of 8 billion weights


def dequantize_speed(
    types: Sequence[str] | None = None,
    shape: tuple[int, int] = SHAPE,
    repeats: int = 5,
    progress: bool = True,
) -> pd.DataFrame:
    """Times `dequantize` and, where it is installed, gguf-py on the same random blocks.

    types: names; None: all block types and F16, BF16. shape: rows and weights in a row.
    repeats: turns of each; the median counts, after one turn that does not. progress: show a bar.

    Returns: DataFrame: type, bits_per_weight, mweights_per_s, gguf_py_mweights_per_s (NaN where
    gguf-py is missing or lacks the type), ratio of the two, and same_bits (missing likewise).
    Raises: ParameterError for an unknown type, repeats below 1, or a row that is no whole number of
    blocks.
    """
    if not isinstance(repeats, int | np.integer) or repeats < 1:
        raise ParameterError(
            f"repeats: no number of turns; expected 1 or more, got {repeats!r}; give 5"
        )
    if types is None:
        types = [n for n, codec in CODECS.items() if codec.block_size > 1 or n in ("F16", "BF16")]
    names = [codec_of(name).name for name in types]
    rows = [_compare(name, shape, repeats) for name in tqdm(names, disable=not progress)]
    return pd.DataFrame(rows)


def random_blocks(type: str, shape: tuple[int, int], seed: int = 0) -> Array:
    """Random blocks of a type with ordinary scales.

    Returns: (rows, bytes) uint8 for a matrix of that shape, one row repeated.
    Raises: ParameterError if a row is no whole number of blocks.
    """
    codec, (n_rows, n) = codec_of(type), shape
    if n_rows < 1 or n < 1 or n % codec.block_size:
        raise ParameterError(
            f"shape: a row is no whole number of {codec.name} blocks; expected rows and a multiple "
            f"of {codec.block_size}, got {shape}; choose another length"
        )
    rng = np.random.default_rng(seed)
    row = rng.integers(0, 256, n // codec.block_size * codec.type_size, np.uint8)
    blocks = row.view(codec.dtype)
    if blocks.dtype.names is None:  # F16 and BF16: numbers about 1
        row[1::2] = 0x3C
        return np.tile(row, (n_rows, 1))
    for field in blocks.dtype.names:
        if blocks.dtype[field].kind == "f":
            blocks[field] = rng.uniform(0.001, 0.01, blocks[field].shape)
    if "e" in blocks.dtype.names:
        blocks["e"] = rng.integers(110, 124, len(blocks))
    return np.tile(row, (n_rows, 1))


def _compare(name: str, shape: tuple[int, int], repeats: int) -> dict[str, object]:
    """One row of the table."""
    codec, raw = codec_of(name), random_blocks(name, shape)
    theirs = _gguf_py(name)
    decoders = [lambda part: dequantize(part, name), *([theirs] if theirs else [])]
    seconds = _take_turns(decoders, raw, repeats)
    speeds = [shape[0] * shape[1] / 1e6 / t for t in seconds] + [float("nan")]
    row = {
        "type": name,
        "bits_per_weight": 8 * codec.type_size / codec.block_size,
        "mweights_per_s": speeds[0],
        "gguf_py_mweights_per_s": speeds[1],
        "ratio": speeds[0] / speeds[1],
        "same_bits": None,
    }
    if theirs:
        ours, other = (decode(raw[:1]).view(np.uint32) for decode in decoders)
        row["same_bits"] = bool(np.array_equal(ours, other))
    return row


def _take_turns(decoders: Sequence[Decoder], raw: Array, repeats: int) -> list[float]:
    """Median seconds of each decoder; each has a first turn on some rows that does not count."""
    for decode in decoders:
        decode(raw[:64])
    seconds = [[] for _ in decoders]
    for _ in range(repeats):
        for decode, taken in zip(decoders, seconds, strict=True):
            start = time.perf_counter()
            decode(raw)
            taken.append(time.perf_counter() - start)
    return [median(taken) for taken in seconds]


def _gguf_py(name: str) -> Decoder | None:
    """gguf-py's decoder of a type, or None where there is none."""
    if importlib.util.find_spec("gguf") is None:
        return None
    import gguf  # only the tests depend on it, so it may be missing

    kind = getattr(gguf.GGMLQuantizationType, name, None)
    if kind is None:
        return None

    def decode(raw: Array) -> Array:
        return np.ascontiguousarray(gguf.quants.dequantize(raw, kind), np.float32)

    try:
        decode(random_blocks(name, (1, 256 if codec_of(name).block_size > 1 else 1)))
    except NotImplementedError:
        return None
    return decode
