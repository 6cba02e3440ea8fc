"""Look at the weights of every tensor: scales that are no numbers, empty and repeated blocks.

    d dmin m s     float16 scales: NaN or infinite             ggml_validate_row_data
    e              MXFP4's exponent: 255 is NaN
    scales, bsums  K-quants: what no quantizer writes          d < 0, d without scales, wrong sums
    whole blocks   of weight zero, or like the block before         quantized types only

A tensor goes through in pieces of a few megabytes, in the order of the file.
Source: `ggml_validate_row_data` and `quantize_row_*_K_ref` in ggml/src/ggml-quants.c.
Left out: whether the weights make sense; NVFP4's scales, which are sound in all their 256 values.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from ..gguf.findings import Findings, ValidationReport
from ..gguf.rules_tensors import PlacedTensor
from ..gguf.validate import CheckedFile, check_file
from ..gguf.walk import text_of
from .convert import CODECS

__all__ = ["validate_gguf"]

TILE_BYTES = 1 << 22  # of a tensor at once
PROBE = 6  # bytes that differ between nearly all blocks: only where they agree, all are compared
SCALE_FIELDS = ("d", "dmin", "m", "s")
FLOATS = frozenset({"F32", "F16", "BF16", "F64"})
POSITIVE = frozenset({"Q2_K", "Q4_K", "Q5_K"})  # their quantizers write d and dmin of 0 or more


@dataclass
class Tally:
    """Counts of one tensor, and the first block of each kind."""

    n_blocks: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    firsts: dict[str, int] = field(default_factory=dict)
    last: np.ndarray | None = None  # (1, bytes) uint8, the block before the next tile

    def add(self, kind: str, wrong: np.ndarray) -> None:
        """Count the blocks of a tile for which `wrong` (B,) bool holds."""
        n = int(np.count_nonzero(wrong))
        if n:
            self.firsts.setdefault(kind, self.n_blocks + int(np.argmax(wrong)))
            self.counts[kind] = self.counts.get(kind, 0) + n


def validate_gguf(
    path: str | os.PathLike, profile: str = "spec", data: bool = False
) -> ValidationReport:
    """Check a GGUF file against every rule of the format, and on request its weights.

    profile: "spec" (errors are what `open_gguf` refuses) or "llama.cpp" (what its loader refuses).
    data: look at all tensor data too: NaN and infinite values and scales, impossible scales,
        zero and repeated blocks. These are warnings and notes: such a file still loads.

    Returns: ValidationReport: `findings` (rule, severity, byte offset, place, message, source),
    `accepted`, `to_frame()`.
    Raises: GGUFNotFoundError or GGUFError where there is no file to read; ParameterError.
    Source: the GGUF specification (ggml/docs/gguf.md); ggml/src/gguf.cpp.
    """
    checked = check_file(path, profile)
    start, nbytes = perf_counter(), 0
    if data:
        nbytes = _check_data(checked)
    return ValidationReport(
        checked.path,
        profile,
        checked.findings.all(),
        checked.walk.complete,
        nbytes,
        perf_counter() - start if data else 0.0,
    )


def _check_data(checked: CheckedFile) -> int:
    """Look at every tensor that is wholly there; returns the bytes looked at."""
    from tqdm.auto import tqdm  # a tenth of a second, which `import workbench` need not pay

    tensors = list(_apart(checked.tensors))
    hidden = bool(os.environ.get("TQDM_DISABLE"))  # which tqdm's bar for notebooks overlooks
    total = sum(tensor.nbytes for tensor in tensors)
    with tqdm(total=total, unit="B", unit_scale=True, leave=False, delay=1, disable=hidden) as bar:
        for tensor in tensors:
            raw = np.frombuffer(checked.walk.data[tensor.start : tensor.end], np.uint8)
            _check_tensor(checked.findings, tensor, raw, checked.walk.byte_order)
            bar.update(tensor.nbytes)
    return total


def _apart(tensors: Iterable[PlacedTensor]) -> Iterator[PlacedTensor]:
    """Tensors in the order of the file; one that overlaps is a fault already, and looked at once.

    A file of many tensors that all claim the same bytes would else be work without bound.
    """
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.start):
        if tensor.nbytes and tensor.start >= end:
            end = tensor.end
            yield tensor


def _check_tensor(
    findings: Findings, tensor: PlacedTensor, raw: np.ndarray, byte_order: str
) -> None:
    dtype = CODECS[tensor.type].dtype
    if byte_order == "big":
        dtype = dtype.newbyteorder(">")
    blocks, tally = raw.view(dtype), Tally()
    for tile in _tiles(blocks):
        _check_tile(tally, tensor.type, tile)
        tally.n_blocks += len(tile)
    _report(findings, tensor, tally, dtype.itemsize)


def _tiles(blocks: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, TILE_BYTES // blocks.itemsize)
    for start in range(0, len(blocks), step):
        yield blocks[start : start + step]


def _check_tile(tally: Tally, type_name: str, tile: np.ndarray) -> None:
    if tile.dtype.names is None:
        if type_name in FLOATS:
            tally.add("value", _not_finite(type_name, tile))
        return
    scales = _scales(type_name, tile)
    for name, (values, wrong) in scales.items():
        tally.add(f"scale {name}", wrong)
        if type_name in POSITIVE:
            tally.add(f"negative {name}", values < 0)
    if scales:
        tally.add("zero", np.logical_and.reduce([values == 0 for values, _ in scales.values()]))
    if type_name in _NO_SCALES:
        tally.add("no scales", (tile["d"] != 0) & _NO_SCALES[type_name](tile))
    if type_name == "Q8_K":
        sums = tile["qs"].reshape(-1, 16, 16).sum(axis=2, dtype=np.int32)
        tally.add("sums", (sums != tile["bsums"]).any(axis=1))
    tally.add("repeated", _repeated(_words(tile), tally.last))
    tally.last = _words(tile)[-1:].copy()


def _not_finite(type_name: str, values: np.ndarray) -> np.ndarray:
    """(n,) bool: which values are NaN or infinite: all bits of the exponent are set."""
    if values.itemsize > 2:
        return ~np.isfinite(values)
    exponent = 0x7F80 if type_name == "BF16" else 0x7C00
    words = values.view(np.dtype("u2").newbyteorder(values.dtype.byteorder))
    return (words & exponent) == exponent


def _scales(type_name: str, tile: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Field name -> its values (B,) and which of them are no finite numbers."""
    if type_name == "IQ1_M":  # the float16 d lies in the top four bits of four words of scales
        nibbles = tile["scales"][:, 1::2].astype(np.uint16) >> 4
        bits = nibbles << np.array([0, 4, 8, 12], np.uint16)
        d = np.bitwise_or.reduce(bits, axis=1).astype(np.uint16).view(np.float16)
        return {"d": (d, ~np.isfinite(d))}
    if type_name == "MXFP4":
        return {"e": (tile["e"].astype(np.int16) + 1, tile["e"] == 255)}  # 2^-127 is not zero
    if type_name == "NVFP4":
        return {}
    names = [name for name in SCALE_FIELDS if name in tile.dtype.names]
    return {name: (tile[name], _not_finite(type_name, tile[name])) for name in names}


