"""The KV cache: keys and values of every layer at every position so far, as plain arrays.

    position     0   1   2  …            n_past            n_ctx
    k(layer)   ┌───┬───┬───┬────────────┬─────────────────┐
               │ K │ K │ K │   written  │ room, not shown │   each slot (K KV heads, D numbers)
               └───┴───┴───┴────────────┴─────────────────┘

    truncate(n)           forget the end          reuse(ids)  keep what another text begins with
    shift(keep, discard)  forget a piece after the first `keep` and move the rest to the front

Keys are stored after the rotation by their position, as llama.cpp stores them.
Sources: llama.cpp src/llama-kv-cache.cpp (one sequence; slot = position; `build_rope_shift`),
src/llama-kv-cache-iswa.cpp (`swa_full`), tools/main/main.cpp (`n_keep`, `n_discard`).
Left out: several sequences, quantized types.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import ContextFullError, ParameterError
from ..ops import cpu
from .config import ModelConfig
from .kv_slots import Slots, window_capacity, zeros_nbytes

__all__ = ["CACHE_TYPES", "KVCache"]

CACHE_TYPES = {"f16": "float16", "f32": "float32"}

Turn = Callable[[int, Any, int], Any]


class KVCache:
    """Keys and values of one sequence, in slots taken once for n_ctx positions.

    n_past: positions held; n_ctx: positions there is room for; swa_full: whether layers with a
    sliding window keep all positions; nbytes: of all slots, as allocated (on the CPU, the operating
    system gives the memory when a slot is first written); device: where they are.
    """

    def __init__(
        self,
        config: ModelConfig,
        n_ctx: int | None = None,
        type_k: str = "f16",
        type_v: str = "f16",
        ops: Any = cpu,
        swa_full: bool = True,
        turn: Turn | None = None,
        device: str = "cpu",
    ):
        """n_ctx: positions, by default what the model was trained for; type_k, type_v: a name of
        CACHE_TYPES; ops: the device's operations; swa_full: False lets layers with a sliding window
        keep only that; turn: (layer, keys, delta) -> the same keys `delta` positions further on;
        device: its name.

        Raises: ParameterError for other types or an n_ctx that does not fit into memory,
            DeviceMemoryError for one that does not fit into a GPU's.
        """
        self.n_ctx = _checked_n_ctx(config.n_ctx_train if n_ctx is None else n_ctx)
        self.type_k, self.type_v = _checked_type("type_k", type_k), _checked_type("type_v", type_v)
        self.swa_full = _checked_flag("swa_full", swa_full)
        self.device, self._ops, self._turn, self._ids = device, ops, turn, []
        types = (CACHE_TYPES[type_k], CACHE_TYPES[type_v])
        n_piece = None if swa_full else ops.TOKENS_AT_ONCE
        plans = [_slot_plan(config, layer, self.n_ctx, n_piece) for layer in range(config.n_layer)]
        self.nbytes = sum(
            zeros_nbytes((rows, *slot), dtype)
            for rows, *slots, _ in plans
            for slot, dtype in zip(slots, types, strict=True)
        )
        ops.demand_kv_memory(self.nbytes, self.n_ctx, device)
        try:
            self._layers = [
                Slots(ops.kv_zeros((rows, *k), types[0]), ops.kv_zeros((rows, *v), types[1]), n_swa)
                for rows, k, v, n_swa in plans
            ]
        except (MemoryError, ValueError, OverflowError):
            raise ParameterError(
                f"n_ctx: a cache for {self.n_ctx} positions does not fit into memory; expected "
                f"fewer, got {self.nbytes / 1e9:.1f} GB ({self.nbytes // self.n_ctx} bytes a "
                "position); pass a smaller n_ctx"
            ) from None

    def __repr__(self) -> str:
        n_window = sum(layer.capacity < self.n_ctx for layer in self._layers)
        kept = f" ({n_window} keep a window)" if n_window else ""
        return (
            f"KVCache({self.n_past} of {self.n_ctx} positions, {self.n_layer} layers{kept}, "
            f"k {self.type_k}, v {self.type_v}, {self.nbytes} bytes)"
        )

    @property
    def n_past(self) -> int:
        """Positions held."""
        return len(self._ids)

    @property
    def n_layer(self) -> int:
        """Layers of the model it belongs to."""
        return len(self._layers)

    @property
    def token_ids(self) -> np.ndarray:
        """(n_past,) int64: the token at each position."""
        return np.array(self._ids, np.int64)

    @property
    def slot_shapes(self) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
        """What one slot of each layer holds: (K, D) of k and (K, Dv) of v."""
        return tuple(layer.slot_shapes for layer in self._layers)

    @property
    def layer_nbytes(self) -> tuple[int, ...]:
        """Bytes of the slots of each layer."""
        return tuple(layer.nbytes for layer in self._layers)

    def first(self, layer: int) -> int:
        """The first position a layer still holds: 0, or more where it keeps only a window."""
        return self._layers[self._checked_layer(layer)].first

    def k(self, layer: int) -> Any:
        """Rotated keys of a layer, (n_past - first(layer), K, D): a view, writing changes them."""
        return self._layers[self._checked_layer(layer)].rows(0, self.n_past)[0]

    def v(self, layer: int) -> Any:
        """Values of a layer, (n_past - first(layer), K, Dv): a view, writing changes them."""
        return self._layers[self._checked_layer(layer)].rows(0, self.n_past)[1]

    def buffers(self, layer: int) -> tuple[Any, Any]:
        """All slots of a layer as allocated, used or not: k (n_rows, K, D) and v (n_rows, K, Dv).

        On a GPU the rows of a head lie together: `k.transpose(1, 0, 2)` is contiguous.
        """
        slots = self._layers[self._checked_layer(layer)]
        return slots.k, slots.v

    def truncate(self, n_past: int) -> None:
        """Forget all positions from n_past on.

        Raises: ParameterError if n_past is not from 0 to the positions held, or if a layer no
            longer has the window before it.
        """
        if not _is_integer(n_past) or not 0 <= n_past <= self.n_past:
            raise ParameterError(
                f"truncate: cannot keep {n_past!r} positions; expected from 0 to the "
                f"{self.n_past} held, got {n_past!r}; more come only from forward"
            )
        least = self._least_to_keep()
        if 0 < n_past < least:
            raise ParameterError(
                f"truncate: the sliding windows before position {n_past} are gone; expected 0 or "
                f"from {least} to {self.n_past}, got {n_past}; a cache with swa_full=True keeps all"
            )
        del self._ids[n_past:]
        if not n_past:
            for layer in self._layers:
                layer.first = 0

    def reset(self) -> None:
        """Forget everything; the slots stay allocated."""
        self.truncate(0)

    def common_prefix(self, token_ids: Any) -> int:
        """How many tokens at the start of another text are those held here.

        token_ids: (n,) integers. Raises: ParameterError if they are something else.
        """
        ids = _checked_ids(token_ids)
        n = min(len(ids), self.n_past)
        differs = np.flatnonzero(ids[:n] != self.token_ids[:n])
        return int(differs[0]) if differs.size else n

    def reuse(self, token_ids: Any) -> int:
        """Keep what a text shares with the one held, so that only its rest must go through.

            n = cache.reuse(ids);  logits = model.forward(ids[n:], cache)

        token_ids: (n,) integers of the whole text. Returns: the positions kept, at most n - 1, so
        that there is a token to forward; 0 where sliding windows no longer reach back that far.
        Raises: ParameterError.
        """
        n_kept = max(0, min(self.common_prefix(token_ids), len(token_ids) - 1))
        n_kept = n_kept if n_kept >= self._least_to_keep() else 0
        self.truncate(n_kept)
        return n_kept

    def shift(self, n_keep: int = 0, n_discard: int | None = None) -> None:
        """Make room: forget n_discard positions after the first n_keep, move the rest down.

            before   keep keep  x    x    x   a  b  c        positions 0 … 7
            after    keep keep  a    b    c                  a, b, c rotated to 2, 3, 4

        n_discard: by default half of those after n_keep. Keys are turned to their new positions by
        the model's own rotation; values, and what a, b, c once saw of x, stay in them: as in
        llama.cpp, this is not what the shorter text alone would give.
        Raises: ParameterError for positions it does not hold, or if layers keep only a window.
        Source: llama.cpp src/llama-kv-cache.cpp, `seq_rm`, `seq_add`, `build_rope_shift`.
        """
        self._demand_can_shift(n_keep, n_discard)
        n_discard = (self.n_past - n_keep) // 2 if n_discard is None else int(n_discard)
        start, stop = int(n_keep) + n_discard, self.n_past
        with self._ops.on_device(self.device):
            for index, layer in enumerate(self._layers):
                layer.move_down(
                    start,
                    stop,
                    n_discard,
                    lambda k, i=index: self._turn(i, k, -n_discard, self.n_ctx),
                )
        del self._ids[n_keep:start]

    def demand_model(self, config: ModelConfig) -> None:
        """Raises: ParameterError if the cache was made for a model of other sizes."""
        slots = tuple(config.kv_slots(layer)[:2] for layer in range(config.n_layer))
        if slots != self.slot_shapes:
            pairs = list(zip(slots, self.slot_shapes, strict=False))
            layer = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
            raise ParameterError(
                f"cache: made for another model; expected {config.n_layer} layers with slots "
                f"{pairs[layer][0]}, got {self.n_layer} layers with slots {pairs[layer][1]} (of "
                f"layer {layer}); use model.new_cache()"
            )

    @contextmanager
    def appending(self, token_ids: Any) -> Iterator[None]:
        """While the forward pass writes tokens: they are held after it, or nothing has changed.

        token_ids: (T,) integers. Raises: ContextFullError if they do not fit.
        """
        n_tokens = len(token_ids)
        if self.n_past + n_tokens > self.n_ctx:
            raise ContextFullError(
                f"forward: the tokens do not fit into the context; expected at most "
                f"{self.n_ctx - self.n_past} (n_ctx {self.n_ctx} - n_past {self.n_past}), got "
                f"n_tokens {n_tokens}; shorten the prompt, truncate or shift the cache, or make "
                "one with a larger n_ctx"
            )
        moving = [layer for layer in self._layers if layer.would_move(self.n_past, n_tokens)]
        saved = [layer.saved(self.n_past) for layer in moving]
        try:
            yield
        except BaseException:
            for layer, copies in zip(moving, saved, strict=True):
                layer.restore(copies)
            raise
        self._ids.extend(map(int, token_ids))

    def write(self, layer: int, position: int, k: Any, v: Any) -> tuple[Any, Any]:
        """Put keys and values (T, K, D) at the positions from `position` on; for the forward pass.

        Returns: views of k and v of the layer up to and with them, (S, K, D). A layer with a
        sliding window gives only what the first of them may see: the last row is always that of
        the last token.
        """
        return self._layers[layer].write(position, k, v, self._ops.put_rows)

    def _least_to_keep(self) -> int:
        """Below this many positions (but for 0), some window would not be whole."""
        return max((s.first + s.n_swa - 1 for s in self._layers if s.first), default=0)

    def _demand_can_shift(self, n_keep: Any, n_discard: Any) -> None:
        for name, value in (("n_keep", n_keep), ("n_discard", n_discard)):
            if not (_is_integer(value) and value >= 0) and (name, value) != ("n_discard", None):
                raise ParameterError(
                    f"shift: {name} is no number of positions; expected 0 or more, got {value!r}"
                )
        if n_keep + (n_discard or 0) > self.n_past:
            raise ParameterError(
                f"shift: more positions than the cache holds; expected n_keep + n_discard up to "
                f"{self.n_past}, got {n_keep} + {n_discard or 0}"
            )
        if any(layer.capacity < self.n_ctx for layer in self._layers):
            raise ParameterError(
                "shift: layers keep only their sliding window; expected a cache with all "
                "positions, got one with swa_full=False; make it with swa_full=True"
            )
        if self._turn is None:
            raise ParameterError(
                "shift: the cache knows no model to turn keys with; expected one made by "
                "model.new_cache(), got a bare KVCache"
            )

    def _checked_layer(self, layer: int) -> int:
        if not _is_integer(layer) or not 0 <= layer < self.n_layer:
            raise ParameterError(
                f"layer: no layer {layer!r} in this cache; expected from 0 to {self.n_layer - 1}, "
                f"got {layer!r}"
            )
        return int(layer)


def _slot_plan(config: ModelConfig, layer: int, n_ctx: int, n_piece: int | None) -> tuple:
    """Rows of a layer, the shapes of a row of k and of v, and the window (0: none).

    n_piece: tokens that are written at once, where layers keep only their window, else None.
    """
    k, v, n_swa = config.kv_slots(layer)
    rows = window_capacity(n_swa, n_ctx, n_piece) if n_swa and n_piece else n_ctx
    return rows, k, v, n_swa


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_n_ctx(n_ctx: Any) -> int:
    if not _is_integer(n_ctx) or n_ctx <= 0:
        raise ParameterError(
            f"n_ctx: not a number of positions; expected an integer of at least 1, got {n_ctx!r}"
        )
    return int(n_ctx)


def _checked_type(argument: str, name: Any) -> str:
    if not isinstance(name, str) or name not in CACHE_TYPES:
        raise ParameterError(
            f"{argument}: no such cache type; expected one of {', '.join(CACHE_TYPES)}, "
            f"got {name!r}"
        )
    return name


def _checked_flag(argument: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ParameterError(f"{argument}: not a flag; expected True or False, got {value!r}")
    return bool(value)


def _checked_ids(token_ids: Any) -> np.ndarray:
    try:
        ids = np.asarray(token_ids)
    except (ValueError, TypeError, OverflowError):  # ragged lists, integers beyond 64 bits
        ids = np.empty((0, 0))
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ParameterError(
            f"token_ids: not token ids; expected a one-dimensional sequence of integers, got "
            f"{token_ids!r:.80}"
        )
    return ids.astype(np.int64)
