"""Signs that weights were quantized before: do groups of them lie on the lattice of a type?

Weights read back from blocks of Q4_0 are whole multiples, -8 to 7, of one step for each 32 of them.
Stored again as F16, or in a finer type such as Q8_0, they stay close to those places:

    level     -8  -7  -6  -5  -4  -3  -2  -1   0   1   2   3 ...
    before   ──┴───┴─x─┴───┴x──┴───┴───┴──x┴─x─┴───┴──x┴───┴──    anywhere
    after    ──┴───┴───x───┴x──┴───┴───┴───x─┴x┴───┴───x───┴──    on the levels, nearly

Method: for each group of weights (`quants.codes.LAYOUTS` says how many share a scale), the largest
magnitude is taken to stand on each level in turn; that gives a step, and the distances of the other
weights from their nearest levels, in units of the gap they are in. The best step counts: chance
gives a mean distance of about 0.2, weights on the lattice have a few hundredths at most. Types with
mins are compared after the group's smallest weight is taken off. A tensor counts as found where
nearly all its groups are on a lattice.

Limits: only lattices coarser than the type that the file has now can be seen, and none that was
followed by a type about as coarse. Weights of a matrix of the built-in model, quantized by ggml to
any type from Q1_0 to Q6_K, are found again in F16, BF16 and Q8_0, and up to Q4_K in Q6_K; Q8_0 is
found in F16 but not in BF16, Q5_K not in Q6_K, Q4_0 not in Q5_K. Types with the same lattice (Q4_1
and Q4_K) cannot be told apart; finer lattices contain coarser ones, so the coarsest that fits is
reported (IQ1_S may be seen as Q2_K). Weights trained on a lattice (ternary models) look the same.
Source: our own; the lattices are those of ggml's blocks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..gguf import GGUFFile
from ..gguf.types import GGML_TYPES
from ..quants.codes import LAYOUTS
from .quant_error import as_rows
from .quant_model import FOR_ACTIVATIONS, ChosenRows, matrices

__all__ = ["LatticeEvidence", "find_lattice", "lattice_table"]

Array = np.ndarray
Lattice = tuple[tuple[float, ...], int, bool]  # levels, weights in a group, whether it has a min

ON_LATTICE = 0.1  # mean distance, in gaps; chance gives 0.15 and more
ENOUGH = 0.9  # share of groups that must be on a lattice
CLOSE = 0.005  # gaps: fits that differ by less are equally good
FEWEST_LEVELS = 3  # near the weights of a group: one spike among zeros says nothing


@dataclass(frozen=True)
class LatticeEvidence:
    """What speaks for an earlier quantization of some weights.

    types: those whose lattice the weights are on, joined by " or "; None where they are on none.
    share: of the groups that are on that lattice (of the best one tried, where types is None).
    distance: median over groups of the mean distance to the levels, in gaps; chance: about 0.2.
    n_groups: groups looked at.
    """

    types: str | None
    share: float
    distance: float
    n_groups: int


def _lattices() -> dict[Lattice, list[str]]:
    """Each lattice (levels, group, has mins) and the types that have it, coarsest first."""
    found: dict[Lattice, list[str]] = {}
    for name, layout in LAYOUTS.items():
        if name not in FOR_ACTIVATIONS:
            key = (layout.levels, layout.group, layout.has_mins)
            found.setdefault(key, []).append(name)
    ordered = sorted(found, key=lambda key: (len(key[0]), key[2], -key[1]))
    return {key: found[key] for key in ordered}


LATTICES = MappingProxyType(_lattices())


def find_lattice(x: Array, stored: str | None = None, max_groups: int = 128) -> LatticeEvidence:
    """Looks for the coarsest lattice of a ggml type that weights lie on.

    x: (..., n) floating, as read from the file. stored: the type that they are stored in now: only
        types with fewer bits per weight are tried. max_groups: groups looked at, evenly spread.

    Returns: LatticeEvidence.
    Raises: ParameterError for what are no weights, an unknown type, or max_groups below 1.
    """
    rows = as_rows(x)
    if stored is not None and stored not in GGML_TYPES:
        raise ParameterError(
            f"stored: no ggml type has this name; expected one of {', '.join(GGML_TYPES)}, "
            f"got {stored!r}; take it from gguf.tensors[name].type"
        )
    if not isinstance(max_groups, int | np.integer) or max_groups < 1:
        raise ParameterError(
            f"max_groups: no number of groups; expected 1 or more, got {max_groups!r}; give 128"
        )
    limit = np.inf if stored is None else GGML_TYPES[stored].bits_per_weight
    tried = []
    for (levels, size, has_mins), types in LATTICES.items():
        coarser = [t for t in types if GGML_TYPES[t].bits_per_weight < limit]
        if stored in types:
            continue  # its own lattice
        if coarser and rows.shape[1] % size == 0:
            groups = _groups(rows, size, max_groups)
            distances = _distances(groups, levels, has_mins)
            if distances.size and distances.size >= len(groups) / 2:
                tried.append(_evidence(" or ".join(coarser), distances))
    return _coarsest(tried)


def _evidence(types: str, distances: Array) -> LatticeEvidence:
    share = float((distances < ON_LATTICE).mean())
    return LatticeEvidence(types, share, float(np.median(distances)), distances.size)


def _coarsest(tried: list[LatticeEvidence]) -> LatticeEvidence:
    """The first of the lattices that fit, those that another one fits far better left out."""
    fitting = [evidence for evidence in tried if evidence.share >= ENOUGH]
    if fitting:
        best = min(evidence.distance for evidence in fitting)
        return next(e for e in fitting if e.distance <= 2 * best + CLOSE)
    if not tried:
        return LatticeEvidence(None, 0.0, float("nan"), 0)
    return replace(max(tried, key=lambda e: (e.share, -e.distance)), types=None)


def lattice_table(
    gguf: GGUFFile, tensors: Iterable[str] | None = None, max_groups: int = 128
) -> pd.DataFrame:
    """Looks for an earlier quantization in each matrix of a file.

    tensors: names; None: all matrices. max_groups: groups looked at in each tensor.
    Returns: DataFrame: name, type (now), found (types, or None), share, distance, n_groups.
    Raises: ParameterError for wrong names.
    """
    rows = []
    for name in matrices(gguf) if tensors is None else tensors:
        source = ChosenRows(gguf, name, max_groups)
        sample = np.concatenate([x for _, x in source.tiles()])
        evidence = find_lattice(sample, source.info.type, max_groups)
        found = (evidence.types, evidence.share, evidence.distance, evidence.n_groups)
        rows.append((name, source.info.type, *found))
    columns = ["name", "type", "found", "share", "distance", "n_groups"]
    return pd.DataFrame(rows, columns=columns)


def _groups(rows: Array, size: int, n: int) -> Array:
    """n groups of so many weights, evenly spread: (n, size) float64, without zero groups."""
    groups = rows.reshape(-1, size)
    chosen = np.linspace(0, len(groups) - 1, min(n, len(groups))).round().astype(np.int64)
    groups = groups[chosen].astype(np.float64)
    return groups[np.isfinite(groups).all(axis=1)]


def _distances(groups: Array, levels: tuple[float, ...], has_mins: bool) -> Array:
    """(G, n) -> one number for each group that says something: its mean distance to the levels."""
    if has_mins:
        groups = groups - groups.min(axis=1, keepdims=True)
    largest = np.abs(groups).argmax(axis=1)
    extreme = np.take_along_axis(groups, largest[:, None], axis=1)
    groups, extreme = groups[extreme[:, 0] != 0], extreme[extreme[:, 0] != 0]
    steps = np.array(levels)
    mirrored = np.array_equal(steps, -steps[::-1])
    best, fewest = np.full(len(groups), np.inf), min(FEWEST_LEVELS, len(steps))
    for anchor in steps[steps > 0] if mirrored else steps[steps != 0]:
        mean, n_used = _nearest(groups * (anchor / extreme), steps)
        best = np.minimum(best, np.where(n_used >= fewest, mean, np.inf))
    return best[np.isfinite(best)]


def _nearest(places: Array, levels: Array) -> tuple[Array, Array]:
    """(G, n) places on the axis of levels -> mean distance in gaps, and how many levels are near.

    A place beyond the last level counts as half a gap away.
    """
    above = np.clip(np.searchsorted(levels, places), 1, len(levels) - 1)
    low, high = levels[above - 1], levels[above]
    share = (places - low) / (high - low)
    distance = np.minimum(np.abs(np.minimum(share, 1 - share)), 0.5)
    near = np.sort(above - (share < 0.5), axis=1)
    return distance.mean(axis=1), 1 + np.count_nonzero(np.diff(near, axis=1), axis=1)
