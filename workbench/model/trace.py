"""Look at activations inside the forward pass, and change them, by llama.cpp's names.

    trace = ActivationTrace(["l_out-*", "kq_soft_max-3"])    which to keep: names or globs
    trace.nbytes(model, n_tokens=64)                         what that takes, before it is run
    trace.edit("l_out-4", lambda x: x * 0.5)                 change one on its way
    trace.ablate_heads(2, [0, 3])                            silence heads
    trace.patch("l_out-3", other_trace, positions=[5])       put in what another model had there
    model.forward(token_ids, cache, trace=trace)
    trace["l_out-3"]

`taps.py` lists the names. Long prompts pass in pieces of 512 tokens; what is kept is put together.
Source: our own; the names are llama.cpp's.
Left out: the changes themselves, which `edits.py` makes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import ParameterError
from .edits import Edit, Prepared, change_rows, edit_with, head_ablation, patch_from, prepare
from .taps import ROUTING, Tap, advice, demand_known, find_taps, matching, no_match, taps_of

__all__ = ["NO_TRACE", "ActivationTrace"]

DTYPES = ("float32", "float16", "float64")
PLACES = ("host", "device")
MAX_BYTES = 4 << 30


class ActivationTrace:
    """Copies of the activations whose names match, from the latest forward pass it was given to.

    trace["l_out-3"] is an array whose first axis are the tokens of the call, but (H, T, S) for kq
    and kq_soft_max; S counts from position 0. kq is before the scale and the causal mask, -inf
    where it was not computed (outside a window, or in a later piece of a long prompt).
    Expert ids are integers. What was edited is kept as edited.
    """

    def __init__(
        self,
        patterns: Iterable[str] = (),
        dtype: str = "float32",
        to: str = "host",
        max_bytes: int | None = MAX_BYTES,
    ):
        """patterns: names or globs with * ? [ ], such as "Qcur-0", "l_out-*", "result_output".

        dtype: of what is kept, "float32", "float16" or "float64"; to: "host" for NumPy arrays,
        "device" to leave them where the model computes; max_bytes: refuse to keep more than this,
        None: no limit.
        Raises: ParameterError for a pattern that no model's names can match, or another dtype.
        """
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        for pattern in patterns:
            demand_known(pattern)
        self.patterns: tuple[str, ...] = tuple(patterns)
        self.dtype, self.to = _one_of("dtype", dtype, DTYPES), _one_of("to", to, PLACES)
        self.max_bytes = max_bytes
        self._edits: list[Edit] = []
        self._captured: dict[str, Any] = {}
        self._forget_call()

    def __repr__(self) -> str:
        n_bytes = sum(array.nbytes for array in self._captured.values())
        changes = f", {len(self._edits)} edits" if self._edits else ""
        captured = f"{len(self._captured)} captured, {n_bytes} bytes"
        return f"ActivationTrace({list(self.patterns)}, {captured}{changes})"

    def __getitem__(self, name: str) -> Any:
        if name not in self._captured:
            raise ParameterError(
                f"trace: {name!r} was not captured; expected one of {len(self._captured)} names, "
                f"got {name!r}; {advice(str(name), self.names)}"
            )
        return self._captured[name]

    def __contains__(self, name: object) -> bool:
        return name in self._captured

    def __iter__(self) -> Iterator[str]:
        return iter(self._captured)

    def __len__(self) -> int:
        return len(self._captured)

    @property
    def names(self) -> list[str]:
        """Names captured, in the order of the graph."""
        return list(self._captured)

    @property
    def n_past(self) -> int:
        """Position of the first token of the latest call."""
        return self._n_past

    def sizes(
        self, model: Any, n_tokens: int, n_past: int = 0, last_only: bool = False
    ) -> dict[str, int]:
        """Bytes that each activation will take, by name, before anything runs.

        model: from `load_model`; n_tokens: of the call; n_past: positions before it; last_only: as
        for `forward`. Raises: ParameterError for a pattern that matches nothing in the model.
        """
        return self._sizes(taps_of(model), model, n_tokens, n_past + n_tokens, last_only)

    def _sizes(
        self, taps: dict[str, Tap], model: Any, n_tokens: int, n_seen: int, last_only: bool
    ) -> dict[str, int]:
        names = self._matches(self.patterns, taps, model)
        item = np.dtype(self.dtype).itemsize
        return {
            name: (np.dtype(np.int64).itemsize if taps[name].stem == ROUTING else item)
            * taps[name].n_elements(1 if last_only and taps[name].of_last else n_tokens, n_seen)
            for name in names
        }

    def nbytes(self, model: Any, n_tokens: int, n_past: int = 0, last_only: bool = False) -> int:
        """Bytes that all it keeps will take, before anything runs; arguments as for `sizes`."""
        return sum(self.sizes(model, n_tokens, n_past, last_only).values())

    def edit(
        self, pattern: str, fn: Callable[[Any], Any], positions: Any = None
    ) -> "ActivationTrace":
        """Change activations on their way.

        pattern: name or glob. fn: gets a copy of the array (rows are tokens) on the model's device
        and returns one of the same shape and dtype, or changes it in place and returns None; called
        once for each piece of 512 tokens. positions: an integer or several (negative: from the end
        of the call), to give fn only their rows, in rising order.
        Returns: the trace. Raises: ParameterError; what fn raises is reported with the tap's name.

        >>> trace.edit("l_out-4", lambda x: 0 * x, positions=-1)
        """
        return self._add(edit_with(pattern, fn, positions))

    def ablate_heads(self, layer: int, heads: Any, to: Any = "zero") -> "ActivationTrace":
        """Silence attention heads: replace their outputs before the matrix attn_output.

        layer, heads: integers from 0. to: "zero"; "mean": of each head over the tokens (of each
        piece of 512); or numbers (n_heads, Dv). Returns: the trace. Raises: ParameterError.
        """
        return self._add(head_ablation(layer, heads, to))

    def patch(self, pattern: str, source: Any, positions: Any = None) -> "ActivationTrace":
        """Put activations recorded elsewhere in the place of the model's own.

        pattern: name or glob. source: an ActivationTrace that captured them, such as another
        model's on the same tokens, or an array: a row for each of the positions, else row p for
        position p. positions: as for `edit`. Returns: the trace. Raises: ParameterError.

        >>> quantized.forward(ids, cache, trace=ActivationTrace().patch("l_out-3", f16_trace))
        """
        demand_known(pattern)
        if isinstance(source, Mapping | ActivationTrace):
            names = matching(pattern, list(source))
            if not names:
                raise ParameterError(no_match(pattern, list(source), "the source"))
            first = source.n_past if isinstance(source, ActivationTrace) else 0
            found = {name: (_on_host(source[name]), first) for name in names}
        elif hasattr(source, "shape"):
            found = {"": (_on_host(source), 0)}
        else:
            raise ParameterError(
                f"patch {pattern!r}: nothing to take activations from; expected an ActivationTrace "
                f"or an array, got {source!r:.80}"
            )
        return self._add(patch_from(pattern, found, positions))

    def begin(self, network: Any, n_tokens: int, n_past: int, last_only: bool = False) -> None:
        """Forget what was captured and make ready for a call; for the forward pass.

        Raises: ParameterError for a pattern that matches nothing in the model, positions outside
            of the call, or more bytes than allowed.
        """
        taps = taps_of(network)
        sizes = self._sizes(taps, network, n_tokens, n_past + n_tokens, last_only)
        if self.max_bytes is not None and sum(sizes.values()) > self.max_bytes:
            largest = max(sizes, key=sizes.get)
            raise ParameterError(
                f"trace: takes too much memory; expected up to max_bytes {self.max_bytes}, got "
                f"{sum(sizes.values())} for {len(sizes)} activations of {n_tokens} tokens (the "
                f"largest, {largest}, takes {sizes[largest]}); name fewer, take fewer tokens, "
                "dtype='float16', or a larger max_bytes"
            )
        changes: dict[str, list[Prepared]] = {}
        for edit in self._edits:
            for name in find_taps(edit.pattern, taps, network):
                n_rows = 1 if last_only and taps[name].of_last else n_tokens
                ready = prepare(edit, taps[name], network, n_past, n_tokens, n_rows)
                changes.setdefault(name, []).append(ready)
        self._forget_call()
        self._taps, self._network, self._wanted = taps, network, frozenset(sizes)
        self._n_tokens, self._n_past, self._last_only = n_tokens, n_past, last_only
        self._changes, self._captured = changes, {}

    def piece(self, start: int, n_tokens: int) -> None:
        """Say which tokens of the call come next; for the forward pass."""
        self._piece = (start, n_tokens)

    def wants(self, name: str, layer: int | None = None) -> bool:
        """Whether an activation is to be captured or changed."""
        full_name = _full_name(name, layer)
        return full_name in self._wanted or full_name in self._changes

    def edits(self, name: str, layer: int | None = None) -> bool:
        """Whether an activation is to be changed."""
        return _full_name(name, layer) in self._changes

    def visit(self, name: str, layer: int | None, x: Any, ops: Any) -> Any:
        """Change an activation and keep a copy of it if that is wanted; ops: of its device.

        Returns: the activation that the forward pass goes on with.
        """
        full_name = _full_name(name, layer)
        tap = self._taps.get(full_name)
        for change in self._changes.get(full_name, ()):
            first = self._n_past + sum(self._piece) - x.shape[tap.token_axis]
            x = change_rows(change, tap, x, first, self._network)
        if full_name in self._wanted:
            self._keep(tap, x, ops)
        return x

    def _keep(self, tap: Tap, x: Any, ops: Any) -> None:
        start, n_piece = self._piece
        axis, n_total = tap.token_axis, self._n_tokens
        if self._last_only and tap.of_last:
            start, n_piece, n_total = 0, 1, 1
        assert x.shape[axis] == n_piece, f"{tap.name}: not a row for each token"
        x = x if self.to == "device" else ops.to_numpy(x)
        if tap.name not in self._captured:
            shape = [*x.shape[:axis], n_total, *x.shape[axis + 1 :]]
            if tap.is_scores:
                shape[2] = self._n_past + self._n_tokens
            self._captured[tap.name] = self._room(tap, tuple(shape), x, ops)
        kept = self._captured[tap.name][(slice(None),) * axis + (slice(start, start + n_piece),)]
        if tap.is_scores:  # its last column is the piece's last token
            stop = self._n_past + start + n_piece
            kept = kept[:, :, stop - x.shape[2] : stop]
        _demand_fits(tap.name, x, kept.dtype)
        kept[...] = x

    def _room(self, tap: Tap, shape: tuple[int, ...], x: Any, ops: Any) -> Any:
        """An array for all pieces, holding what scores are where they are not computed."""
        dtype = self.dtype if x.dtype.kind == "f" else x.dtype.name
        room = ops.zeros(shape, dtype) if self.to == "device" else np.zeros(shape, dtype)
        if tap.stem == "kq":
            room[...] = -np.inf
        return room

    def _matches(self, patterns: Iterable[str], taps: dict[str, Tap], model: Any) -> list[str]:
        """Names that some pattern matches, in the order of the graph."""
        found = {name for pattern in patterns for name in find_taps(pattern, taps, model)}
        return [name for name in taps if name in found]

    def _add(self, edit: Edit) -> "ActivationTrace":
        demand_known(edit.pattern)
        self._edits.append(edit)
        return self

    def _forget_call(self) -> None:
        self._taps: dict[str, Tap] = {}
        self._wanted: frozenset[str] = frozenset()
        self._changes: dict[str, list[Prepared]] = {}
        self._network: Any = None
        self._piece = (0, 0)
        self._n_tokens, self._n_past, self._last_only = 0, 0, False


class _NoTrace:
    """What the forward pass holds when nobody looks."""

    def piece(self, start: int, n_tokens: int) -> None:
        pass

    def wants(self, name: str, layer: int | None = None) -> bool:
        return False

    def edits(self, name: str, layer: int | None = None) -> bool:
        return False

    def visit(self, name: str, layer: int | None, x: Any, ops: Any) -> Any:
        return x


NO_TRACE = _NoTrace()


def _full_name(name: str, layer: int | None) -> str:
    return name if layer is None else f"{name}-{layer}"


def _one_of(argument: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ParameterError(
            f"trace: no such {argument}; expected one of {', '.join(choices)}, got {value!r}"
        )
    return value


def _on_host(array: Any) -> np.ndarray:
    return array.get() if hasattr(array, "get") else np.asarray(array)


def _demand_fits(name: str, x: Any, dtype: Any) -> None:
    """Raises: ParameterError where finite numbers are too large for float16."""
    if dtype == np.float16 and bool((np.isfinite(x) & (abs(x) > np.finfo(np.float16).max)).any()):
        raise ParameterError(
            f"trace: {name} does not fit into float16; expected numbers up to 65504, got "
            f"{float(abs(x[np.isfinite(x)]).max()):.6g}; capture it as float32"
        )
