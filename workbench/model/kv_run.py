"""What was seen of the KV cache while a text went through a model: arrays, saved and opened again.

    position     0      1      2      …   N - 1
    mass        ▇      ▇▁     ▅▂▁        one row of shares for each token, layer and head:
                                         the row of position p has p + 1 of them

Source: our own. Leaves out: the recording (`kv_recorder.py`), and what could be forgotten
(`analysis.kv_eviction`).
"""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import is_zipfile

import numpy as np

from ..errors import ParameterError
from ..gguf.whole_file import whole_file
from .kv_checks import is_integer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["N_RECENT", "N_SINK", "KVRun"]

VERSION = 1
N_SINK = 4  # the first positions, which StreamingLLM (arXiv:2309.17453) calls attention sinks
MOST_POSITIONS, MOST_SHARE = 1 << 28, 1.01  # of a run that a file holds; a share rounds up
N_RECENT = 16  # the last positions, the token's own among them
ARRAYS = {  # kind of number and axes
    "token_ids": ("i", 1),
    "n_head": ("i", 1),
    "n_head_kv": ("i", 1),
    "masses": ("f", 1),
    "entropy": ("f", 3),
    "sink_share": ("f", 3),
    "recent_share": ("f", 3),
    "k_norm": ("f", 3),
    "v_norm": ("f", 3),
    "bytes_written": ("i", 2),
}
GROUPS = {"layer": ["layer"], "head": ["layer", "head"], "step": ["position"]}


