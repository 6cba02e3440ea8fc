"""Check a file against every rule: all findings, not only the first, under one of two profiles.

    walk_header -> check_metadata -> check_tensors -> check_split -> ValidationReport

Source: the GGUF specification (ggml/docs/gguf.md) and llama.cpp's loader, as `rules.py` names.
Left out: what lies in the tensors, which layer 2 checks (`workbench.quants.validate_data`).
"""

import os
from dataclasses import dataclass

from ..errors import ParameterError
from .findings import Findings
from .rules import PROFILES
from .rules_metadata import alignment_of, check_metadata
from .rules_split import check_split
from .rules_tensors import PlacedTensor, check_tensors
from .source import map_file
from .walk import Walk, walk_header

__all__ = ["CheckedFile", "check_file"]


@dataclass(frozen=True)
class CheckedFile:
    """A file's bytes, what the rules say of its header, and the tensors whose data is all there."""

    path: str
    walk: Walk
    findings: Findings
    tensors: tuple[PlacedTensor, ...]


def check_file(path: str | os.PathLike, profile: str) -> CheckedFile:
    """Apply every rule on header, metadata and tensor infos to one file.

    profile: "spec" or "llama.cpp".
    Raises: GGUFNotFoundError, GGUFError for what is no readable file, ParameterError.
    """
    if profile not in PROFILES:
        raise ParameterError(
            f"profile: not known; expected one of {', '.join(PROFILES)}, got {profile!r}; "
            "choose one of these"
        )
    name, data = map_file(path)
    walk, tensors = _check_bytes(data, profile)
    if walk.complete:
        check_split(name, walk, lambda shard: _check_bytes(map_file(shard)[1], profile)[0])
    return CheckedFile(name, walk, walk.findings, tuple(tensors))


def _check_bytes(data: memoryview, profile: str) -> tuple[Walk, list[PlacedTensor]]:
    """Apply the rules that need no other file."""
    walk = walk_header(data, Findings(profile))
    check_metadata(walk)
    return walk, check_tensors(walk, alignment_of(walk))
