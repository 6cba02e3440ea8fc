"""The KV cache: keys and values of every layer at every position so far, as plain arrays.

    position     0   1   2  …            n_past            n_ctx
    k(layer)   ┌───┬───┬───┬────────────┬─────────────────┐
               │ K │ K │ K │   written  │ room, not shown │   each slot (K KV heads, D numbers)
               └───┴───┴───┴────────────┴─────────────────┘

    truncate(n)           forget the end          reuse(ids)  keep what another text begins with
    shift(keep, discard)  forget a piece after the first `keep` and move the rest to the front
    fork()                another cache that goes on from here

Keys are stored after the rotation by their position, as llama.cpp stores them; `k` turns them back
if asked. Types of less than 16 bits (`kv_types.py`) are stored as blocks and shown as the numbers
that those stand for.
Sources: llama.cpp src/llama-kv-cache.cpp (one sequence; slot = position; `build_rope_shift`),
src/llama-kv-cache-iswa.cpp (`swa_full`), tools/main/main.cpp (`n_keep`, `n_discard`).
Left out: several sequences.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..ops import cpu
from .config import ModelConfig
from .kv_bytes import CacheBytes, predict_cache_bytes
from .kv_checks import demand_can_shift, demand_room, is_integer
from .kv_file import save_cache
from .kv_match import PrefixMatch, checked_ids, common_prefix, explain_match
from .kv_slots import SlotRow, new_slots
from .kv_types import one_name, rotation_lengths, with_hadamard

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of one sequence, in slots taken once for n_ctx positions.

    n_past: positions held; n_ctx: positions there is room for; type_k, type_v: how keys and values
    are stored, a name, or a tuple of one for each layer where they differ; swa_full: whether layers
    with a sliding window keep all positions; nbytes: of all slots, as allocated (on the CPU, the
    operating system gives the memory when a slot is first written); device: where they are.
    """

    def __init__(
        self,
        config: ModelConfig,
        n_ctx: int | None = None,
        type_k: Any = "f16",
        type_v: Any = "f16",
        ops: Any = cpu,
        swa_full: bool = True,
        origin: Any = None,
        device: str = "cpu",
        rotate: bool | None = None,
    ):
        """n_ctx: positions, by default what the model was trained for; type_k, type_v: a name of
        CACHE_TYPES, or one for each layer; ops: the device's operations; swa_full: False lets
        layers with a sliding window keep only that; origin: the model as a `CacheOrigin`; device:
        its name; rotate: True or False for a Hadamard rotation of heads before they are stored,
        None for one where llama.cpp does it: quantized types, heads of a multiple of 64.

        Raises: ParameterError for other types or an n_ctx that does not fit into memory,
            DeviceMemoryError for one that does not fit into a GPU's.
        """
        plan = predict_cache_bytes(config, n_ctx, type_k, type_v, swa_full, ops.TOKENS_AT_ONCE)
        layers = plan.layers
        self.n_ctx, self.swa_full, self.device = plan.n_ctx, bool(swa_full), device
        self.type_k = one_name([layer.type_k for layer in layers])
        self.type_v = one_name([layer.type_v for layer in layers])
        self._rotations = rotation_lengths(
            rotate,
            [(layer.type_k, layer.k_shape[1]) for layer in layers],
            [(layer.type_v, layer.v_shape[1]) for layer in layers],
        )
        self.rotate = rotate
        self._plan, self._ops, self._origin, self._ids = plan, ops, origin, []
        ops.demand_kv_memory(plan.predicted, self.n_ctx, device)
        try:
            self._layers = [new_slots(ops, layer) for layer in layers]
        except (MemoryError, ValueError, OverflowError):
            raise ParameterError(
                f"n_ctx: a cache for {self.n_ctx} positions does not fit into memory; expected "
                f"fewer, got {plan.predicted / 1e9:.1f} GB ({plan.predicted // self.n_ctx} bytes a "
                "position); pass a smaller n_ctx"
            ) from None

    def __repr__(self) -> str:
        n_window = sum(layer.capacity < self.n_ctx for layer in self._layers)
        kept = f" ({n_window} keep a window)" if n_window else ""
        types = (self.type_k, self.type_v)
        names = [t if isinstance(t, str) else "/".join(dict.fromkeys(t)) for t in types]
        turned = ", rotated" if any(map(any, self._rotations)) else ""
        return (
            f"KVCache({self.n_past} of {self.n_ctx} positions, {self.n_layer} layers{kept}, "
            f"k {names[0]}, v {names[1]}{turned}, {self.nbytes} bytes)"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self._plan.predicted

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
    def positions(self) -> np.ndarray:
        """(n_past,) int64: the positions held, from 0 on."""
        return np.arange(self.n_past)

    @property
    def seq_ids(self) -> np.ndarray:
        """(n_past,) int64: the sequence of each position; 0, since a cache holds one."""
        return np.zeros(self.n_past, np.int64)

    @property
    def slot_shapes(self) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
        """What one slot of each layer holds: (K, D) of k and (K, Dv) of v."""
        return tuple(layer.slot_shapes for layer in self._layers)

    @property
    def layer_nbytes(self) -> tuple[int, ...]:
        """Bytes of the slots of each layer."""
        return tuple(layer.nbytes for layer in self._layers)

    @property
    def rotations(self) -> tuple[tuple[int, int], ...]:
        """How many numbers of keys and of values are rotated together in each layer, 0 for none."""
        return self._rotations

    def bytes(self) -> CacheBytes:
        """What it takes, by the formula of `kv_bytes.py` and as allocated."""
        return CacheBytes(self.n_ctx, self._plan.layers, sum(self.layer_nbytes))

    def slots(self, layer: int) -> tuple[SlotRow, ...]:
        """The slots of a layer that are in use, in the order of memory."""
        first = self.first(layer)
        held = enumerate(self._ids[first:])
        return tuple(SlotRow(slot, first + slot, 0, token_id) for slot, token_id in held)

    def first(self, layer: int) -> int:
        """The first position a layer still holds: 0, or more where it keeps only a window."""
        return self._layers[self._checked_layer(layer)].first

    def k(self, layer: int, rotated: bool = True) -> Any:
        """Keys of a layer, (n_past - first(layer), K, D).

        rotated: as the position has turned them, which is how they are stored; False turns them
        back to what they were before RoPE, float32.
        Returns: a view of float16 or float32 numbers where those are stored, so that writing
        changes them; else the numbers that are meant, a float32 array that cannot be written.
        """
        layer = self._checked_layer(layer)
        rows = self._layers[layer].rows(0, self.n_past)[0]
        turns_back = not rotated and self._demanded_origin("k").rotates(layer)
        n = self._rotations[layer][0]
        if rotated and not n and not self._plan.layers[layer].type_k.is_packed:
            return rows
        keys = self._numbers(rows, n)
        if turns_back:
            keys = self._origin.unrotated(layer, keys, self.first(layer), self.n_ctx)
        return _read_only(keys)

    def v(self, layer: int) -> Any:
        """Values of a layer, (n_past - first(layer), K, Dv): as `k`."""
        layer = self._checked_layer(layer)
        rows, n = self._layers[layer].rows(0, self.n_past)[1], self._rotations[layer][1]
        if not n and not self._plan.layers[layer].type_v.is_packed:
            return rows
        return _read_only(self._numbers(rows, n))

    def raw_k(self, layer: int) -> Any:
        """Keys of a layer as stored, blocks or numbers as bytes: (n_past - first, K, bytes) uint8.

        A view: writing changes them."""
        return _as_bytes(self._layers[self._checked_layer(layer)].rows(0, self.n_past)[0])

    def raw_v(self, layer: int) -> Any:
        """Values of a layer as stored: as `raw_k`."""
        return _as_bytes(self._layers[self._checked_layer(layer)].rows(0, self.n_past)[1])

    def buffers(self, layer: int) -> tuple[Any, Any]:
        """All slots of a layer as allocated, used or not: k (n_rows, K, D) and v (n_rows, K, Dv).

        On a GPU the rows of a head lie together: `k.transpose(1, 0, 2)` is contiguous.
        """
        slots = self._layers[self._checked_layer(layer)]
        return slots.k, slots.v

    def stored(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of a layer in the host's memory as they are stored: numbers, or bytes."""
        held = self._layers[self._checked_layer(layer)].rows(0, self.n_past)
        return tuple(self._ops.to_numpy(getattr(rows, "raw", rows)) for rows in held)

    def hold(self, token_ids: Any, first: Any, rows: Any) -> None:
        """Hold what a file held. token_ids: (n,); first: of each layer; rows: as from `stored`."""
        for layer, start, arrays in zip(self._layers, first, rows, strict=True):
            layer.fill(start, *map(self._ops.asarray, arrays))
        self._ids = [int(token_id) for token_id in token_ids]

    def save(self, path: str | os.PathLike) -> None:
        """Write what it holds to a safetensors file, which `model.load_cache` opens.

        Raises: ParameterError for a cache that belongs to no model.
        """
        save_cache(self, path)

    def identity(self) -> dict[str, str]:
        """What tells its model from others. Raises: ParameterError if it belongs to none."""
        return self._demanded_origin("identity").identity()

    def fork(self) -> "KVCache":
        """A copy that goes on by itself from the same positions."""
        other = copy.copy(self)
        other._ids = list(self._ids)
        with self._ops.on_device(self.device):
            other._layers = [layer.copy() for layer in self._layers]
        return other

    def truncate(self, n_past: int) -> None:
        """Forget all positions from n_past on.

        Raises: ParameterError if n_past is not from 0 to the positions held, or if a layer no
            longer has the window before it.
        """
        if not is_integer(n_past) or not 0 <= n_past <= self.n_past:
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
        return common_prefix(self.token_ids, checked_ids(token_ids))

    def match(self, token_ids: Any, tokenizer: Any = None) -> PrefixMatch:
        """What another text can reuse, and in words why no more; changes nothing.

        token_ids: (n,) integers; tokenizer: shows the pieces of tokens that differ.
        Raises: ParameterError.
        """
        held, least = self.token_ids, self._least_to_keep()
        return explain_match(held, checked_ids(token_ids), least, tokenizer)

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
        demand_can_shift(self, n_keep, n_discard)
        self._demanded_origin("shift")
        n_discard = (self.n_past - n_keep) // 2 if n_discard is None else int(n_discard)
        start, stop = int(n_keep) + n_discard, self.n_past
        with self._ops.on_device(self.device):
            for index, layer in enumerate(self._layers):
                turn = partial(self._turned, index, -n_discard)
                layer.move_down(start, stop, n_discard, turn)
        del self._ids[n_keep:start]

    @contextmanager
    def undoing(self, n_tokens: int) -> Iterator[None]:
        """While n_tokens at most go through: after an error what is held is what was held before.

        Raises: ContextFullError if they do not fit.
        """
        n_past = self.n_past
        demand_room(self, n_tokens)
        moving = [layer for layer in self._layers if layer.would_move(n_past, n_tokens)]
        saved = [layer.saved(n_past) for layer in moving]
        try:
            yield
        except BaseException:
            for layer, copies in zip(moving, saved, strict=True):
                layer.restore(copies)
            del self._ids[n_past:]
            raise

    @contextmanager
    def appending(self, token_ids: Any) -> Iterator[None]:
        """While the forward pass writes tokens: they are held after it, or nothing has changed.

        token_ids: (T,) integers. Raises: ContextFullError if they do not fit.
        """
        with self.undoing(len(token_ids)):
            yield
            self._ids.extend(map(int, token_ids))

    def goes_on(self, first: int, token_ids: list[int]) -> bool:
        """Whether what it holds from position `first` on is these tokens, and no more."""
        return self._ids[first:] == token_ids

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

    def _checked_layer(self, layer: int) -> int:
        if not is_integer(layer) or not 0 <= layer < self.n_layer:
            raise ParameterError(
                f"layer: no layer {layer!r} in this cache; expected from 0 to {self.n_layer - 1}, "
                f"got {layer!r}"
            )
        return int(layer)

    def _demanded_origin(self, what: str) -> Any:
        if self._origin is None:
            raise ParameterError(
                f"{what}: the cache knows no model to turn keys with; expected one made by "
                "model.new_cache(), got a bare KVCache"
            )
        return self._origin

    def _turned(self, layer: int, delta: int, rows: Any) -> Any:
        """Stored keys of a layer as they are to be stored `delta` positions further on."""
        if not self._origin.rotates(layer):
            return rows.copy()
        n = self._rotations[layer][0]
        keys = self._origin.turned(layer, self._numbers(rows, n), delta, self.n_ctx)
        return with_hadamard(self._ops, keys, n)

    def _numbers(self, rows: Any, n: int) -> Any:
        """What stored rows stand for, a new float32 array; n: how many are rotated together."""
        with self._ops.on_device(self.device):
            return with_hadamard(self._ops, rows.astype("float32"), n)


def _read_only(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    return x


def _as_bytes(rows: Any) -> Any:
    return getattr(rows, "raw", rows).view(np.uint8)