@dataclass(frozen=True, eq=False)
class KVRun:
    """One text as its KV cache saw it: N tokens, L layers, H heads, K KV heads.

    model: its name. first: position of the first token recorded. per_head: whether the shares are
    kept for each head, else (as a GPU's decode graph sums them) the mean over the heads of a layer.
    pieces: (N,) texts of the tokens; token_ids: (N,). n_head, n_head_kv: (L,).
    masses: float16, all shares one after another; `mass` finds them.
    entropy: (N, L, H) float32 nats of each head's shares. sink_share, recent_share: (N, L, H), or
    (N, L, 1) without heads, float32: what falls on the first 4 positions, and on the last 16, the
    token's own among them. k_norm, v_norm: (N, L, K) float32, Euclidean norms of the key (rotated)
    and the value that each token left. Heads that a layer does not have are NaN.
    bytes_written: (N, L) int64, what each token took of the cache, keys and values.
    """

    model: str
    first: int
    per_head: bool
    pieces: tuple[str, ...]
    token_ids: np.ndarray
    n_head: np.ndarray
    n_head_kv: np.ndarray
    masses: np.ndarray
    entropy: np.ndarray
    sink_share: np.ndarray
    recent_share: np.ndarray
    k_norm: np.ndarray
    v_norm: np.ndarray
    bytes_written: np.ndarray

    @property
    def n_tokens(self) -> int:
        """Tokens recorded, N."""
        return len(self.token_ids)

    @property
    def n_layer(self) -> int:
        """Layers of the model, L."""
        return len(self.n_head)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def __repr__(self) -> str:
        heads = "every head" if self.per_head else "the mean of the heads"
        return (
            f"KVRun({self.n_tokens} tokens of {self.model} from position {self.first}, "
            f"{self.n_layer} layers, shares of {heads}, {self.nbytes} bytes)"
        )

    def mass(self, step: int, layer: int) -> np.ndarray:
        """The shares that one token gave to the positions: (H, S) float16, a view.

        step: which of the tokens recorded, from 0; its position is `first` + step, and S one more.
        Without heads (1, S). A row adds up to 1, less where heads have a learned sink.
        Raises: ParameterError for a step or layer that is not there.
        """
        for name, value, n in (("step", step, self.n_tokens), ("layer", layer, self.n_layer)):
            if not is_integer(value) or not 0 <= value < n:
                raise ParameterError(
                    f"{name}: not in this run; expected from 0 to {n - 1}, got {value!r}"
                )
        n_seen = self.first + int(step) + 1
        rows = self._rows
        start = self._starts[step] + int(rows[:layer].sum()) * n_seen
        return self.masses[start : start + int(rows[layer]) * n_seen].reshape(-1, n_seen)

    def maps(self, layer: int) -> np.ndarray:
        """All shares of a layer as one picture: (H, N, S) float32, 0 where nothing was there yet.

        `analysis.attention_maps({f"kq_soft_max-{i}": run.maps(i) …}, run.pieces)` reads them.
        """
        n_rows = self.mass(0, layer).shape[0]
        maps = np.zeros((n_rows, self.n_tokens, self.first + self.n_tokens), np.float32)
        for step in range(self.n_tokens):
            maps[:, step, : self.first + step + 1] = self.mass(step, layer)
        return maps

    def summary(self, by: str = "layer") -> "pd.DataFrame":
        """Means as a table: entropy, sink and recent share, norms of keys and values, bytes.

        by: "layer", "head" (norms are those of the head's KV head) or "step", one row each.
        Raises: ParameterError for anything else.
        """
        import pandas as pd  # `import workbench` does without it

        if not isinstance(by, str) or by not in GROUPS:
            raise ParameterError(
                f"by: no such grouping; expected one of {', '.join(GROUPS)}, got {by!r}"
            )
        shape = self.entropy.shape
        group = np.maximum(self.n_head // self.n_head_kv, 1)
        kv_head = np.minimum(np.arange(shape[2]) // group[:, None], self.k_norm.shape[2] - 1)
        index = np.broadcast_to(kv_head, shape)
        numbers = {
            "entropy": self.entropy,
            "sink": np.broadcast_to(self.sink_share, shape),
            "recent": np.broadcast_to(self.recent_share, shape),
            "k_norm": np.take_along_axis(self.k_norm, index, 2),
            "v_norm": np.take_along_axis(self.v_norm, index, 2),
            "bytes": np.broadcast_to(self.bytes_written[:, :, None], shape),
        }
        places = np.broadcast_arrays(
            np.arange(self.first, self.first + shape[0])[:, None, None],
            np.arange(shape[1])[:, None],
            np.arange(shape[2]),
        )
        columns = dict(zip(("position", "layer", "head"), places, strict=True)) | numbers
        table = pd.DataFrame({name: x.ravel() for name, x in columns.items()})
        table = table[table["entropy"].notna()]
        return table.groupby(GROUPS[by])[list(numbers)].mean().reset_index()

    def save(self, path: str | Path) -> Path:
        """Write one .npz; a file that is there is replaced once the new one is whole.

        Returns: its path. Raises: ParameterError for a place that cannot be written.
        """
        about = {"version": VERSION, "model": self.model, "first": self.first}
        about |= {"per_head": self.per_head, "pieces": self.pieces}
        with whole_file(path) as file:
            arrays = {name: getattr(self, name) for name in ARRAYS}
            np.savez(file, about=np.array(json.dumps(about)), **arrays)
        return Path(os.fsdecode(path))

    @classmethod
    def load(cls, path: str | Path) -> "KVRun":
        """Open what `save` wrote, without the model. Raises: ParameterError for any other file."""
        try:
            with open(os.fsdecode(path), "rb") as stream:
                version, run = _read(stream)
        except FileNotFoundError:
            raise ParameterError(
                f"{path}: no such file; expected a run that KVRun.save wrote"
            ) from None
        except Exception as error:  # damage may come up anywhere in zipfile, zlib, json and NumPy
            raise ParameterError(
                f"{path}: not a run of a KV cache; expected an .npz that KVRun.save wrote, got "
                f"{type(error).__name__}: {error}"
            ) from error
        if version != VERSION:
            raise ParameterError(
                f"{path}: a run of version {version!r}; expected version {VERSION}; record the "
                "text again"
            )
        return run

    @cached_property
    def _rows(self) -> np.ndarray:
        """(L,): rows of shares that a token has in each layer."""
        return self.n_head if self.per_head else np.ones_like(self.n_head)

    @cached_property
    def _starts(self) -> list[int]:
        """Where each token's shares begin in `masses`, and where the last end."""
        seen = np.arange(self.first + 1, self.first + 1 + self.n_tokens, dtype=np.int64)
        return [0, *(int(self._rows.sum()) * seen).cumsum().tolist()]


def _read(stream: BinaryIO) -> tuple[Any, KVRun]:
    """Version and run of a file. Raises: ValueError and others where it is none."""
    if not is_zipfile(stream):
        raise ValueError("no .npz archive")
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        arrays = {name: file[name] for name in ARRAYS}
    run = _named_run(about, arrays)
    _demand_whole(run)
    return about["version"], run


def _named_run(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> KVRun:
    """Raises: ValueError, KeyError where a file says about itself what no run says."""
    model, first, per_head = (about[name] for name in ("model", "first", "per_head"))
    pieces = about["pieces"]
    is_said = isinstance(model, str) and is_integer(first) and isinstance(per_head, bool)
    if not is_said or not isinstance(pieces, list) or not all(isinstance(x, str) for x in pieces):
        raise ValueError("model, first, per_head or pieces of another kind")
    return KVRun(model, first, per_head, tuple(pieces), **arrays)


def _demand_whole(run: KVRun) -> None:
    """Raises: ValueError where the arrays of a file do not belong together."""
    for name, (kind, ndim) in ARRAYS.items():
        x = getattr(run, name)
        if x.ndim != ndim or x.dtype.kind != kind:
            raise ValueError(f"array {name} is {x.dtype} {x.shape}")
        if (x < 0).any() or np.isinf(x).any():
            raise ValueError(f"array {name} has numbers that no run has")
    n, n_layer = run.n_tokens, run.n_layer
    if not (n and n_layer and 0 <= run.first < MOST_POSITIONS and len(run.pieces) == n):
        raise ValueError("no tokens, no layers, or another number of pieces")
    heads, kv_heads = run.n_head, run.n_head_kv
    if len(kv_heads) != n_layer or min(heads.min(), kv_heads.min()) < 1 or (heads % kv_heads).any():
        raise ValueError("numbers of heads that no model has")
    for name, shape in _shapes(run).items():
        if getattr(run, name).shape != shape:
            raise ValueError(f"array {name} is {getattr(run, name).shape}, not {shape}")
    if not (run.masses <= MOST_SHARE).all():
        raise ValueError("shares that are none")


def _shapes(run: KVRun) -> dict[str, tuple[int, ...]]:
    """What shape the arrays have by the numbers of tokens, layers and heads."""
    n, n_layer = run.n_tokens, run.n_layer
    heads, kv_heads = int(run.n_head.max()), int(run.n_head_kv.max())
    shares = heads if run.per_head else 1
    shapes = dict.fromkeys(("sink_share", "recent_share"), (n, n_layer, shares))
    shapes |= dict.fromkeys(("k_norm", "v_norm"), (n, n_layer, kv_heads))
    shapes |= {"entropy": (n, n_layer, heads), "bytes_written": (n, n_layer)}
    return {**shapes, "masses": (run._starts[-1],)}
