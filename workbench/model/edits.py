"""Changing activations on their way through the model: own functions, silenced heads, patches.

    tap "l_out-3" ── x ──► rows of the chosen positions ──► fn ──► back into x ──► layer 4

An edit says which taps and positions; made ready for a call (`prepare`), it is a change: a function
from those rows to new ones. What it may not do is change shape or dtype.
Sources: Meng et al., arXiv:2202.05262 (causal tracing); Michel et al., arXiv:1905.10650 (heads).
Left out: capturing, and the moments at which edits are asked for, which `trace.py` knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError
from .taps import ROUTING, Tap

__all__ = ["Change", "Edit", "change_rows", "edit_with", "head_ablation", "patch_from", "prepare"]

Array = Any  # of the device
Change = Callable[[Array, np.ndarray], Array]  # (rows, their positions) -> new rows or None


@dataclass(frozen=True, eq=False)
class Edit:
    """One change asked for.

    what: how messages call it; pattern: taps; positions: integers, or None for all of the call
    prepare: (tap, positions it will be used at (n,), as given, network) -> Change
    """

    what: str
    pattern: str
    positions: tuple[int, ...] | None
    prepare: Callable[[Tap, np.ndarray, Any], Change]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An edit of one tap, ready for one call; positions: (n,), or None for all."""

    place: str
    positions: np.ndarray | None
    change: Change


def edit_with(pattern: str, fn: Callable[[Array], Array | None], positions: Any = None) -> Edit:
    """The edit by a function of a user. Raises: ParameterError if it cannot be called."""
    if not callable(fn):
        raise ParameterError(
            f"edit {pattern!r}: not a function; expected fn(array) -> array or None, got {fn!r:.80}"
        )
    return Edit(
        f"edit {pattern!r}",
        pattern,
        _checked_positions(f"edit {pattern!r}", positions),
        lambda tap, at, network: lambda rows, row_positions: fn(rows),
    )


def head_ablation(layer: int, heads: Any, to: Any = "zero") -> Edit:
    """The edit that puts zeros, their mean over tokens, or given numbers in heads' outputs.

    to: "zero", "mean", or (n_heads, Dv) numbers. Raises: ParameterError.
    """
    place = f"ablate_heads({layer!r}, {heads!r})"
    chosen = _integers(heads)
    if chosen is None or not chosen or _integers(layer) is None:
        raise ParameterError(
            f"{place}: not a layer and its heads; expected integers from 0, such as "
            "ablate_heads(2, [0, 3])"
        )
    if isinstance(to, str) and to not in ("zero", "mean"):
        raise ParameterError(f"{place}: expected to='zero', 'mean' or numbers, got {to!r}")

    def prepare(tap: Tap, at: np.ndarray, network: Any) -> Change:
        n_head = network.config.of_layer(int(layer)).n_head
        bad = [head for head in chosen if not 0 <= head < n_head]
        if bad:
            raise ParameterError(f"{place}: no head {bad[0]}; expected from 0 to {n_head - 1}")

        def change(rows: Array, positions: np.ndarray) -> None:
            outputs = rows.reshape(len(rows), n_head, -1)  # (T, H, Dv), a view of the copy
            for i, head in enumerate(chosen):
                outputs[:, head] = _head_value(outputs[:, head], to, i, network.ops)

        return change

    return Edit(place, f"kqv_out-{layer}", None, prepare)


def patch_from(pattern: str, sources: dict[str, tuple[Any, int]], positions: Any = None) -> Edit:
    """The edit that puts activations recorded elsewhere in the place of the model's own.

    sources: tap name -> (array, position of its first row).
    """
    place = f"patch {pattern!r}"

    def prepare(tap: Tap, at: np.ndarray, network: Any) -> Change:
        array, first = sources.get(tap.name) or sources.get("") or _lacks(place, tap, sources)
        rows = _source_rows(place, tap, array, first, at)
        row_of = dict(zip(at.tolist(), rows.tolist(), strict=True))

        def change(x: Array, row_positions: np.ndarray) -> Array:
            chosen = [row_of[position] for position in row_positions.tolist()]
            return network.ops.asarray(np.take(array, chosen, tap.token_axis).astype(x.dtype))

        return change

    return Edit(place, pattern, _checked_positions(place, positions), prepare)


