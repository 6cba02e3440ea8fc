"""How a quantized tensor uses its codes and scales, and one block looked at closely.

    entropy_bits   -sum(p log2 p) over the codes: bits that a weight's code really carries; in IQ
                   types, whose codes come in groups of 4 or 8, an upper limit to that
    wasted codes   levels that no weight uses

Source: `quants.codes`; Shannon's entropy.
Left out: what the codes cost in error (`quant_error`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import ParameterError
from ..quants import codec_of, dequantize, quantize
from ..quants.codes import BlockCodes, codes

__all__ = ["BlockZoom", "CodeUsage", "ScaleSpread", "block_zoom", "code_usage", "scale_spread"]

Array = np.ndarray
TILE_BYTES = 1 << 19


@dataclass(frozen=True, eq=False)
class CodeUsage:
    """How often each level of a type occurs. levels: (K,) float32, counts: (K,) int64."""

    type: str
    levels: Array
    counts: Array

    @property
    def shares(self) -> Array:
        """(K,) float64: of all weights."""
        return self.counts / max(1, self.counts.sum())

    @property
    def entropy_bits(self) -> float:
        """Bits of information in a code, were it drawn with these shares."""
        p = self.shares[self.counts > 0]
        return float(-(p * np.log2(p)).sum()) + 0.0

    @property
    def capacity_bits(self) -> float:
        """Bits that as many levels, used evenly, would carry."""
        return float(np.log2(len(self.levels)))

    @property
    def n_unused(self) -> int:
        """Levels that no weight uses."""
        return int((self.counts == 0).sum())


@dataclass(frozen=True, eq=False)
class ScaleSpread:
    """The scales of all groups of a tensor.

    scales: (groups,) float32, in order. group: weights under one scale.
    percentiles: percent -> |scale|. n_zero, n_negative, n_infinite: groups with such a scale (NaN
    counts as infinite).
    """

    type: str
    scales: Array
    group: int
    percentiles: dict[float, float]
    n_zero: int
    n_negative: int
    n_infinite: int


@dataclass(frozen=True, eq=False)
class BlockZoom:
    """One block: its weights x before and y after, their codes, and the levels they could take.

    row, block: which one. x, y: (n,) float32. codes: of this block.
    """

    type: str
    row: int
    block: int
    x: Array
    y: Array
    codes: BlockCodes

    @property
    def level_values(self) -> Array:
        """(groups, K) float32: every number that a weight of each group can become."""
        values = self.codes.scales[:, None] * self.codes.levels
        return values if self.codes.mins is None else values + self.codes.mins[:, None]

    @property
    def rmse(self) -> float:
        """Of this block."""
        return float(np.sqrt(np.square(self.y - self.x, dtype=np.float64).mean()))


def code_usage(raw: Array, type: str, byte_order: str = "little") -> CodeUsage:
    """Counts how often each code of a type occurs in rows of raw blocks.

    raw: (..., bytes) uint8, as `GGUFFile.raw` or `quantize` give them. type: a type of blocks.
    Returns: a CodeUsage. Raises: as `quants.codes.codes`.
    Example: code_usage(wb.quantize(x, "Q4_0"), "Q4_0").entropy_bits
    """
    counts, levels = 0, None
    for part in _tiles(raw, type, byte_order):
        levels = part.levels
        counts = counts + np.bincount(part.codes.reshape(-1), minlength=len(levels))
    return CodeUsage(codec_of(type).name, levels, counts)


def scale_spread(raw: Array, type: str, byte_order: str = "little") -> ScaleSpread:
    """Gathers the scales of rows of raw blocks, with those that are out of the ordinary counted.

    raw: (..., bytes) uint8. type: a type of blocks.
    Returns: a ScaleSpread. Raises: as `quants.codes.codes`.
    """
    parts = [(part.scales.reshape(-1), part.group) for part in _tiles(raw, type, byte_order)]
    scales = np.concatenate([scales for scales, _ in parts])
    finite = np.abs(scales[np.isfinite(scales)])
    percents = (0.0, 1.0, 50.0, 99.0, 100.0)
    found = np.percentile(finite, percents) if finite.size else [np.nan] * len(percents)
    return ScaleSpread(
        type=codec_of(type).name,
        scales=scales,
        group=parts[0][1],
        percentiles=dict(zip(percents, map(float, found), strict=True)),
        n_zero=int((scales == 0).sum()),
        n_negative=int((scales < 0).sum()),
        n_infinite=int((~np.isfinite(scales)).sum()),
    )


def _tiles(raw: Array, type: str, byte_order: str) -> Iterator[BlockCodes]:
    """The codes of raw, some rows at a time; at least once, so that empty input is checked too."""
    if not isinstance(raw, np.ndarray) or raw.ndim == 0:
        yield codes(raw, type, byte_order)  # raises
    rows = raw.reshape(math.prod(raw.shape[:-1]), raw.shape[-1])
    step = max(1, TILE_BYTES // max(1, raw.shape[-1]))
    for start in range(0, max(1, len(rows)), step):
        yield codes(rows[start : start + step], type, byte_order)


def block_zoom(
    x: Array, type: str, row: int = 0, block: int = 0, imatrix: Array | None = None
) -> BlockZoom:
    """Quantizes one row of weights and shows one of its blocks.

    x: (R, n) float32 weights. row, block: which block to show. imatrix: (n,), for the quantizer.
    Returns: a BlockZoom.
    Raises: ParameterError for a row or block that is not there, and as `quantize`.
    """
    codec = codec_of(type)
    shape = getattr(x, "shape", ())
    if len(shape) != 2:
        raise ParameterError(
            f"x: no matrix of weights; expected (rows, n) float32, got shape {shape}; reshape it"
        )
    n_blocks = shape[1] // codec.block_size
    for what, index, n in (("row", row, shape[0]), ("block", block, n_blocks)):
        if not isinstance(index, int | np.integer) or not 0 <= index < n:
            raise ParameterError(
                f"{what}: not in this tensor; expected 0 to {n - 1}, got {index!r}; choose another"
            )
    raw = quantize(np.asarray(x[row], np.float32), type, imatrix)
    part = raw[block * codec.type_size : (block + 1) * codec.type_size]
    weights = np.asarray(x[row, block * codec.block_size : (block + 1) * codec.block_size])
    return BlockZoom(
        type=codec.name,
        row=int(row),
        block=int(block),
        x=weights.astype(np.float32),
        y=dequantize(part, type),
        codes=codes(part, type),
    )
