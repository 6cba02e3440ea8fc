"""The integers inside quantized blocks: each weight's code, and the scales that give it a size.

    w = scale * level[code] + min        scale and min stand for a group of weights

    Q4_0     code 0..15   level -8..7    32 weights a group, no min
    Q4_K     code 0..15   level 0..15    32 weights a group, scale = d sc, min = -(dmin m)
    IQ4_NL   code 0..15   16 uneven levels
    IQ2_XS   code 0..5    level -43 -25 -8 8 25 43: what the 8 weights of a grid point may be

A codec reads its codes itself: in a copy of the blocks whose scale fields are overwritten so that
every scale is 1 and every min 0 (`CodeLayout.unit`), the weights are the levels.
Sources: ggml-common.h (structs, grids); ggml-quants.c, `dequantize_row_*`.
Left out: the float and integer types, which have no codes; grid indices of IQ types; the order of
the codes in the file, since codes are numbered by ascending level (MXFP4's two zeros are one).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ..errors import UnsupportedError
from . import iq4, mx
from .convert import codec_of, dequantize
from .k_quants import q3_k_scales, scales_and_mins

Array = np.ndarray
Scales = Callable[[Array], tuple[Array, Array | None]]  # blocks (B,) -> (B, groups), the same


@dataclass(frozen=True)
class CodeLayout:
    """How the codes of one type become weights.

    levels: what a code stands for, ascending; exact in float32.
    group: weights that share one scale.
    unit: what makes a block's scales 1 and its mins 0: a field and the number or list to write
        into it, or, as bytes, the mask to apply to it (repeated to the field's size).
    scales: reads (scales, mins or None) of blocks.
    """

    levels: tuple[float, ...]
    group: int
    unit: Mapping[str, float | list[int] | bytes]
    scales: Scales

    @property
    def has_mins(self) -> bool:
        """Whether a group has a min beside its scale."""
        return bool({"m", "dmin"} & set(self.unit))


@dataclass(frozen=True, eq=False)
class BlockCodes:
    """Rows of codes with their scales.

    type: name. codes: (..., n) uint8, indices into levels. levels: (K,) float32, ascending.
    scales: (..., n / group) float32. mins: the same, or None where the type has none.
    """

    type: str
    codes: Array
    levels: Array
    scales: Array
    mins: Array | None

    @property
    def group(self) -> int:
        """Weights that share one scale."""
        return self.codes.shape[-1] // max(1, self.scales.shape[-1])

    def decode(self) -> Array:
        """(..., n) float32: scale * level[code] + min, the bits that `dequantize` gives."""
        weights = self.levels[self.codes].reshape(*self.scales.shape, -1)
        weights *= self.scales[..., None]
        if self.mins is not None:
            weights += self.mins[..., None]
        return weights.reshape(self.codes.shape)


def codes(raw: Array, type: str, byte_order: str = "little") -> BlockCodes:
    """Reads the integer code of each weight, and the scales, from rows of quantized blocks.

    raw: (..., bytes) uint8, rows of whole blocks, as `GGUFFile.raw` gives them.
    type: a block type (not F32, F16, … or an integer type), in any letter case.
    byte_order: "little" or "big", as in `dequantize`.

    Returns: BlockCodes, whose `decode()` has the bits of `dequantize(raw, type)`.
    Raises: ParameterError as `dequantize` does; UnsupportedError for a type without codes.
    Example: codes(raw, "Q4_0").codes.min() == 0 where a block uses its lowest level.
    Source: ggml-quants.c, `dequantize_row_*`.
    """
    layout, codec = layout_of(type), codec_of(type)
    unit_weights = dequantize(_unit_blocks(raw, type, byte_order), type)
    blocks = _blocks(raw, codec.dtype, byte_order)
    with np.errstate(all="ignore"):  # scales may be infinite, as in `dequantize`
        scales, mins = layout.scales(blocks)
    groups = (*raw.shape[:-1], unit_weights.shape[-1] // layout.group)
    return BlockCodes(
        codec.name,
        _level_indices(unit_weights, layout.levels),
        np.array(layout.levels, np.float32),
        np.ascontiguousarray(scales).reshape(groups),
        None if mins is None else np.ascontiguousarray(mins).reshape(groups),
    )


def layout_of(type: str) -> CodeLayout:
    """The layout of a type's codes.

    Raises: ParameterError for an unknown name, UnsupportedError for a type without codes.
    """
    name = codec_of(type).name
    if name not in LAYOUTS:
        raise UnsupportedError(
            f"type {name}: its weights have no codes; expected a type of blocks, one of "
            f"{', '.join(LAYOUTS)}, got {name}; look at the weights themselves"
        )
    return LAYOUTS[name]


def _blocks(raw: Array, dtype: np.dtype, byte_order: str) -> Array:
    """Raw rows as (B,) little-endian structs."""
    flat = np.ascontiguousarray(raw).reshape(-1)
    if byte_order == "little":
        return flat.view(dtype)
    return flat.view(dtype.newbyteorder(">")).astype(dtype)


def _unit_blocks(raw: Array, type: str, byte_order: str) -> Array:
    """A copy of raw, little-endian, in which every scale is 1 and every min 0."""
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8 or raw.ndim == 0:
        return raw  # `dequantize` says what is wrong with it
    codec = codec_of(type)
    if raw.shape[-1] % codec.type_size or byte_order not in ("little", "big"):
        dequantize(raw, type, byte_order)  # raises
    blocks = _blocks(raw, codec.dtype, byte_order).copy()
    for field, value in LAYOUTS[codec.name].unit.items():
        if isinstance(value, bytes):
            part = _bytes_of(blocks, field)
            part &= np.resize(np.frombuffer(value, np.uint8), part.shape[1])
            blocks[field] = part.view(blocks.dtype[field].base).reshape(blocks[field].shape)
        else:
            blocks[field] = value
    return blocks.view(np.uint8).reshape(raw.shape)


def _bytes_of(blocks: Array, field: str) -> Array:
    """(B,) structs -> (B, bytes) uint8: a copy of one field."""
    return np.array(blocks[field], order="C").view(np.uint8).reshape(len(blocks), -1)


def _level_indices(weights: Array, levels: tuple[float, ...]) -> Array:
    """Where each weight, which is one of the levels, stands among them: uint8."""
    if levels[-1] - levels[0] == len(levels) - 1:  # consecutive integers
        return (weights - np.float32(levels[0])).astype(np.uint8)
    return np.searchsorted(np.array(levels, np.float32), weights).astype(np.uint8)


# --- scales ----------------------------------------------------------------------------------


def _d(blocks: Array) -> Array:
    """(B, 1) float32: the scale of the whole block."""
    return blocks["d"].astype(np.float32).reshape(-1, 1)


def _one_scale(blocks: Array) -> tuple[Array, None]:
    """One scale a block, as in Q4_0."""
    return _d(blocks), None


def _one_scale_and_min(blocks: Array) -> tuple[Array, Array]:
    """One scale and one min a block, as in Q4_1."""
    return _d(blocks), blocks["m"].astype(np.float32).reshape(-1, 1)


def _times_d(read: Callable[[Array], Array]) -> Scales:
    """d times the sub-block factors that `read` finds: (B,) structs -> (B, groups) numbers."""
    return lambda blocks: (_d(blocks) * read(blocks).astype(np.float32), None)


def _with_mins(read: Callable[[Array], tuple[Array, Array]]) -> Scales:
    """d times sc, and -(dmin times m), of the (sc, m) that `read` finds."""

    def scales(blocks: Array) -> tuple[Array, Array]:
        sc, m = read(blocks)
        dmin = blocks["dmin"].astype(np.float32).reshape(-1, 1)
        return _d(blocks) * sc.astype(np.float32), -(dmin * m.astype(np.float32))

    return scales


def _table_scales(table: Array, field: str) -> Scales:
    """The scale that a table gives each byte of a field, as in MXFP4."""
    return lambda blocks: (table[blocks[field]].reshape(len(blocks), -1), None)


def _nibbles(scales: Array) -> Array:
    """(B, n) uint8 -> (B, 2 n): the low nibble of each byte, then its high one."""
    return np.stack([scales & 15, scales >> 4], axis=2).reshape(len(scales), -1)


def _iq4_xs_factors(blocks: Array) -> Array:
    """ls - 32 of IQ4_XS: four low bits in `scales_l`, two high bits in `scales_h`."""
    high = blocks["scales_h"].reshape(-1, 1) >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    return (high << 4 | _nibbles(blocks["scales_l"])).astype(np.int32) - 32


def _top_nibbles(field: str, start: int, step: int) -> Callable[[Array], Array]:
    """Reads the top nibbles of each last byte of `step` bytes, from byte `start` of a field on."""
    return lambda blocks: _bytes_of(blocks, field)[:, start + step - 1 :: step] >> 4


def _iq1_s_factors(blocks: Array) -> Array:
    """2 s + 1 of IQ1_S, s in bits 12..14 of `qh`."""
    return 2 * (_bytes_of(blocks, "qh")[:, 1::2] >> 4 & 7).astype(np.int32) + 1


def _iq1_m_scales(blocks: Array) -> tuple[Array, None]:
    """d (2 s + 1) of IQ1_M, whose d is the top nibbles of `scales`, and whose s are three bits.

    words 0..3 of `scales`   15..12 four bits of d, low ones first   11..9 8..6 5..3 2..0 an s each
    """
    words = _bytes_of(blocks, "scales").view("<u2")
    tops = words >> 12 << np.array([0, 4, 8, 12], np.uint16)
    d = np.bitwise_or.reduce(tops, axis=1).view(np.float16).astype(np.float32)
    s = words[:, :, None] >> np.arange(0, 12, 3, dtype=np.uint16) & 7
    return d[:, None] * (2 * s.reshape(len(blocks), -1).astype(np.float32) + 1), None


def _signed(*magnitudes: int) -> tuple[float, ...]:
    """The magnitudes and their negatives, ascending."""
    return tuple(sorted({float(sign * level) for sign in (-1, 1) for level in magnitudes}))


def _whole(low: int, high: int) -> tuple[float, ...]:
    """The integers from low to high."""
    return tuple(map(float, range(low, high + 1)))


IQ2_LEVELS = _signed(8, 25, 43)
IQ3_XXS_LEVELS = _signed(4, 12, 20, 28, 36, 44, 52, 62)
IQ1_LEVELS = (-1.125, -0.875, -0.125, 0.125, 0.875, 1.125)  # -1, 0, 1, each less or plus 1/8
FP4_LEVELS = _signed(0, 1, 2, 3, 4, 6, 8, 12)
IQ4_LEVELS = tuple(map(float, iq4.LEVELS))
ONE = {"d": 1.0}
SIX_BITS = [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]  # scales: sc = 1 and m = 0, see `scales_and_mins`
ONE_AND_MIN = {"d": 1.0, "dmin": 0.0, "scales": SIX_BITS}

LAYOUTS: Mapping[str, CodeLayout] = MappingProxyType(
    {
        "Q4_0": CodeLayout(_whole(-8, 7), 32, ONE, _one_scale),
        "Q4_1": CodeLayout(_whole(0, 15), 32, {"d": 1.0, "m": 0.0}, _one_scale_and_min),
        "Q5_0": CodeLayout(_whole(-16, 15), 32, ONE, _one_scale),
        "Q5_1": CodeLayout(_whole(0, 31), 32, {"d": 1.0, "m": 0.0}, _one_scale_and_min),
        "Q8_0": CodeLayout(_whole(-128, 127), 32, ONE, _one_scale),
        "Q8_1": CodeLayout(_whole(-128, 127), 32, ONE, _one_scale),
        "Q1_0": CodeLayout((-1.0, 1.0), 128, ONE, _one_scale),
        "Q2_0": CodeLayout(_whole(-1, 2), 64, ONE, _one_scale),
        "Q2_K": CodeLayout(
            _whole(0, 3),
            16,
            {"d": 1.0, "dmin": 0.0, "scales": [1] * 16},
            _with_mins(lambda blocks: (blocks["scales"] & 15, blocks["scales"] >> 4)),
        ),
        "Q3_K": CodeLayout(  # sc - 32 = 1: low nibbles 1, high bits 2
            _whole(-4, 3),
            16,
            {"d": 1.0, "scales": [0x11] * 8 + [0xAA] * 4},
            _times_d(lambda blocks: q3_k_scales(blocks["scales"])),
        ),
        "Q4_K": CodeLayout(
            _whole(0, 15), 32, ONE_AND_MIN, _with_mins(lambda b: scales_and_mins(b["scales"]))
        ),
        "Q5_K": CodeLayout(
            _whole(0, 31), 32, ONE_AND_MIN, _with_mins(lambda b: scales_and_mins(b["scales"]))
        ),
        "Q6_K": CodeLayout(
            _whole(-32, 31), 16, {"d": 1.0, "scales": 1}, _times_d(lambda b: b["scales"])
        ),
        "Q8_K": CodeLayout(_whole(-128, 127), 256, ONE, _one_scale),
        "TQ1_0": CodeLayout(_whole(-1, 1), 256, ONE, _one_scale),
        "TQ2_0": CodeLayout(_whole(-1, 2), 256, ONE, _one_scale),
        "MXFP4": CodeLayout(FP4_LEVELS, 32, {"e": 128}, _table_scales(mx.E8M0, "e")),
        "NVFP4": CodeLayout(FP4_LEVELS, 16, {"d": 0x40}, _table_scales(mx.UE4M3, "d")),
        "IQ4_NL": CodeLayout(IQ4_LEVELS, 32, ONE, _one_scale),
        "IQ4_XS": CodeLayout(  # ls - 32 = 1: low nibbles 1, high bits 2
            IQ4_LEVELS,
            32,
            {"d": 1.0, "scales_l": 0x11, "scales_h": 0xAAAA},
            _times_d(_iq4_xs_factors),
        ),
        "IQ2_XXS": CodeLayout(  # d (1/2 + s) / 4, s in the top nibble of each 8 bytes
            IQ2_LEVELS,
            32,
            {"d": 8.0, "qs": b"\xff" * 7 + b"\x0f"},
            _times_d(lambda b: (0.5 + _top_nibbles("qs", 0, 8)(b)) * 0.25),
        ),
        "IQ2_XS": CodeLayout(
            IQ2_LEVELS,
            16,
            {"d": 8.0, "scales": 0},
            _times_d(lambda b: (0.5 + _nibbles(b["scales"])) * 0.25),
        ),
        "IQ2_S": CodeLayout(
            IQ2_LEVELS,
            16,
            {"d": 8.0, "scales": 0},
            _times_d(lambda b: (0.5 + _nibbles(b["scales"])) * 0.25),
        ),
        "IQ3_XXS": CodeLayout(  # d (1/2 + s) / 2, s in the top nibbles of 8 words after 64 bytes
            IQ3_XXS_LEVELS,
            32,
            {"d": 4.0, "qs": b"\xff" * 64 + b"\xff\xff\xff\x0f" * 8},
            _times_d(lambda b: (0.5 + _top_nibbles("qs", 64, 4)(b)) * 0.5),
        ),
        "IQ3_S": CodeLayout(
            _signed(1, 3, 5, 7, 9, 11, 13, 15),
            32,
            {"d": 1.0, "scales": 0},
            _times_d(lambda b: 1 + 2 * _nibbles(b["scales"]).astype(np.int32)),
        ),
        "IQ1_S": CodeLayout(
            IQ1_LEVELS, 32, {"d": 1.0, "qh": b"\xff\x8f"}, _times_d(_iq1_s_factors)
        ),
        "IQ1_M": CodeLayout(  # words 0 0 C000 3000: d = 0x3C00 = 1, s = 0
            IQ1_LEVELS, 16, {"scales": [0, 0, 0, 0, 0, 0xC0, 0, 0x30]}, _iq1_m_scales
        ),
    }
)