def _repeated(words: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """(B,) bool: which blocks of `words` (B, bytes) are like the one before, `last` before all."""
    same = np.zeros(len(words), bool)
    same[0] = last is not None and np.array_equal(last, words[:1])
    near = 1 + np.flatnonzero((words[1:, :PROBE] == words[:-1, :PROBE]).all(axis=1))
    same[near] = (words[near] == words[near - 1]).all(axis=1)
    return same


def _words(tile: np.ndarray) -> np.ndarray:
    """(B, bytes) uint8 of a tile."""
    return tile.view(np.uint8).reshape(len(tile), tile.itemsize)


def _packed_scales_are_zero(tile: np.ndarray) -> np.ndarray:
    """Q4_K, Q5_K: scales 0..3 and the high bits of 4..7 in bytes 0..3, low bits in 8..11."""
    scales = tile["scales"]
    return ~scales[:, :4].any(axis=1) & ~(scales[:, 8:] & 15).any(axis=1)


_NO_SCALES = {
    "Q2_K": lambda tile: ~(tile["scales"] & 15).any(axis=1),
    "Q4_K": _packed_scales_are_zero,
    "Q5_K": _packed_scales_are_zero,
    "Q6_K": lambda tile: ~tile["scales"].any(axis=1),
}


def _report(findings: Findings, tensor: PlacedTensor, tally: Tally, itemsize: int) -> None:
    """One finding a kind of fault, at the first block that has it."""
    place, n = f"tensor {text_of(tensor.info.name)}", tally.n_blocks
    for kind, count in tally.counts.items():
        first = tally.firsts[kind]
        word, _, name = kind.partition(" ")
        rule, text = _RULE_OF[word]
        share = f"{count} of {n} ({100 * count / n:.3g} %)"
        message = f"{tensor.type}: {share} {text.format(name)}, the first is number {first}"
        findings.add(rule, tensor.start + first * itemsize, place, message)


# kind of fault -> rule, and what the blocks (or values) have
_RULE_OF = {
    "value": ("value-not-finite", "values are NaN or infinite"),
    "scale": ("scale-not-finite", "blocks have a NaN or infinite {}"),
    "negative": ("scale-impossible", "blocks have a negative {}"),
    "no": ("scale-impossible", "blocks have a d but no scale that is not zero"),
    "sums": ("scale-impossible", "blocks have bsums that are not the sums of their qs"),
    "zero": ("zero-blocks", "blocks hold only zeros"),
    "repeated": ("repeated-blocks", "blocks are like the block before"),
}
