"""Which bytes of a file are what: every byte in exactly one span.

    header │ metadata: a span a key │ infos │ padding │ tensor │ padding │ tensor … │ trailing

Source: the GGUF specification (ggml/docs/gguf.md). Left out: pictures, which `plots/` draws.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FileLayout", "Span", "file_layout"]


@dataclass(frozen=True)
class Span:
    """Bytes start … end - 1 of a file.

    kind: "header", "metadata", "infos", "padding", "tensor" or "trailing"; name: the key or tensor;
    type: its type; shard: which file of a split model.
    """

    start: int
    end: int
    kind: str
    name: str = ""
    type: str = ""
    shard: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class FileLayout:
    """All spans of a model's files, file by file in the order of their bytes.

    paths: of the files; sizes: their bytes.
    """

    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    spans: tuple[Span, ...]

    def by_kind(self) -> dict[str, int]:
        """Bytes of each kind of span."""
        sums: dict[str, int] = {}
        for span in self.spans:
            sums[span.kind] = sums.get(span.kind, 0) + span.nbytes
        return sums

    def to_frame(self) -> Any:
        """A DataFrame with a row for each span."""
        import pandas as pd  # half a second, which `import workbench` need not pay

        columns = ("shard", "start", "end", "nbytes", "kind", "name", "type")
        return pd.DataFrame([{c: getattr(span, c) for c in columns} for span in self.spans])

    def __repr__(self) -> str:
        sums = ", ".join(f"{kind} {nbytes:,}" for kind, nbytes in self.by_kind().items())
        return f"FileLayout({os.path.basename(self.paths[0])!r}: {sums} bytes)"


def file_layout(shards: Sequence[Any]) -> FileLayout:
    """The layout of a model's files; shards: of `shards.Shard`."""
    spans = [span for number, shard in enumerate(shards) for span in _spans(shard, number)]
    paths, sizes = zip(*((shard.path, shard.nbytes) for shard in shards), strict=True)
    return FileLayout(paths, sizes, tuple(spans))


def _spans(shard: Any, number: int) -> Iterator[Span]:
    header, size = shard.header, shard.nbytes
    yield Span(0, header.pairs_offset, "header", shard=number)
    at = header.pairs_offset
    for key in header.metadata:
        _, end = header.metadata.span(key)
        yield Span(at, end, "metadata", key, header.metadata.types[key], number)
        at = end
    if header.infos_end > at:
        yield Span(at, header.infos_end, "infos", shard=number)
        at = header.infos_end
    tensors = (info for info in header.tensors.values() if info.nbytes)
    for info in sorted(tensors, key=lambda info: info.offset):
        if info.offset > at:
            yield Span(at, info.offset, "padding", shard=number)
        at = info.offset + info.nbytes
        yield Span(info.offset, at, "tensor", info.name, info.type, number)
    if at < size:
        is_short = size - at < header.alignment
        yield Span(at, size, "padding" if is_short else "trailing", shard=number)