def prepare(edit: Edit, tap: Tap, network: Any, n_past: int, n_tokens: int, n_rows: int):
    """Make an edit ready for a call of n_tokens after n_past, of which the tap sees n_rows.

    Raises: ParameterError for positions that are not in the call.
    """
    stop = n_past + n_tokens
    here = np.arange(stop - n_rows, stop)
    if edit.positions is None:
        return Prepared(f"{edit.what} at {tap.name}", None, edit.prepare(tap, here, network))
    wanted = np.array([p + stop if p < 0 else p for p in edit.positions])
    bad = np.setdiff1d(wanted, here)
    if bad.size:
        raise ParameterError(
            f"{edit.what}: position {bad[0]} is not among those that {tap.name} has in this call; "
            f"expected from {here[0]} to {stop - 1}, got {edit.positions!r:.80}"
        )
    return Prepared(f"{edit.what} at {tap.name}", wanted, edit.prepare(tap, wanted, network))


def change_rows(prepared: Prepared, tap: Tap, x: Array, first: int, network: Any) -> Array:
    """x with an edit done; first: position of its first row.

    Returns: a new array, or x where no position of it is concerned.
    Raises: ParameterError for an edit that fails or returns something else than it was given.
    """
    axis = tap.token_axis
    here = np.arange(first, first + x.shape[axis])
    if prepared.positions is not None:
        here = here[np.isin(here, prepared.positions)]
        if not here.size:
            return x
    rows = (slice(None),) * axis + (network.ops.asarray(here - first),)
    given = x[rows]  # integer indices: a copy, which an edit may change in place
    shape, dtype = given.shape, given.dtype
    try:
        result = prepared.change(given, here)
    except Exception as error:
        raise ParameterError(
            f"{prepared.place}: the function failed; expected an array or None, got "
            f"{type(error).__name__}: {error}"
        ) from error
    result = given if result is None else result
    if not isinstance(result, type(x)) or (result.shape, result.dtype) != (shape, dtype):
        got = f"{result.dtype} {result.shape}" if hasattr(result, "shape") else f"{result!r:.80}"
        raise ParameterError(
            f"{prepared.place}: not the array it was given; expected {dtype} {shape}, got {got}; "
            "return one of the same shape and dtype, or change it in place and return None"
        )
    if tap.stem == ROUTING:
        _demand_experts(prepared.place, result, network.config.n_expert)
    out = x.copy()
    out[rows] = result
    return out


def _head_value(output: Array, to: Any, index: int, ops: Any) -> Array:
    if isinstance(to, str):
        return 0.0 if to == "zero" else output.mean(axis=0)
    return ops.asarray(np.asarray(to, np.float32)[index])


def _source_rows(place: str, tap: Tap, array: Any, first: int, at: np.ndarray) -> np.ndarray:
    """Which row of a source belongs to each position: one each in order, else by position."""
    axis = tap.token_axis
    shape = array.shape[:axis] + array.shape[axis + 1 :]
    if array.ndim <= axis or shape[: len(tap.shape)] != tap.shape:
        raise ParameterError(
            f"{place}: the source does not fit {tap.name}; expected {tap.shape} numbers a token, "
            f"got an array of shape {array.shape}"
        )
    n_rows = array.shape[axis]
    if first == 0 and n_rows == len(at):
        return np.arange(n_rows)
    rows = at - first
    if rows.min() < 0 or rows.max() >= n_rows:
        raise ParameterError(
            f"{place}: the source lacks a row for some position; expected positions {at.min()} to "
            f"{at.max()}, got {first} to {first + n_rows - 1}; record it on the same tokens"
        )
    return rows


def _lacks(place: str, tap: Tap, sources: dict[str, Any]) -> None:
    raise ParameterError(
        f"{place}: the source did not capture {tap.name}; expected it among its {len(sources)} "
        f"names, got {', '.join(sources)[:80]}"
    )


def _demand_experts(place: str, ids: Array, n_expert: int) -> None:
    if ids.size and not (0 <= int(ids.min()) and int(ids.max()) < n_expert):
        raise ParameterError(
            f"{place}: no such expert; expected ids from 0 to {n_expert - 1}, got from "
            f"{int(ids.min())} to {int(ids.max())}"
        )


def _checked_positions(place: str, positions: Any) -> tuple[int, ...] | None:
    if positions is None:
        return None
    chosen = _integers(positions)
    if not chosen:
        raise ParameterError(
            f"{place}: not positions; expected an integer or a sequence of them (negative: from "
            f"the end of the call), got {positions!r:.80}"
        )
    return chosen


def _integers(values: Any) -> tuple[int, ...] | None:
    """An integer or a sequence of them as a tuple, None for anything else."""
    if isinstance(values, int | np.integer):
        values = [values]
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray):
        return None
    whole = [v for v in values if isinstance(v, int | np.integer) and not isinstance(v, bool)]
    return tuple(map(int, whole)) if len(whole) == len(values) else None
