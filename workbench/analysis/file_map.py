"""What is in a file, and where its bytes go: tables, sums by role or layer, and a treemap.

    blk.3.attn_q.weight     layer 3, role attn_q, part attention
    token_embd.weight       no layer, role token_embd, part embedding

Source: tensor names as in gguf-py's constants (`TENSOR_NAMES`); the treemap is the squarified one
of Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000).
Left out: compute buffers, and sliding windows, which make a real KV cache smaller than stated here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ParameterError
from ..gguf import GGUFFile, StringArray, TensorInfo
from ..model.config import TRANSLATIONS

__all__ = [
    "Memory",
    "Size",
    "SizeBy",
    "Treemap",
    "TreemapRect",
    "memory_by_part",
    "metadata_table",
    "role_of",
    "size_by",
    "squarify",
    "tensor_table",
    "treemap",
]

PARTS = ("embedding", "attention", "feed-forward", "norms", "output", "other")
F16_BYTES = 2
SHOWN = 60  # characters of a metadata value in a table

# The first pattern found in a role says which part of the model it belongs to.
_PART_PATTERNS = (
    ("norms", re.compile(r"norm")),
    ("embedding", re.compile(r"^(.*\.)?(token_embd|position_embd|token_types|per_layer_token)")),
    ("attention", re.compile(r"^(.*\.)?(attn|cross_attn)")),
    ("feed-forward", re.compile(r"^(.*\.)?(ffn|exp_probs)")),
    ("output", re.compile(r"^(output|cls)(\.|$)")),
)
_LAYER = re.compile(r"^(?:(.*)\.)?blk\.(\d+)\.(.+)$")
_KEYS = {entry.ours: entry.gguf for entry in TRANSLATIONS}


@dataclass(frozen=True)
class Size:
    """The tensors that share a role, layer or type, summed."""

    name: str
    nbytes: int
    n_elements: int
    n_tensors: int

    @property
    def bits_per_weight(self) -> float:
        """Mean bits of storage per weight."""
        return 8 * self.nbytes / self.n_elements if self.n_elements else 0.0


@dataclass(frozen=True)
class SizeBy:
    """Sizes by "role" or "type" (largest first) or by "layer" (in order, "none" last)."""

    by: str
    sizes: tuple[Size, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(size.nbytes for size in self.sizes)

    def to_frame(self) -> pd.DataFrame:
        """One row a name, with its share of all bytes."""
        rows = [
            (s.name, s.n_tensors, s.n_elements, s.nbytes, s.nbytes / self.nbytes, s.bits_per_weight)
            for s in self.sizes
        ]
        columns = [self.by, "n_tensors", "n_elements", "nbytes", "share", "bits_per_weight"]
        return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class Memory:
    """Bytes of the file by part of the model, and of the KV cache at `n_ctx` (None: not known)."""

    parts: Mapping[str, int]  # "metadata" (header and padding), then PARTS; sums to the file's size
    n_ctx: int
    kv_cache: int | None

    @property
    def total(self) -> int:
        """All bytes, KV cache included."""
        return sum(self.parts.values()) + (self.kv_cache or 0)

    def to_frame(self) -> pd.DataFrame:
        """One row a part."""
        rows = list(self.parts.items())
        if self.kv_cache is not None:
            rows.append((f"KV cache (f16, n_ctx {self.n_ctx})", self.kv_cache))
        return pd.DataFrame(rows, columns=["part", "nbytes"])


@dataclass(frozen=True)
class TreemapRect:
    """A rectangle whose area is to the map's area as its bytes are to all; y grows downwards."""

    name: str  # role, or "layer 3" for a group
    part: str  # one of PARTS; "" for a group
    nbytes: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Treemap:
    """Groups (a layer, or what lies outside of layers) tile the map; roles tile their group."""

    width: float
    height: float
    groups: tuple[TreemapRect, ...]
    roles: tuple[TreemapRect, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(group.nbytes for group in self.groups)


def role_of(name: str) -> tuple[int | None, str]:
    """The layer (None outside of layers) and the role of a tensor name.

    Returns: (3, "attn_q") for "blk.3.attn_q.weight"; (None, "token_embd") for "token_embd.weight".
    """
    match = _LAYER.match(name)
    prefix, layer, rest = match.groups() if match else (None, None, name)
    role = re.sub(r"\.(weight|bias|scale)$", "", rest)
    return (int(layer) if layer else None), f"{prefix}.{role}" if prefix else role


def part_of(role: str) -> str:
    """Which of PARTS a role belongs to: "attention" for "attn_q", "norms" for "attn_norm"."""
    return next((part for part, pattern in _PART_PATTERNS if pattern.search(role)), "other")


def metadata_table(gguf: GGUFFile) -> pd.DataFrame:
    """Metadata as a table of key, type and (shortened) value, in file order."""
    meta = gguf.metadata
    rows = [(key, meta.types[key], _shown(value)) for key, value in meta.items()]
    return pd.DataFrame(rows, columns=["key", "type", "value"])


def _shown(value: Any) -> str:
    """A metadata value on one line; of an array its length and first items."""
    if isinstance(value, str):
        text = repr(value[: SHOWN + 1])[1:-1]  # repr escapes what a table cannot show
    elif isinstance(value, np.ndarray | StringArray | list):
        first = [_shown(item) for item in list(value[:5])]
        text = f"{len(value)} items: {', '.join(first)}" if first else "0 items"
        text += ", …" if len(value) > 5 else ""
    elif isinstance(value, float | np.floating):
        text = f"{value:.7g}"  # what a float32 holds
    else:
        text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def tensor_table(gguf: GGUFFile) -> pd.DataFrame:
    """Tensors as a table, in file order; `layer` is missing (<NA>) outside of layers."""
    columns = {
        "name": [info.name for info in gguf.tensors.values()],
        "layer": pd.array([role_of(name)[0] for name in gguf.tensors], dtype="Int64"),
        "role": [role_of(name)[1] for name in gguf.tensors],
    }
    for field in ("type", "shape", "n_elements", "nbytes", "bits_per_weight", "offset"):
        columns[field] = [getattr(info, field) for info in gguf.tensors.values()]
    return pd.DataFrame(columns)


def size_by(gguf: GGUFFile, by: str) -> SizeBy:
    """Sum the tensors by "role", "layer" or "type".

    Raises: ParameterError for any other word.
    """
    if by not in ("role", "layer", "type"):
        raise ParameterError(
            f"size_by: cannot sum by {by!r}; expected 'role', 'layer' or 'type', got {by!r}; "
            "choose one of them"
        )
    groups: dict[int | str | None, list[TensorInfo]] = {}
    for info in gguf.tensors.values():
        layer, role = role_of(info.name)
        groups.setdefault({"role": role, "layer": layer, "type": info.type}[by], []).append(info)
    sizes = {
        key: _summed("none" if key is None else str(key), infos) for key, infos in groups.items()
    }
    if by == "layer":
        ordered = sorted(sizes, key=lambda layer: (layer is None, layer))
    else:
        ordered = sorted(sizes, key=lambda key: -sizes[key].nbytes)
    return SizeBy(by, tuple(sizes[key] for key in ordered))


def _summed(name: str, infos: Sequence[TensorInfo]) -> Size:
    nbytes, n_elements = sum(i.nbytes for i in infos), sum(i.n_elements for i in infos)
    return Size(name, nbytes, n_elements, len(infos))


def memory_by_part(gguf: GGUFFile, n_ctx: int) -> Memory:
    """Where the bytes of a file go, and what a KV cache of `n_ctx` positions adds.

    The cache holds keys and values of all layers in f16; it is absent (None) for files that lack
    the numbers for it and for models without causal attention.
    Raises: ParameterError if n_ctx is no positive integer.
    Source: `llama_kv_cache` in src/llama-kv-cache.cpp for the size.
    """
    if not isinstance(n_ctx, int | np.integer) or isinstance(n_ctx, bool) or n_ctx < 1:
        raise ParameterError(
            f"n_ctx: no context length; expected an integer of at least 1, got {n_ctx!r}; "
            "give the number of positions"
        )
    parts = dict.fromkeys(("metadata", *PARTS), 0)
    for info in gguf.tensors.values():
        parts[part_of(role_of(info.name)[1])] += info.nbytes
    parts["metadata"] = gguf.size - sum(parts.values())
    per_position = _kv_elements(gguf.metadata)
    kv_cache = None if per_position is None else per_position * int(n_ctx) * F16_BYTES
    return Memory(parts, int(n_ctx), kv_cache)


def _kv_elements(metadata: Mapping[str, Any]) -> int | None:
    """Numbers that all layers together cache for one position; None if the file does not say."""
    architecture = metadata.get("general.architecture")

    def value(ours: str, default: Any = None) -> Any:
        return metadata.get(f"{architecture}.{_KEYS[ours]}", default)

    n_layer, n_head = value("n_layer"), value("n_head")
    if not isinstance(n_layer, int) or n_head is None or value("causal", True) is False:
        return None
    head_dim = _head_dims(value("n_embd"), n_head)
    dims = value("head_dim", head_dim), value("head_dim_v", head_dim)
    if not all(isinstance(dim, int) for dim in dims):
        return None
    n_head_kv = np.asarray(value("n_head_kv", n_head))  # one number, or one for each layer
    if n_head_kv.dtype.kind not in "iu" or n_head_kv.ndim > 1:
        return None
    if n_head_kv.ndim == 1 and len(n_head_kv) < n_layer:
        return None
    heads = int(n_head_kv) * n_layer if n_head_kv.ndim == 0 else sum(n_head_kv[:n_layer].tolist())
    return heads * sum(dims)


def _head_dims(n_embd: Any, n_head: Any) -> int | None:
    """Size of a head where the file does not name it."""
    if isinstance(n_head, np.ndarray) and n_head.size and n_head.dtype.kind in "iu":
        n_head = int(n_head.max())
    sound = isinstance(n_embd, int) and isinstance(n_head, int) and n_head > 0
    return n_embd // n_head if sound else None


def treemap(gguf: GGUFFile, width: float = 1.0, height: float = 1.0) -> Treemap:
    """Lay out all tensors as rectangles: layers, and in each its roles; area stands for bytes.

    width, height: of the map, in any unit.
    Raises: ParameterError if one of them is not positive.
    Source: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000).
    """
    if not (width > 0 and height > 0):
        raise ParameterError(
            f"treemap: no area; expected positive width and height, got {width} x {height}; "
            "use the size of the figure"
        )
    groups: dict[str, dict[str, int]] = {}
    for info in gguf.tensors.values():
        layer, role = role_of(info.name)
        roles = groups.setdefault(role if layer is None else f"layer {layer}", {})
        roles[role] = roles.get(role, 0) + info.nbytes
    outer = _tiles(((name, "", sum(r.values())) for name, r in groups.items()), 0, 0, width, height)
    inner = []
    for group in outer:
        items = ((role, part_of(role), nbytes) for role, nbytes in groups[group.name].items())
        inner += _tiles(items, group.x, group.y, group.width, group.height)
    return Treemap(width, height, tuple(outer), tuple(inner))


def _tiles(
    items: Iterable[tuple[str, str, int]], x: float, y: float, width: float, height: float
) -> list[TreemapRect]:
    """Tile a rectangle with (name, part, nbytes), the largest first, leaving out what is empty."""
    ordered = sorted((item for item in items if item[2]), key=lambda item: -item[2])
    boxes = squarify([nbytes for *_, nbytes in ordered], x, y, width, height)
    return [TreemapRect(*item, *box) for item, box in zip(ordered, boxes, strict=True)]


def squarify(
    sizes: Sequence[float], x: float, y: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    """Tile a rectangle with areas in proportion to `sizes` (positive, descending), near squares.

        +----+--+--+    Rows are laid along the shorter side of what is left. A row takes the next
        |    |  |  |    item as long as that makes its worst shape no more oblong.
        |    +--+--+
        |    |     |
        +----+-----+

    Returns: (x, y, width, height) of each, in the order of `sizes`.
    """
    boxes: list[tuple[float, float, float, float]] = []
    areas = [size * (width * height / sum(sizes)) for size in sizes]
    left = list(accumulate(reversed(areas), initial=0.0))[::-1]  # area from each item on
    while len(boxes) < len(areas):
        side = min(width, height)
        row = _next_row(areas, len(boxes), side)
        depth = sum(row) / side
        along = 0.0
        for area in row:
            length = area / depth
            if width >= height:
                boxes.append((x, y + along, depth, length))
            else:
                boxes.append((x + along, y, length, depth))
            along += length
        if width >= height:  # by area: a difference would keep no digits of a thin rest
            x, width = x + depth, left[len(boxes)] / height
        else:
            y, height = y + depth, left[len(boxes)] / width
    return boxes


def _next_row(areas: Sequence[float], first: int, side: float) -> Sequence[float]:
    """The run of areas from `first` on that makes the squarest row along `side`."""
    total, worst = 0.0, float("inf")
    for end in range(first, len(areas)):
        total += areas[end]
        # The row is total / side deep; descending areas make its first and last the extremes.
        ratio = max(side**2 * areas[first] / total**2, total**2 / (side**2 * areas[end]))
        if ratio > worst:
            return areas[first:end]
        worst = ratio
    return areas[first:]
