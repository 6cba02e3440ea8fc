"""Codes and scales of quantized blocks, taken out for packets and put back.

`HEADERS` has for each type how its scales stand in a packet; the picture is in `packets`.

Source: our own; the structs are those of `workbench.quants`.
Left out: the words of the codes, which are `packet_words`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..quants.k_scales import pack_q3_k_scales, pack_scales_and_mins, q3_k_scales, scales_and_mins
from ..quants.packing import join_bits, join_fields, split_bits, split_fields
from .packet_words import join_triples, split_triples

__all__ = ["HEADERS", "Header", "read_codes", "write_codes"]

Array = np.ndarray

# Where the low bits of a code are, how many, and the bytes of a run; the same of its high bits.
LOW = {
    **dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "MXFP4"), ("qs", 4, 16)),
    **dict.fromkeys(("Q4_K", "Q5_K"), ("qs", 4, 32)),
    **dict.fromkeys(("Q2_K", "Q3_K"), ("qs", 2, 32)),
    "IQ4_XS": ("qs", 4, 16),
    "Q6_K": ("ql", 4, 64),
}
HIGH = {"Q5_K": ("qh", 1, 32), "Q3_K": ("hmask", 1, 32), "Q6_K": ("qh", 2, 32)}


# --- codes -----------------------------------------------------------------------------------


def read_codes(blocks: Array, type: str) -> Array:
    """(..., blocks of a row) of the type's struct -> (..., weights) uint8, as the file counts."""
    flat = blocks.reshape(-1)
    if type == "Q8_0":
        codes = flat["qs"].view(np.uint8)
    else:
        field, bits, run = LOW[type]
        codes = split_fields(flat[field], bits, run)
        if type in ("Q5_0", "Q5_1"):
            codes |= split_bits(flat["qh"]) << 4
        elif type in HIGH:
            high, n, run = HIGH[type]
            codes |= split_fields(flat[high], n, run) << bits
    return codes.reshape(*blocks.shape[:-1], -1)


def write_codes(codes: Array, blocks: Array, type: str) -> None:
    """Undoes `read_codes`: fills the code fields of blocks."""
    flat = blocks.reshape(-1)
    codes = codes.reshape(len(flat), -1)
    if type == "Q8_0":
        flat["qs"] = codes.view(np.int8)
        return
    field, bits, run = LOW[type]
    flat[field] = join_fields(codes & ((1 << bits) - 1), bits, run)
    if type in ("Q5_0", "Q5_1"):
        flat["qh"] = join_bits(codes >> 4)
    elif type in HIGH:
        high, n, run = HIGH[type]
        flat[high] = join_fields(codes >> bits, n, run)


