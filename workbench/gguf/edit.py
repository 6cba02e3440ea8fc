"""Change a file's metadata and names: to a new file, or in place where the sizes allow it.

    new file    header made anew, tensors copied as they lie ── all written ──▶ os.replace
    in place    both headers ──▶ .FILE.undo ──▶ header overwritten ──▶ .FILE.undo removed
                                safe on disk   tensors stay where they are

What is not named stays as it is stored, byte for byte. If a change in place is interrupted, the
copy of the old header is still there, and the next `edit_gguf` of the file puts it back first; the
new header is kept with it to tell that the file is still the one that was being changed.
Source: our own; gguf-py's scripts gguf_set_metadata.py and gguf_new_metadata.py do parts of it.
Left out: changing weights, which `quantize_file` and `write_gguf` do.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GGUFError, ParameterError
from .encode import Encoding, encode_value, infer_type
from .metadata import Metadata
from .reader import GGUFFile, open_gguf
from .types import align_up
from .writer import header_bytes, write_gguf

__all__ = ["EditedFile", "edit_gguf", "finish_interrupted", "undo_path"]

DIGEST_BYTES = 32  # of the SHA-256 in front of an undo file


@dataclass(frozen=True)
class EditedFile:
    """What `edit_gguf` did: the file written, whether in place, and each change in words."""

    path: str
    in_place: bool
    changes: tuple[str, ...]
    nbytes: int


def edit_gguf(
    path: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    types: Mapping[str, str] | None = None,
    unset: Iterable[str] = (),
    rename: Mapping[str, str] | None = None,
    in_place: bool = False,
) -> EditedFile:
    """Write a copy of a file with other metadata or names, or change it in place.

    out: the file to write, another one than `path`; with in_place=True none.
    set: key -> value; a key that is there keeps its type, another is stored as `write_gguf` stores
        it, unless `types` names one ("UINT32", "ARRAY[STRING]"). unset: keys to remove. rename:
        old name -> new one, of keys and of tensors.
    in_place: overwrite the header only, which works if the new one is as long as the old, padding
        included.
    Of a split model, the one file named is changed. Returns: EditedFile.
    Raises: ParameterError for names that are not there or taken, values without a type, the same
        file twice, and a header that does not fit; GGUFError for a damaged file. The file then is
        as it was.
    """
    _demand_target(path, out, in_place)
    finish_interrupted(path)
    with open_gguf(path, whole=False) as gguf:
        changes: list[str] = []
        metadata = _edited(gguf, dict(set or {}), types or {}, tuple(unset), rename or {}, changes)
        names = _new_names(gguf, rename or {}, changes)
        if not changes:
            raise ParameterError(
                "edit_gguf: nothing to change; expected set, unset or rename, got none of them"
            )
        if in_place:
            _overwrite(gguf, metadata, names)
        else:
            tensors = {
                names[name]: (partial(gguf.raw, name), info.type, info.shape)
                for name, info in gguf.tensors.items()
            }
            write_gguf(out, metadata, tensors)
    written = os.fsdecode(path if in_place else out)
    return EditedFile(written, in_place, tuple(changes), os.path.getsize(written))


def undo_path(path: str | os.PathLike) -> Path:
    """Where the old header is while a file is changed in place."""
    whole = Path(os.fsdecode(path))
    return whole.with_name(f".{whole.name}.undo")


def _demand_target(path: Any, out: Any, in_place: bool) -> None:
    if in_place == (out is not None):
        raise ParameterError(
            f"out: where to write is not clear; expected either another file or in_place=True, got "
            f"{out!r} and in_place={in_place}"
        )
    if out is not None and os.path.exists(out) and os.path.exists(path):
        if os.path.samefile(path, out):
            raise ParameterError(
                f"out: the file itself; expected another path, got {os.fspath(out)!r}; pass "
                "in_place=True to change the file"
            )


def _edited(
    gguf: GGUFFile,
    new: dict[str, Any],
    types: Mapping[str, str],
    unset: tuple[str, ...],
    rename: Mapping[str, str],
    changes: list[str],
) -> Metadata:
    """The metadata after all changes; what was not named has the bytes of the file."""
    old = gguf.metadata
    encoding = Encoding(old.version, old.byte_order)
    _demand_names(gguf, new, unset, rename)
    raws: dict[str, tuple[str, bytes]] = {}
    for key in old:
        if key in unset:
            changes.append(f"{key} removed")
            continue
        name = rename.get(key, key)
        if name != key:
            changes.append(f"{key} renamed {name}")
        raws[name] = (old.types[key], bytes(old.raw(key)))
    for key, value in new.items():
        place = f"set {key!r}"
        type_name = types.get(key) or (raws[key][0] if key in raws else infer_type(value, place))
        raws[key] = (type_name, encode_value(value, type_name, encoding, place))
        changes.append(f"{key} = {value!r:.60} as {type_name}")
    return _metadata_of(raws, old)


def _metadata_of(raws: Mapping[str, tuple[str, bytes]], old: Metadata) -> Metadata:
    data, spans, at = b"".join(raw for _, raw in raws.values()), {}, 0
    for key, (_, raw) in raws.items():
        spans[key] = (at, at + len(raw))
        at += len(raw)
    types = {key: type_name for key, (type_name, _) in raws.items()}
    alignment = {key: old[key] for key in old if key == "general.alignment" and key in raws}
    return Metadata(dict.fromkeys(raws) | alignment, types, spans, memoryview(data), old.layout)


def _demand_names(
    gguf: GGUFFile, new: Mapping[str, Any], unset: tuple[str, ...], rename: Mapping[str, str]
) -> None:
    """Every name to change is there, and none is taken twice."""
    if "general.alignment" in {*new, *unset, *rename, *rename.values()}:
        raise ParameterError(
            "general.alignment: it says where the tensors lie; expected other keys, got this one; "
            "write_gguf writes a file with another alignment"
        )
    for key in unset:
        if key not in gguf.metadata:
            raise ParameterError(
                f"unset {key!r}: no such key; expected a key that is in the file, got {key!r}; "
                "info lists them"
            )
    for old, name in rename.items():
        if old not in gguf.metadata and old not in gguf.tensors:
            raise ParameterError(
                f"rename {old!r}: neither a key nor a tensor; expected a name that is in the file, "
                f"got {old!r}; info lists them"
            )
        taken = gguf.metadata if old in gguf.metadata else gguf.tensors
        if name in taken and name not in rename and name not in unset:
            raise ParameterError(
                f"rename {old!r}: {name!r} is there already; expected a name that is free; unset "
                "or rename that first"
            )
    if len({*rename.values()}) < len(rename):
        raise ParameterError(
            f"rename: two names become one; expected different new names, got {dict(rename)!r:.100}"
        )


def _new_names(gguf: GGUFFile, rename: Mapping[str, str], changes: list[str]) -> dict[str, str]:
    """Tensor name -> its new one."""
    names = {name: rename.get(name, name) for name in gguf.tensors}
    changes += [f"tensor {old} renamed {new}" for old, new in names.items() if new != old]
    return names


def _overwrite(gguf: GGUFFile, metadata: Metadata, names: Mapping[str, str]) -> None:
    """Put the new header over the old one, whose copy lies beside it meanwhile."""
    start = gguf.data_offset
    infos = [replace(info, name=names[info.name]) for info in gguf.tensors.values()]
    header = header_bytes(metadata, infos, start)
    padded = align_up(len(header), gguf.alignment)
    new = header.ljust(start, b"\0")
    if padded != start:
        raise ParameterError(
            f"in_place: the new header does not fit; expected {start} bytes with its padding, got "
            f"{padded}; write to a new file, or make a text as long as the old one"
        )
    undo = undo_path(gguf.path)
    with open(gguf.path, "r+b") as file:
        old = file.read(start)
        _write_synced(undo, hashlib.sha256(old + new).digest() + old + new)
        file.seek(0)
        file.write(new)
        file.flush()
        os.fsync(file.fileno())
    undo.unlink()


def finish_interrupted(path: str | os.PathLike) -> None:
    """Put back the old header of a change in place that did not come to its end, if one did not.

    Raises: GGUFError if the file is another one by now, which then stays as it is.
    """
    undo = undo_path(path)
    if not undo.exists():
        return
    saved = undo.read_bytes()
    digest, headers = saved[:DIGEST_BYTES], saved[DIGEST_BYTES:]
    if hashlib.sha256(headers).digest() == digest:  # else it was interrupted before it was whole
        old, new = headers[: len(headers) // 2], headers[len(headers) // 2 :]
        with open(path, "r+b") as file:
            if not _is_between(file.read(len(old)), old, new):
                raise GGUFError(
                    f"{os.fsdecode(path)}: not the file whose change was interrupted; expected the "
                    f"header of which {undo} holds a copy, got another; remove that copy if the "
                    "file is as it should be"
                )
            file.seek(0)
            file.write(old)
            file.flush()
            os.fsync(file.fileno())
    undo.unlink()


def _is_between(header: bytes, old: bytes, new: bytes) -> bool:
    """Whether a header is what an interrupted write leaves: each byte the old or the new one."""
    if len(header) != len(old):
        return False
    now, before, after = (np.frombuffer(text, np.uint8) for text in (header, old, new))
    return bool(((now == before) | (now == after)).all())


def _write_synced(path: Path, content: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise GGUFError(
            f"{path}: cannot be written; expected room beside the file for its old header, got "
            f"{error.strerror}; write to a new file instead"
        ) from None
