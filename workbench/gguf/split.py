"""Split a model into files, and merge them back.

    model.gguf ─► NAME-00001-of-00003.gguf   all metadata, first tensors
                  NAME-00002-of-00003.gguf   tensors
                  NAME-00003-of-00003.gguf   tensors          ─► merge: the bytes of model.gguf

Source: llama.cpp tools/gguf-split (names and keys; sizes are counted in 1000s there as well).
Left out: files without tensors in front (`--no-tensor-first-split`).
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GGUFError, ParameterError
from .reader import GGUFFile, open_gguf
from .tensor_info import TensorInfo
from .types import align_up
from .writer import write_gguf

__all__ = ["SPLIT_KEYS", "merge_gguf", "split_gguf"]

SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
MOST_SHARDS = 99_999  # five digits


def split_gguf(
    path: str | os.PathLike,
    out: str | os.PathLike,
    max_tensors: int | None = None,
    max_bytes: int | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write a model as several files.

    out: what their names begin with, "folder/NAME"; max_tensors: most tensors of a file;
    max_bytes: most bytes of tensors in a file (a larger tensor has one for itself); one of the two.
    Returns: the files' paths, in order. A model that is split already is split anew.
    Raises: ParameterError, also if a file is there already and overwrite is False; GGUFError.
    """
    _demand_one_limit(max_tensors, max_bytes)
    with open_gguf(path) as gguf:
        groups = _groups(gguf, max_tensors, max_bytes)
        if len(groups) > MOST_SHARDS:
            raise ParameterError(
                f"split: too many files; expected at most {MOST_SHARDS}, got {len(groups)}; allow "
                "larger ones"
            )
        stem, count = os.fsdecode(out), len(groups)
        paths = [f"{stem}-{number + 1:05}-of-{count:05}.gguf" for number in range(count)]
        _demand_free(paths, overwrite)
        for number, (name, group) in enumerate(zip(paths, groups, strict=True)):
            metadata, types = _shard_metadata(gguf, number, count)
            write_gguf(name, metadata, _tensors(gguf, group), types=types, **_form(gguf))
    return paths


def merge_gguf(path: str | os.PathLike, out: str | os.PathLike, overwrite: bool = False) -> str:
    """Write a split model, of which `path` is any file, as one. Returns: its path.

    Raises: ParameterError if it is not split or `out` is there already; GGUFError for files that
        are missing or damaged.
    """
    with open_gguf(path) as gguf:
        if len(gguf.shards) < 2:
            raise ParameterError(
                f"{gguf.path}: one file already; expected a file of a split model, got a whole one"
            )
        _demand_free([os.fsdecode(out)], overwrite)
        metadata = {k: v for k, v in gguf.metadata.items() if k not in SPLIT_KEYS}
        types = {key: gguf.metadata.types[key] for key in metadata}
        write_gguf(out, metadata, _tensors(gguf, gguf.tensors.values()), types=types, **_form(gguf))
    return os.fsdecode(out)


def _shard_metadata(gguf: GGUFFile, number: int, count: int) -> tuple[dict, dict]:
    """Metadata of one file and its types; those of split.* are what llama.cpp wants."""
    kept = gguf.metadata if number == 0 else {}
    metadata: dict[str, Any] = {key: kept[key] for key in kept if key not in SPLIT_KEYS}
    types = {key: gguf.metadata.types[key] for key in metadata}
    metadata["split.no"] = np.uint16(number)
    metadata["split.count"] = np.uint16(count)
    metadata["split.tensors.count"] = np.int32(len(gguf.tensors))
    if number and "general.alignment" in gguf.metadata:
        metadata["general.alignment"] = np.uint32(gguf.alignment)
    return metadata, types


def _form(gguf: GGUFFile) -> dict[str, Any]:
    return {"version": gguf.version, "byte_order": gguf.byte_order}


def _tensors(gguf: GGUFFile, infos: Any) -> dict[str, tuple]:
    return {info.name: (partial(gguf.raw, info.name), info.type, info.shape) for info in infos}


def _groups(
    gguf: GGUFFile, max_tensors: int | None, max_bytes: int | None
) -> list[list[TensorInfo]]:
    groups: list[list[TensorInfo]] = [[]]
    size = 0
    for info in gguf.tensors.values():
        nbytes = align_up(info.nbytes, gguf.alignment)
        is_full = len(groups[-1]) == max_tensors if max_tensors else size + nbytes > max_bytes
        if groups[-1] and is_full:
            groups.append([])
            size = 0
        groups[-1].append(info)
        size += nbytes
    if not groups[-1]:
        raise GGUFError(f"{gguf.path}: holds no tensors; expected some to split, got none")
    return groups


def _demand_one_limit(max_tensors: Any, max_bytes: Any) -> None:
    limits = [limit for limit in (max_tensors, max_bytes) if limit is not None]
    is_count = [isinstance(limit, int) and not isinstance(limit, bool) for limit in limits]
    if len(limits) != 1 or not all(is_count) or limits[0] < 1:
        raise ParameterError(
            "split: no limit to split at; expected either max_tensors or max_bytes, at least 1, "
            f"got {max_tensors!r} and {max_bytes!r}"
        )


def _demand_free(paths: list[str], overwrite: bool) -> None:
    for path in paths:
        if Path(path).exists() and not overwrite:
            raise ParameterError(
                f"{path}: there is such a file; expected a free name, got one that is taken; pass "
                "overwrite=True (--overwrite) to replace it"
            )
