"""The metadata of a file as a read-only mapping that remembers how each value was stored.

Source: `gguf_kv` in the GGUF specification (ggml/docs/gguf.md).
Left out: what the keys mean (layer 5 reads them), and changing them (build a dict and write that).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["Layout", "Metadata"]


@dataclass(frozen=True)
class Layout:
    """How the file that metadata came from was laid out, so that a write can repeat it."""

    version: int
    byte_order: str  # "little" or "big"
    has_tensors: bool
    pads_end: bool  # zeros follow the last tensor, or the header of a file without tensors


class Metadata(Mapping[str, Any]):
    """Key -> value: int, float, bool, str; NumPy array (a view of the file) or lazy StringArray.

    Arrays of arrays are lists of these. `types` maps each key to its stored type, such as
    "UINT32" or "ARRAY[STRING]"; `raw(key)` gives the value's bytes as they lie in the file.
    """

    __slots__ = ("_data", "_spans", "_types", "_values", "layout")
    __eq__, __hash__ = object.__eq__, object.__hash__  # arrays have no single truth value

    def __init__(
        self,
        values: dict[str, Any],
        types: dict[str, str],
        spans: dict[str, tuple[int, int]],
        data: memoryview,
        layout: Layout,
    ):
        """spans: key -> first and last-plus-one byte in `data` of type word and value."""
        self._values, self._types, self._spans, self._data = values, types, spans, data
        self.layout = layout

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        name = self._values.get("general.architecture", "no general.architecture")
        return f"Metadata({len(self)} keys, {name!r}, version {self.version}, {self.byte_order})"

    @property
    def types(self) -> Mapping[str, str]:
        """Key -> stored type: "UINT32", "STRING", "ARRAY[FLOAT32]", "ARRAY[ARRAY[INT8]]"."""
        return MappingProxyType(self._types)

    @property
    def version(self) -> int:
        """GGUF version of the file: 1, 2 or 3."""
        return self.layout.version

    @property
    def byte_order(self) -> str:
        """Byte order of the file: "little" or "big"."""
        return self.layout.byte_order

    def raw(self, key: str) -> memoryview:
        """The bytes of a value in the file, from its type word to its end (read-only view)."""
        start, end = self._spans[key]
        return self._data[start:end]

    def span(self, key: str) -> tuple[int, int]:
        """First and last-plus-one byte in the file of the value, its type word included."""
        return self._spans[key]
