"""Importance matrices: how large the inputs of each weight matrix are, column by column.

    .gguf   blk.0.ffn_up.weight.in_sum2  (n_mat, n) float32   sums of squared inputs
            blk.0.ffn_up.weight.counts   (n_mat, 1) float32   rows summed; n_mat experts, else 1
    .dat    n_entries | name length, name, n_calls, n_values, values … | n_chunks | dataset
            i32 words, little-endian; the values are means times n_calls

Source: llama.cpp common/imatrix-loader.cpp (`common_imatrix_load`), tools/quantize/quantize.cpp
(`load_imatrix`), tools/imatrix/imatrix.cpp (`save_imatrix`).
Left out: writing .dat, sums of the inputs themselves (`in_sum`), and collecting, which is
`analysis.imatrix`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import GGUFError, GGUFNotFoundError, ParameterError
from ..gguf import GGUFFile, write_gguf
from .file import open_gguf

__all__ = ["Imatrix", "ImatrixEntry", "read_imatrix", "write_imatrix"]

SUMS, COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, eq=False)
class ImatrixEntry:
    """Of one tensor: sums (n_mat, n) float32 of squared inputs, counts (n_mat,) int64 of rows."""

    sums: np.ndarray
    counts: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """(n_mat, n) float32 mean squares; ones for an expert that no token went to."""
        counts = self.counts.astype(np.float32)[:, None]
        means = self.sums / np.where(counts > 0, counts, np.float32(1))
        return np.where(counts > 0, means, np.float32(1))


@dataclass(frozen=True, eq=False)
class Imatrix:
    """What was collected: tensor name -> entry, from which texts, in how many chunks of tokens."""

    entries: Mapping[str, ImatrixEntry]
    datasets: tuple[str, ...] = ()
    chunk_count: int = 0
    chunk_size: int = 0
    path: str = ""

    def importance(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The mean squares for a tensor: (n_mat, n) float32, n_mat experts; None if not collected.

        shape: of the tensor, NumPy order. Raises: ParameterError if the entry has another size.
        """
        entry = self.entries.get(name)
        if entry is None:
            return None
        n_mat = shape[-3] if len(shape) > 2 else 1
        if entry.sums.size != n_mat * shape[-1]:
            raise ParameterError(
                f"imatrix: {name} does not fit; expected importances of shape "
                f"{(n_mat, shape[-1])} for a tensor of shape {tuple(shape)}, got "
                f"{entry.sums.shape}; the imatrix is of another model"
            )
        return entry.means.reshape(n_mat, shape[-1])


def read_imatrix(path: str | os.PathLike) -> Imatrix:
    """Reads an importance matrix, in either of llama.cpp's formats.

    Raises: GGUFNotFoundError where there is no file; GGUFError for a damaged one, for one that
    is no imatrix, and for values that are not finite.
    Source: llama.cpp common/imatrix-loader.cpp, `common_imatrix_load`.
    """
    name = os.fsdecode(path)
    try:
        with open(name, "rb") as file:
            is_gguf = file.read(4) == b"GGUF"
            data = b"" if is_gguf else file.seek(0) or file.read()
    except FileNotFoundError:
        raise GGUFNotFoundError(
            f"{name}: no such file; expected an imatrix (.gguf or .dat), got nothing; check the "
            "path, or make one with `workbench imatrix`"
        ) from None
    except OSError as error:
        raise GGUFError(
            f"{name}: cannot be read; expected an imatrix file, got {error.strerror}; check it"
        ) from None
    if not is_gguf:
        return _checked(_read_dat(_Words(data, name)))
    with open_gguf(name) as gguf:
        return _checked(_read_gguf(gguf))


def write_imatrix(path: str | os.PathLike, imatrix: Imatrix) -> None:
    """Writes an importance matrix as .gguf, as llama-imatrix does.

    Source: llama.cpp tools/imatrix/imatrix.cpp, `save_imatrix`.
    """
    tensors = {}
    for name in sorted(imatrix.entries):
        entry = imatrix.entries[name]
        tensors[name + SUMS] = np.ascontiguousarray(entry.sums, np.float32)
        tensors[name + COUNTS] = entry.counts.astype(np.float32)[:, None]
    metadata = {
        "general.type": "imatrix",
        "imatrix.datasets": list(imatrix.datasets),
        "imatrix.chunk_count": imatrix.chunk_count,
        "imatrix.chunk_size": imatrix.chunk_size,
    }
    write_gguf(path, metadata, tensors, types={"imatrix.datasets": "ARRAY[STRING]"})


