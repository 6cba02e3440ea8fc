"""The files of a split model: found from any of them, checked, and read as one.

    NAME-00001-of-00003.gguf   all metadata, and the first tensors     split.no 0
    NAME-00002-of-00003.gguf   more tensors                            split.no 1    split.count 3

Source: `llama_model_loader` in src/llama-model-loader.cpp, `llama_split_path` in src/llama.cpp.
Left out: whether shards of the same name and number come from the same model, which nothing says.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import GGUFError
from .header import Header, parse_header
from .source import FileSource, Source, not_gguf_hint

__all__ = ["Shard", "complete", "open_source", "read_shard"]

SHARD_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Shard:
    """One file of a model; header: what it says, source: its bytes."""

    source: Source
    header: Header

    @property
    def path(self) -> str:
        """Where the file is."""
        return self.source.path

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return len(self.source.data)

    @property
    def n_tensors(self) -> int:
        """Tensors in this file."""
        return len(self.header.tensors)

    def __repr__(self) -> str:
        return f"Shard({os.path.basename(self.path)!r}, {self.n_tensors} tensors, {self.nbytes})"


def open_source(path: str | os.PathLike) -> Source:
    """The bytes of a local or remote file. Raises: GGUFError, ParameterError."""
    if isinstance(path, str) and path.startswith(("https://", "http://", "hf://")):
        from .remote import RemoteSource  # httpx, which local files do without

        return RemoteSource(path)
    return FileSource(path)


def read_shard(source: Source, shard: int = 0) -> Shard:
    """A file with its header parsed. Raises: GGUFError."""
    source.reach(min(64, len(source.data)))
    start = bytes(source.data[:64])
    if start[:4] != b"GGUF":
        raise GGUFError(
            f"{source.path}, byte 0: not a GGUF file; expected it to start with b'GGUF', "
            f"got {start[:4]!r}; {not_gguf_hint(start)}"
        )
    return Shard(source, parse_header(source, shard))


def complete(opened: Shard, open_one: Callable[[str], Source] = open_source) -> list[Shard]:
    """All shards of the model that a shard belongs to, in order; itself where there is one only.

    Raises: GGUFError naming the file that is missing, damaged or another's.
    """
    count = _number(opened, "split.count", 1)
    if count < 2:
        return [opened]
    stem, own = _stem_and_number(opened, count)
    shards = []
    for number in range(count):
        path = f"{stem}-{number + 1:05}-of-{count:05}.gguf"
        shard = opened if number == own and own == 0 else _read_part(opened, path, number, open_one)
        if _number(shard, "split.no", -1) != number or _number(shard, "split.count", 1) != count:
            raise GGUFError(
                f"{path}: not shard {number + 1} of {count}; expected split.no {number} and "
                f"split.count {count}, got {_value(shard, 'split.no')} and "
                f"{_value(shard, 'split.count')}; its name was changed, or it is another model's"
            )
        shards.append(shard)
    _demand_whole(shards)
    return shards


def _read_part(opened: Shard, path: str, number: int, open_one: Callable[[str], Source]) -> Shard:
    try:
        return read_shard(open_one(path), number)
    except FileNotFoundError:
        raise GGUFError(
            f"{path}: this shard of the split model is missing; expected it beside "
            f"{os.path.basename(opened.path)!r}, got no such file; download all shards into one "
            "folder"
        ) from None


def _stem_and_number(opened: Shard, count: int) -> tuple[str, int]:
    """What the names of all shards begin with, and which one this is."""
    number = _number(opened, "split.no", 0)
    folder, name = os.path.split(opened.path)
    match = SHARD_NAME.fullmatch(name)
    if match is None or int(match[3]) != count or int(match[2]) != number + 1:
        raise GGUFError(
            f"{opened.path}: shard {number + 1} of {count} of a split model, under another name; "
            f"expected a name that ends in -{number + 1:05}-of-{count:05}.gguf, got {name!r}; "
            "rename it as it was, since the other shards are found by it"
        )
    return os.path.join(folder, match[1]) if folder else match[1], number


def _demand_whole(shards: list[Shard]) -> None:
    """Raises: GGUFError if tensors come twice or do not add up, or numbers differ in byte order."""
    homes: dict[str, str] = {}
    for shard in shards:
        name = os.path.basename(shard.path)
        if shard.header.metadata.byte_order != shards[0].header.metadata.byte_order:
            raise GGUFError(
                f"{shard.path}: in another byte order than the first shard; expected "
                f"{shards[0].header.metadata.byte_order}, got {shard.header.metadata.byte_order}"
            )
        for tensor in shard.header.tensors:
            if homes.setdefault(tensor, name) != name:
                raise GGUFError(
                    f"{shard.path}: tensor {tensor!r} is in two shards; expected it in one, got it "
                    f"in {homes[tensor]!r} too; a file is another model's"
                )
    total = _number(shards[0], "split.tensors.count", len(homes))
    if total != len(homes):
        raise GGUFError(
            f"{shards[0].path}: the shards do not fit together; expected {total} tensors by "
            f"split.tensors.count, got {len(homes)}; a file is another model's"
        )


def _value(shard: Shard, key: str) -> Any:
    return shard.header.metadata.get(key)


def _number(shard: Shard, key: str, default: int) -> int:
    value = _value(shard, key)
    return int(value) if isinstance(value, int | np.integer) else default
