"""What differs between GGUF files: metadata, types of tensors by layer and role, sizes, bytes.

    metadata   keys whose values differ, or that some file lacks     a column a file
    types      layer x role: one type where all agree, else "F16 → Q4_0"
    tensors    a row each: type, shape and bytes in each file, and whether the bytes are the same

Source: our own. Left out: how much weights differ, which `quant_error` measures.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..errors import ParameterError
from ..gguf import GGUFFile
from ..quants import open_gguf
from .file_map import role_of

__all__ = ["GGUFDiff", "diff_gguf", "type_matrix"]

MISSING = "—"
SHOWN = 60  # characters of a value
NO_LAYER = "model"  # the row of tensors outside of layers


@dataclass(frozen=True, eq=False)
class GGUFDiff:
    """How files differ; columns are the files' names.

    names: of the files. metadata: a row a key that differs. tensors: a row a tensor: type, shape
    and bytes in each file, `same`: whether all files have it with equal bytes, None where they were
    not compared. sizes: a row a file: bytes, tensors, keys, bytes of tensors, bits a weight.
    """

    names: tuple[str, ...]
    metadata: pd.DataFrame
    tensors: pd.DataFrame
    sizes: pd.DataFrame

    @property
    def equal(self) -> bool:
        """Whether metadata and tensors are the same in all."""
        return self.metadata.empty and all(self.tensors["same"])

    @property
    def types(self) -> pd.DataFrame:
        """Types of tensors, layers down and roles across; "F16 → Q4_0" where files differ."""
        columns = [f"type {name}" for name in self.names]
        cells: dict[tuple[str, str], list[str]] = {}
        for row in self.tensors[["name", *columns]].itertuples(index=False):
            layer, role = role_of(row[0])
            kinds = list(dict.fromkeys(row[1:]))
            place = (NO_LAYER if layer is None else str(layer), role)
            cells.setdefault(place, []).append(" → ".join(kinds))
        series = {place: " ".join(dict.fromkeys(texts)) for place, texts in cells.items()}
        layers = list(dict.fromkeys(layer for layer, _ in series))
        roles = list(dict.fromkeys(role for _, role in series))
        table = [[series.get((layer, role), "") for role in roles] for layer in layers]
        return pd.DataFrame(table, index=pd.Index(layers, name="layer"), columns=roles)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        tables = {"metadata": self.metadata, "tensors": self.tensors, "sizes": self.sizes}
        rows = {name: table.astype(object).to_dict("records") for name, table in tables.items()}
        return {"names": list(self.names), "equal": self.equal, **rows}

    def __repr__(self) -> str:
        n_differ = sum(same is False for same in self.tensors["same"])
        return (
            f"GGUFDiff({' / '.join(self.names)}: {len(self.metadata)} keys differ, "
            f"{n_differ} of {len(self.tensors)} tensors differ)"
        )


def diff_gguf(
    *files: str | os.PathLike | GGUFFile, tensors: bool = True, progress: bool = False
) -> GGUFDiff:
    """Compare two or more files, or split models.

    files: paths, or open files. tensors: whether to read the tensors that have the same type and
    shape everywhere and compare their SHA-256; False leaves `same` None for those.
    Raises: ParameterError for fewer than two; GGUFError.
    """
    if len(files) < 2:
        raise ParameterError(
            f"diff_gguf: nothing to compare with; expected at least two files, got {len(files)}"
        )
    with ExitStack() as stack:
        opened = [
            file if isinstance(file, GGUFFile) else stack.enter_context(open_gguf(file))
            for file in files
        ]
        names = _names([gguf.path for gguf in opened])
        return GGUFDiff(
            names,
            _metadata_rows(opened, names),
            _tensor_rows(opened, names, tensors, progress),
            _size_rows(opened, names),
        )


def type_matrix(gguf: GGUFFile) -> pd.DataFrame:
    """Types of a file's tensors: layers down, roles across, "" where there is none."""
    return diff_gguf(gguf, gguf, tensors=False).types


def _names(paths: Sequence[str]) -> tuple[str, ...]:
    """Short names that tell the files apart."""
    short = [Path(path).name for path in paths]
    if len(set(short)) == len(short):
        return tuple(short)
    return tuple(f"{number}: {path}" for number, path in enumerate(paths, 1))


