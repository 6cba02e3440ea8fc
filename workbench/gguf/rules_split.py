"""Rules on split models: every shard there, sound, numbered, and together as many tensors as said.

    NAME-00001-of-00003.gguf   split.no 0   split.count 3   split.tensors.count of all shards

Source: `llama_model_loader` in src/llama-model-loader.cpp and `llama_split_path` in src/llama.cpp.
Left out: whether the shards come from the same model, which nothing in them says.
"""

import os
import re
from collections.abc import Callable, Iterable

from ..errors import GGUFError
from .findings import Findings
from .walk import Walk, text_of

__all__ = ["check_split"]

SHARD_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
NO, COUNT, TENSORS = b"split.no", b"split.count", b"split.tensors.count"
TYPES = {NO: "UINT16", COUNT: "UINT16", TENSORS: "INT32"}

WalkOf = Callable[[str], Walk]  # path -> the walk of that shard, checked, with findings of its own


def check_split(path: str, walk: Walk, walk_of: WalkOf) -> None:
    """Apply the rules on split models to the shard at `path` and all that belong to it."""
    walk.place = "split"
    values = {pair.key: pair for pair in walk.pairs if pair.key in TYPES}
    if COUNT not in values:
        return
    for key, pair in values.items():
        if pair.type != TYPES[key]:
            text = f"{text_of(key)} is {pair.type}, expected {TYPES[key]}"
            walk.note("split-keys", text, pair.value_start)
    count = _number(walk, COUNT)
    if count is None or count < 2:
        return
    at = values[COUNT].value_start
    missing = [key for key in (NO, TENSORS) if key not in values]
    if missing:
        walk.note("split-keys", f"{text_of(missing[0])} is missing in a shard", at)
    match = SHARD_NAME.fullmatch(os.path.basename(path))
    if not match or int(match[3]) != count or int(match[2]) != (_number(walk, NO) or 0) + 1:
        number = (_number(walk, NO) or 0) + 1
        text = f"shard {number} of {count} should be named …-{number:05}-of-{count:05}.gguf"
        walk.note("split-file-name", text, at)
        return
    stem = os.path.join(os.path.dirname(path), match[1])
    names = (f"{stem}-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1))
    _check_shards(walk, path, names, walk_of, at)


def _number(walk: Walk, key: bytes) -> int | None:
    values = [p.value for p in walk.pairs if p.key == key and isinstance(p.value, int)]
    return values[0] if values else None


def _check_shards(walk: Walk, path: str, names: Iterable[str], walk_of: WalkOf, at: int) -> None:
    """Look at each shard, until one is missing or broken: then nothing can be added up."""
    homes: dict[bytes, str] = {}
    for number, name in enumerate(names):
        base = os.path.basename(name)
        try:
            shard = walk if os.path.basename(path) == base else walk_of(name)
        except GGUFError:
            walk.note("split-shard-missing", f"the shard {base!r} is missing or unreadable", at)
            return
        if shard is not walk and _first_error(shard.findings):
            text = f"the shard {base!r} is broken: {_first_error(shard.findings)}"
            walk.note("split-shard-broken", text, at)
            return
        if _number(shard, NO) != number:
            text = f"the shard {base!r} says split.no {_number(shard, NO)}, expected {number}"
            walk.note("split-shard-number", text, at)
        for info in shard.infos:
            if homes.setdefault(info.name, base) != base:
                text = f"tensor {text_of(info.name)} is in {homes[info.name]!r} and in {base!r}"
                walk.note("split-tensor-duplicate", text, at)
    total = _number(walk, TENSORS)
    if total is not None and total != len(homes):
        text = f"split.tensors.count is {total}, the shards hold {len(homes)} tensors"
        walk.note("split-tensor-count", text, at)


def _first_error(findings: Findings) -> str | None:
    wrong = [finding for finding in findings.all() if finding.severity == "error"]
    return f"byte {wrong[0].offset}, {wrong[0].place}: {wrong[0].message}" if wrong else None
