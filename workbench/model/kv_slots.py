"""The slots of one layer: keys and values of consecutive positions, side by side in memory.

    row          0     1     2    …        n              capacity
               ┌─────┬─────┬─────┬───────┬─────────────────┐
    position   │first│  +1 │  +2 │  …    │ room            │     a row: (K KV heads, D numbers)
               └─────┴─────┴─────┴───────┴─────────────────┘

A layer that sees everything has first = 0 and a row for each position of the context. A layer
with a sliding window may have fewer rows: when they are full, the positions that its window still
reaches move to the front, so that what attention reads stays one piece without copies.
Source: llama.cpp src/llama-kv-cache-iswa.cpp (size of the window's part); the moving is our own.
Left out: which positions count, which `kv_cache.py` knows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["SlotRow", "Slots", "new_slots", "window_capacity"]

PADDING = 256  # llama.cpp makes the window's part a multiple of it
ROWS_PER_TILE = 1024  # that are turned at once: a few MiB as float32


class SlotRow(NamedTuple):
    """What lies in one slot of a layer; seq_id: 0, since a cache holds one sequence."""

    slot: int
    position: int
    seq_id: int
    token_id: int


def window_capacity(n_swa: int, n_ctx: int, n_piece: int) -> int:
    """Rows for a window of n_swa positions (itself included) and the n_piece tokens of one piece,
    which are written before attention reads them."""
    rows = n_swa + n_piece
    return min(n_ctx, -(-rows // PADDING) * PADDING)


def new_slots(ops: Any, layer: Any) -> "Slots":
    """Empty slots on a device, as large and of the types as a `LayerBytes` says."""
    rooms = []
    for type, (heads, length) in ((layer.type_k, layer.k_shape), (layer.type_v, layer.v_shape)):
        room = ops.kv_zeros((layer.rows, heads, type.stored_length(length)), type.dtype)
        rooms.append(ops.packed_rows(room, type.ggml, length) if type.is_packed else room)
    return Slots(*rooms, layer.n_swa)


class Slots:
    """Keys and values of one layer; `first` is the position of row 0.

    k: (capacity, K, D) and v: (capacity, K, Dv) on the device, arrays or `PackedRows`; n_swa:
    positions that a token sees, itself included, 0 for all.
    """

    def __init__(self, k: Any, v: Any, n_swa: int = 0):
        self.k, self.v, self.n_swa = k, v, n_swa
        self.first = 0

    @property
    def capacity(self) -> int:
        """Rows there are."""
        return len(self.k)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(self.k.nbytes + self.v.nbytes)

    @property
    def slot_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What one row holds: (K, D) of k and (K, Dv) of v."""
        return tuple(self.k.shape[1:]), tuple(self.v.shape[1:])

    def copy(self) -> "Slots":
        """The same in memory of its own, laid out in the same order."""
        other = Slots(self.k.copy(order="K"), self.v.copy(order="K"), self.n_swa)
        other.first = self.first
        return other

    def fill(self, first: int, k: Any, v: Any) -> None:
        """Hold rows as they are stored, from position `first` on."""
        self.first = first
        for held, rows in ((self.k, k), (self.v, v)):
            getattr(held, "raw", held)[: len(rows)] = rows

    def rows(self, start: int, stop: int) -> tuple[Any, Any]:
        """Views of k and v at the positions from `start` (or the first held) to before `stop`."""
        chosen = slice(max(start - self.first, 0), max(stop - self.first, 0))
        return self.k[chosen], self.v[chosen]

    def oldest_needed(self, position: int) -> int:
        """The first position that a token at `position` sees."""
        return max(0, position - self.n_swa + 1) if self.n_swa else 0

    def would_move(self, n_past: int, n_tokens: int) -> bool:
        """Whether writing after n_past positions overwrites any that are held."""
        return n_past + n_tokens - self.first > self.capacity

    def write(self, position: int, k: Any, v: Any, put_rows: Callable) -> tuple[Any, Any]:
        """Put k, v (T, K, D) at the positions from `position` on; put_rows: the device's.

        Returns: views of all that the first of these tokens may see, up to the last of them.
        """
        stop = position + len(k)
        if stop - self.first > self.capacity:
            self._move_to_front(position)
        row = position - self.first
        assert 0 <= row and stop - self.first <= self.capacity, "a piece longer than the room"
        put_rows(self.k, self.v, row, k, v)
        return self.rows(self.oldest_needed(position), stop)

    def _move_to_front(self, position: int) -> None:
        oldest = self.oldest_needed(position)
        for held in (self.k, self.v):
            kept = held[oldest - self.first : position - self.first].copy()  # they may overlap
            held[: len(kept)] = kept
        self.first = oldest

    def saved(self, n_past: int) -> tuple[int, Any, Any]:
        """Copies of what is held, for `restore`."""
        k, v = self.rows(0, n_past)
        return self.first, k.copy(), v.copy()

    def restore(self, saved: tuple[int, Any, Any]) -> None:
        """Hold again what `saved` copied."""
        self.first, k, v = saved
        self.k[: len(k)], self.v[: len(v)] = k, v

    def move_down(self, start: int, stop: int, distance: int, turn: Callable[[Any], Any]) -> None:
        """Bring positions start … stop-1 `distance` down; turn: keys -> keys of the new place."""
        assert self.first == 0 and distance <= start
        if not distance:
            return
        for row in range(start, stop, ROWS_PER_TILE):
            rows = slice(row, min(row + ROWS_PER_TILE, stop))
            target = slice(rows.start - distance, rows.stop - distance)
            self.k[target] = turn(self.k[rows])
            self.v[target] = self.v[rows].copy()  # source and target may overlap
