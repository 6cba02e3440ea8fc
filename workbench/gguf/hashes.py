"""SHA-256 of a file and of each tensor in it, in one pass over the bytes.

Two files with the same tensor hash hold the same bytes in it, whatever their metadata, names of
other tensors and order.
Source: FIPS 180-4 through hashlib; llama.cpp's gguf-hash does the same for tensors.
Left out: hashes of metadata, whose values can be compared themselves.
"""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .reader import open_gguf

__all__ = ["FileHashes", "hash_gguf"]

PIECE = 1 << 24  # bytes hashed at once, by which the progress bar moves


@dataclass(frozen=True)
class FileHashes:
    """path: of the first file; files: path of each file -> hash of all its bytes; tensors: name ->
    hash of its bytes, without name, shape and type. Hashes are SHA-256 as hexadecimal text."""

    path: str
    files: Mapping[str, str]
    tensors: Mapping[str, str]

    def to_frame(self) -> Any:
        """A DataFrame with a row for each tensor."""
        import pandas as pd  # half a second, which `import workbench` need not pay

        return pd.DataFrame({"tensor": list(self.tensors), "sha256": list(self.tensors.values())})


def hash_gguf(
    path: str | os.PathLike, tensors: bool = True, whole: bool = True, progress: bool = False
) -> FileHashes:
    """Hash a file, or all files of a split model.

    tensors, whole: which of the two kinds of hashes are wanted. The file's and a tensor's are
    computed side by side of the same bytes, which come from the disk once. Raises: GGUFError.
    """
    from tqdm.auto import tqdm  # a tenth of a second, which `import workbench` need not pay

    with open_gguf(path) as gguf, ThreadPoolExecutor(2) as pool:
        n_bytes = sum(shard.nbytes for shard in gguf.shards)
        bar = tqdm(
            total=n_bytes, desc="hashing", unit="B", unit_scale=True, delay=1, disable=not progress
        )
        files, of_tensors = {}, {}
        with bar:
            for number, shard in enumerate(gguf.shards):
                spans = [span for span in gguf.layout.spans if span.shard == number]
                file_hash = hashlib.sha256()
                for span in spans:
                    shard.source.fetch(span.start, span.end)
                    wanted = tensors and span.kind == "tensor"
                    tensor_hash = hashlib.sha256() if wanted else None
                    for start in range(span.start, span.end, PIECE):
                        piece = shard.source.data[start : min(start + PIECE, span.end)]
                        both = (file_hash if whole else None, tensor_hash)
                        list(pool.map(lambda h, p=piece: h and h.update(p), both))
                        bar.update(len(piece))
                    if wanted:
                        of_tensors[span.name] = tensor_hash.hexdigest()
                if whole:
                    files[shard.path] = file_hash.hexdigest()
        if tensors:
            empty = hashlib.sha256().hexdigest()  # of tensors without weights, which have no span
            of_tensors = {name: of_tensors.get(name, empty) for name in gguf.tensors}
        return FileHashes(gguf.path, MappingProxyType(files), MappingProxyType(of_tensors))