def _read_gguf(gguf: GGUFFile) -> Imatrix:
    metadata, entries = gguf.metadata, {}
    for tensor in gguf.tensors:
        name = tensor.removesuffix(SUMS).removesuffix(COUNTS)
        if name == tensor or name in entries:
            continue
        for part in (name + SUMS, name + COUNTS):
            if part not in gguf.tensors or gguf.tensors[part].type != "F32":
                raise GGUFError(
                    f"{gguf.path}: {name} is incomplete; expected F32 tensors {name}{SUMS} and "
                    f"{name}{COUNTS}, got no such {part}; collect the imatrix again"
                )
        sums, counts = gguf.dequantize(name + SUMS), gguf.dequantize(name + COUNTS).reshape(-1)
        if not counts.size or not sums.size or sums.size % counts.size:
            raise GGUFError(
                f"{gguf.path}: {name} is damaged; expected sums for each of {counts.size} counts, "
                f"got {sums.size}; collect the imatrix again"
            )
        if not (np.isfinite(counts) & (np.abs(counts) < 2**62)).all():
            raise GGUFError(
                f"{gguf.path}: {name} has counts that are no numbers of rows; expected finite "
                f"numbers, got {counts[:4].tolist()}; collect the imatrix again"
            )
        whole = np.rint(counts).astype(np.int64)
        entries[name] = ImatrixEntry(sums.reshape(counts.size, -1), whole)
    if not entries:
        raise GGUFError(
            f"{gguf.path}: holds no importances; expected tensors named *{SUMS} and *{COUNTS}, "
            f"got {len(gguf.tensors)} others; is it a model?"
        )
    datasets = metadata.get("imatrix.datasets", ())
    return Imatrix(
        entries,
        tuple(str(name) for name in datasets) if not isinstance(datasets, str) else (datasets,),
        _number(metadata.get("imatrix.chunk_count")),
        _number(metadata.get("imatrix.chunk_size")),
        gguf.path,
    )


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | np.integer) else 0


class _Words:
    """The bytes of a .dat file and how far they are read."""

    def __init__(self, data: bytes, path: str):
        self.data, self.path, self.pos = data, path, 0

    @property
    def is_empty(self) -> bool:
        return self.pos >= len(self.data)

    def take(self, n: int, what: str) -> bytes:
        if n < 0 or n > len(self.data) - self.pos:
            raise GGUFError(
                f"{self.path}, byte {self.pos}: no imatrix, or cut short; expected {n} bytes of "
                f"{what}, got {len(self.data) - self.pos}; give the .gguf or .dat file of "
                "llama-imatrix"
            )
        self.pos += n
        return self.data[self.pos - n : self.pos]

    def number(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little", signed=True)

    def text(self, what: str) -> str:
        return self.take(self.number(f"length of {what}"), what).decode("utf-8", "replace")


def _read_dat(words: _Words) -> Imatrix:
    n_entries, entries = words.number("number of entries"), {}
    if n_entries < 1:
        raise GGUFError(
            f"{words.path}: no imatrix; expected at least one entry, got {n_entries}; give the "
            ".gguf or .dat file of llama-imatrix"
        )
    for i in range(n_entries):
        name = words.text(f"the name of entry {i + 1} of {n_entries}")
        n_calls, n_values = words.number("calls"), words.number("number of values")
        if n_values < 1:
            words.take(-1, f"values of {name!r} (it announces {n_values})")
        values = np.frombuffer(words.take(4 * n_values, f"values of {name!r}"), "<f4")
        sums = values.astype(np.float32)[None]
        entries[name] = ImatrixEntry(sums, np.array([max(n_calls, 1)]))
    chunk_count = 0 if words.is_empty else words.number("number of chunks")
    datasets = () if words.is_empty else (words.text("the name of the text"),)
    return Imatrix(entries, tuple(filter(None, datasets)), chunk_count, 0, words.path)


def _checked(imatrix: Imatrix) -> Imatrix:
    """Raises GGUFError unless all sums are finite."""
    for name, entry in imatrix.entries.items():
        if not np.isfinite(entry.sums).all():
            raise GGUFError(
                f"{imatrix.path}: {name} has importances that are not finite; expected numbers, "
                f"got {np.count_nonzero(~np.isfinite(entry.sums))} NaN or infinite ones; collect "
                "the imatrix again"
            )
    return imatrix