# --- scales ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """How the scales of a type become parts of packets, (tiles, units, bytes of a unit) uint8.

    join: blocks (tiles, 2, 8, blocks of a row) -> the parts; split: (parts, blocks) fills blocks.
    """

    join: Callable[[Array], list[Array]]
    split: Callable[[list[Array], Array], None]


def as_bytes(array: Array, n_axes: int = 2) -> Array:
    """(tiles, units, ...) of any dtype -> (tiles, units, bytes)."""
    return np.ascontiguousarray(array).reshape(*array.shape[:n_axes], -1).view(np.uint8)


def _small(*fields: str) -> Header:
    """Blocks of 32: one number a block and field, [g][b][r] of each 64 columns."""

    def join(blocks: Array) -> list[Array]:
        return [
            as_bytes(blocks[field].reshape(*blocks.shape[:3], -1, 2).transpose(0, 3, 2, 4, 1))
            for field in fields
        ]

    def split(parts: list[Array], blocks: Array) -> None:
        for field, part in zip(fields, parts, strict=True):
            numbers = part.view(blocks.dtype[field]).reshape(len(part), -1, 8, 2, 2)
            blocks[field] = numbers.transpose(0, 4, 2, 1, 3).reshape(blocks.shape)

    return Header(join, split)


def both_rows(numbers: Array) -> Array:
    """(tiles, 2, 8, units) of 2 bytes -> (tiles, units, 8, 4) uint8: [g][r]."""
    n, _, _, units = numbers.shape
    return as_bytes(numbers.transpose(0, 3, 2, 1), 3).reshape(n, units, 8, 4)


def from_both_rows(part: Array, dtype: np.dtype) -> Array:
    """Undoes `both_rows`, of (tiles, units, 8, 4)."""
    return np.ascontiguousarray(part).view(dtype).transpose(0, 3, 2, 1)


def side_triples(values: Array, signed: bool) -> Array:
    """(tiles, 2, 8, units, 8 blocks of 32) 6-bit values -> (tiles, units, 8, 12): 3 words."""
    n, _, _, units, _ = values.shape
    axes = values.reshape(n, 2, 8, units, 4, 2).transpose(0, 3, 2, 5, 1, 4)  # n u g b r s
    return join_triples(axes.reshape(n, units, 8, 4, 4), signed).reshape(n, units, 8, 12)


def from_side_triples(part: Array, signed: bool) -> Array:
    """Undoes `side_triples`."""
    n, units = part.shape[:2]
    values = split_triples(part.reshape(n, units, 8, 3, 4), signed).reshape(n, units, 8, 2, 2, 4)
    return np.ascontiguousarray(values.transpose(0, 4, 2, 1, 5, 3)).reshape(n, 2, 8, units, 8)


def join_4_k(blocks: Array) -> list[Array]:
    """Q4_K and Q5_K: [g] d of both rows and the 3 words of sc, then the same of dmin and m."""
    pairs = []
    both = scales_and_mins(blocks["scales"].reshape(-1, 12))
    for field, values in zip(("d", "dmin"), both, strict=True):
        words = side_triples(values.reshape(*blocks.shape, 8), signed=False)
        pairs.append(as_bytes(np.concatenate([both_rows(blocks[field]), words], axis=3)))
    return [np.concatenate(pairs, axis=2)]


def split_4_k(parts: list[Array], blocks: Array) -> None:
    """Undoes `join_4_k`."""
    halves = parts[0].reshape(*parts[0].shape[:2], 2, 8, 16)
    values = []
    for k, field in enumerate(("d", "dmin")):
        blocks[field] = from_both_rows(halves[:, :, k, :, :4], "<f2")
        words = np.ascontiguousarray(halves[:, :, k, :, 4:])
        values.append(from_side_triples(words, signed=False).reshape(-1, 8))
    packed = np.empty((blocks.size, 12), np.uint8)
    pack_scales_and_mins(*values, packed)
    blocks["scales"] = packed.reshape(*blocks.shape, 12)


def join_2_k(blocks: Array) -> list[Array]:
    """Q2_K: [g][b][r] words of sc, the same of m, d and dmin of both rows."""
    n, _, _, units = blocks.shape
    axes = blocks["scales"].reshape(n, 2, 8, units, 4, 2, 2).transpose(0, 3, 2, 5, 1, 4, 6)
    words = [nibble[..., 0] | nibble[..., 1] << 4 for nibble in (axes & 15, axes >> 4)]
    parts = [*words, both_rows(blocks["d"]), both_rows(blocks["dmin"])]
    return [np.concatenate([as_bytes(part) for part in parts], axis=2)]


def split_2_k(parts: list[Array], blocks: Array) -> None:
    """Undoes `join_2_k`."""
    n, _, _, units = blocks.shape
    sc, m, d, dmin = np.split(parts[0], (128, 256, 288), axis=2)
    sc, m = (words.reshape(n, units, 8, 2, 2, 4) for words in (sc, m))
    scales = np.stack([sc & 15 | m << 4, sc >> 4 | m & 0xF0], axis=-1)  # n u g b r s h
    blocks["scales"] = scales.transpose(0, 4, 2, 1, 5, 3, 6).reshape(*blocks.shape, 16)
    blocks["d"] = from_both_rows(d.reshape(n, units, 8, 4), "<f2")
    blocks["dmin"] = from_both_rows(dmin.reshape(n, units, 8, 4), "<f2")


def join_3_k(blocks: Array) -> list[Array]:
    """Q3_K: [k][g][b] word k of the triples of sc, d of both rows."""
    n, _, _, units = blocks.shape
    sc = q3_k_scales(blocks["scales"].reshape(-1, 12)).view(np.uint8) & 63  # less 32: the top bit
    axes = sc.reshape(n, 2, 8, units, 4, 2, 2).transpose(0, 3, 2, 5, 1, 6, 4)  # n u g b r h s
    words = join_triples(axes.reshape(n, units, 8, 2, 4, 4), True)  # n u g b k 4
    parts = [words.transpose(0, 1, 4, 2, 3, 5), both_rows(blocks["d"])]
    return [np.concatenate([as_bytes(part) for part in parts], axis=2)]


def split_3_k(parts: list[Array], blocks: Array) -> None:
    """Undoes `join_3_k`."""
    n, _, _, units = blocks.shape
    words, d = np.split(parts[0], (192,), axis=2)
    words = words.reshape(n, units, 3, 8, 2, 4).transpose(0, 1, 3, 4, 2, 5)
    sc = split_triples(words, True).reshape(n, units, 8, 2, 2, 2, 4)
    sc = np.ascontiguousarray(sc.transpose(0, 4, 2, 1, 6, 3, 5)).reshape(-1, 16) ^ 32
    packed = np.empty((blocks.size, 12), np.uint8)
    pack_q3_k_scales(sc, packed)
    blocks["scales"] = packed.reshape(*blocks.shape, 12)
    blocks["d"] = from_both_rows(d.reshape(n, units, 8, 4), "<f2")


def join_6_k(blocks: Array) -> list[Array]:
    """Q6_K: [g][b][r][s][h] sc, d of both rows."""
    n, _, _, units = blocks.shape
    sc = blocks["scales"].reshape(n, 2, 8, units, 4, 2, 2).transpose(0, 3, 2, 5, 1, 4, 6)
    return [np.concatenate([as_bytes(sc), as_bytes(both_rows(blocks["d"]))], axis=2)]


def split_6_k(parts: list[Array], blocks: Array) -> None:
    """Undoes `join_6_k`."""
    n, _, _, units = blocks.shape
    sc, d = np.split(parts[0], (256,), axis=2)
    sc = np.ascontiguousarray(sc).view(np.int8).reshape(n, units, 8, 2, 2, 4, 2)
    blocks["scales"] = sc.transpose(0, 4, 2, 1, 5, 3, 6).reshape(*blocks.shape, 16)
    blocks["d"] = from_both_rows(d.reshape(n, units, 8, 4), "<f2")


def join_iq4_xs(blocks: Array) -> list[Array]:
    """IQ4_XS: [g] d of both rows and the 3 words of ls."""
    low = split_fields(blocks["scales_l"].reshape(-1, 4), 4, 1)
    high = blocks["scales_h"].reshape(-1, 1) >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    ls = (low | high.astype(np.uint8) << 4) ^ 32
    words = side_triples(ls.reshape(*blocks.shape, 8), signed=True)
    return [as_bytes(np.concatenate([both_rows(blocks["d"]), words], axis=3))]


def split_iq4_xs(parts: list[Array], blocks: Array) -> None:
    """Undoes `join_iq4_xs`."""
    header = parts[0].reshape(*parts[0].shape[:2], 8, 16)
    blocks["d"] = from_both_rows(header[..., :4], "<f2")
    ls = from_side_triples(np.ascontiguousarray(header[..., 4:]), signed=True).reshape(-1, 8) ^ 32
    blocks["scales_l"] = join_fields(ls & 15, 4, 1).reshape(*blocks.shape, 4)
    high = (ls >> 4).astype(np.uint16) << np.arange(0, 16, 2, dtype=np.uint16)
    blocks["scales_h"] = np.bitwise_or.reduce(high, axis=1).reshape(blocks.shape)


HEADERS = {
    **dict.fromkeys(("Q8_0", "Q4_0", "Q5_0", "IQ4_NL"), _small("d")),
    **dict.fromkeys(("Q4_1", "Q5_1"), _small("d", "m")),
    "MXFP4": _small("e"),
    "Q2_K": Header(join_2_k, split_2_k),
    "Q3_K": Header(join_3_k, split_3_k),
    **dict.fromkeys(("Q4_K", "Q5_K"), Header(join_4_k, split_4_k)),
    "Q6_K": Header(join_6_k, split_6_k),
    "IQ4_XS": Header(join_iq4_xs, split_iq4_xs),
}