def _metadata_rows(files: Sequence[GGUFFile], names: Sequence[str]) -> pd.DataFrame:
    keys = list(dict.fromkeys(key for gguf in files for key in gguf.metadata))
    rows = []
    for key in keys:
        stored = {_stored(gguf, key) for gguf in files}
        if len(stored) > 1:
            rows.append({"key": key, **dict(zip(names, _values(files, key), strict=True))})
    return pd.DataFrame(rows, columns=["key", *names])


def _stored(gguf: GGUFFile, key: str) -> Any:
    """Type and bytes of a value, which are hashed where they are long."""
    if key not in gguf.metadata:
        return None
    raw = gguf.metadata.raw(key)
    if gguf.byte_order != "little" or gguf.version == 1:
        return gguf.metadata.types[key], repr(_plain(gguf.metadata[key]))
    return gguf.metadata.types[key], hashlib.sha256(raw).digest()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else _listed(value)


def _listed(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else [_plain(item) for item in value]


def _values(files: Sequence[GGUFFile], key: str) -> list[str]:
    """A value of each file in a few words; of arrays what stands where they first differ."""
    values = [gguf.metadata.get(key) for gguf in files]
    arrays = [v for v in values if v is not None and not isinstance(v, str | int | float)]
    at = _first_difference(arrays) if len(arrays) > 1 else None
    texts = []
    for gguf, value in zip(files, values, strict=True):
        if value is None:
            texts.append(MISSING)
        elif isinstance(value, str | int | float):
            texts.append(f"{value!r:.{SHOWN}}" if isinstance(value, str) else str(value))
        else:
            shown = "" if at is None or at >= len(value) else f"; [{at}] {value[at]!r:.{SHOWN}}"
            texts.append(f"{gguf.metadata.types[key]} of {len(value):,}{shown}")
    return texts


def _first_difference(arrays: Sequence[Any]) -> int | None:
    """The first index at which sequences differ; None where one begins another."""
    for at, items in enumerate(zip(*arrays, strict=False)):
        first = items[0]
        if any(not np.array_equal(first, item) for item in items[1:]):
            return at
    return None


def _tensor_rows(
    files: Sequence[GGUFFile], names: Sequence[str], read: bool, progress: bool
) -> pd.DataFrame:
    found = list(dict.fromkeys(name for gguf in files for name in gguf.tensors))
    rows = []
    for name in tqdm(found, "comparing tensors", delay=1, leave=False, disable=not progress):
        infos = [gguf.tensors.get(name) for gguf in files]
        row = {"name": name, "same": _same(files, name, infos, read)}
        for label, info in zip(names, infos, strict=True):
            row[f"type {label}"] = MISSING if info is None else info.type
            row[f"shape {label}"] = MISSING if info is None else "x".join(map(str, info.shape))
            row[f"bytes {label}"] = 0 if info is None else info.nbytes
        rows.append(row)
    kinds = [f"{kind} {label}" for kind in ("type", "shape", "bytes") for label in names]
    return pd.DataFrame(rows, columns=["name", "same", *kinds]).astype({"same": object})


def _same(files: Sequence[GGUFFile], name: str, infos: Sequence[Any], read: bool) -> bool | None:
    if any(info is None for info in infos):
        return False
    pairs = zip(infos, files, strict=True)
    if len({(info.type, info.shape, gguf.byte_order) for info, gguf in pairs}) > 1:
        return False
    if not read:
        return None
    return len({hashlib.sha256(gguf.raw(name)).digest() for gguf in files}) == 1


def _size_rows(files: Sequence[GGUFFile], names: Sequence[str]) -> pd.DataFrame:
    rows: list[Mapping[str, Any]] = []
    for name, gguf in zip(names, files, strict=True):
        nbytes = sum(info.nbytes for info in gguf.tensors.values())
        n_weights = sum(info.n_elements for info in gguf.tensors.values())
        rows.append(
            {
                "file": name,
                "bytes": gguf.size,
                "keys": len(gguf.metadata),
                "tensors": len(gguf.tensors),
                "tensor_bytes": nbytes,
                "bits_per_weight": 8 * nbytes / n_weights if n_weights else float("nan"),
            }
        )
    return pd.DataFrame(rows)
