"""A KV cache as a file, in the safetensors format: arrays by name and text, no code in it.

    token_ids   (n_past,) int64            k.0, v.0, k.1, …   what each layer holds, as stored
    metadata    format, and as JSON n_ctx, type_k, type_v, swa_full, rotate, first, model

The file goes with the model that made it: what a key means is in the weights. Opening it with
another one is refused with what differs.
Source: the safetensors format, github.com/huggingface/safetensors; the names are our own.
Left out: llama.cpp's session files, which hold the same bytes in an order that changes by version.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ParameterError

__all__ = ["load_cache", "save_cache"]

FORMAT = "workbench KV cache 1"
FACTS = ("n_ctx", "type_k", "type_v", "swa_full", "rotate", "first", "model")


def save_cache(cache: Any, path: str | os.PathLike) -> None:
    """Write what a KVCache holds; a file that is there is replaced once the new one is whole.

    Raises: ParameterError for a cache that belongs to no model.
    """
    from safetensors.numpy import save_file  # only for those who save

    first = [cache.first(layer) for layer in range(cache.n_layer)]
    made = (cache.n_ctx, cache.type_k, cache.type_v, cache.swa_full, cache.rotate)
    facts = dict(zip(FACTS, (*made, first, cache.identity()), strict=True))
    arrays = {"token_ids": cache.token_ids}
    for layer in range(cache.n_layer):
        for name, rows in zip("kv", cache.stored(layer), strict=True):
            arrays[f"{name}.{layer}"] = np.ascontiguousarray(rows)
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        texts = {name: json.dumps(fact) for name, fact in facts.items()}
        save_file(arrays, unfinished, {"format": FORMAT, **texts})
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_cache(model: Any, path: str | os.PathLike) -> Any:
    """The KVCache of a file, for `model.load_cache`. Raises: ParameterError."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise ParameterError(
            f"{path}: no such file; expected one that KVCache.save wrote, got none; check the path"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            return _read(model, file, str(path))
    except SafetensorError as error:
        raise ParameterError(
            f"{path}: not a whole safetensors file; expected one that KVCache.save wrote, got "
            f"{error}; save the cache again"
        ) from None


def _read(model: Any, file: Any, path: str) -> Any:
    facts = _facts(file.metadata() or {}, path)
    _demand_same_model(facts["model"], model.new_cache(1).identity(), path)
    names = ("n_ctx", "type_k", "type_v", "swa_full", "rotate")
    cache = model.new_cache(*(facts[name] for name in names))
    ids, first = _array(file, "token_ids", path), facts["first"]
    is_whole = ids.dtype == np.int64 and ids.ndim == 1 and len(ids) <= cache.n_ctx
    is_whole &= len(first) == cache.n_layer and all(0 <= at <= len(ids) for at in first)
    if not is_whole or np.any((ids < 0) | (ids >= model.config.n_vocab)):
        raise ParameterError(
            f"{path}: token_ids: not those of this cache; expected up to {cache.n_ctx} ids below "
            f"{model.config.n_vocab} as int64, got {ids.dtype} {ids.shape}; save the cache again"
        )
    layers = enumerate(cache.bytes().layers)
    cache.hold(
        ids, first, [_rows(file, i, layer, len(ids) - first[i], path) for i, layer in layers]
    )
    return cache


def _rows(file: Any, index: int, layer: Any, n: int, path: str) -> list[np.ndarray]:
    """Keys and values of a layer, n positions of each."""
    rows = []
    for name, type, (heads, length) in (
        ("k", layer.type_k, layer.k_shape),
        ("v", layer.type_v, layer.v_shape),
    ):
        array = _array(file, f"{name}.{index}", path)
        expected = (n, heads, type.stored_length(length))
        if array.shape != expected or array.dtype != type.dtype or n > layer.rows:
            raise ParameterError(
                f"{path}: {name}.{index}: not what this cache holds; expected {type.dtype} "
                f"{expected}, got {array.dtype} {array.shape}; save the cache again"
            )
        rows.append(array)
    return rows


def _facts(metadata: dict[str, str], path: str) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise ParameterError(
            f"{path}: not a KV cache; expected a safetensors file with format {FORMAT!r}, got "
            f"{metadata.get('format')!r}; KVCache.save writes one"
        )
    try:
        facts = {name: json.loads(metadata[name]) for name in FACTS}
    except (KeyError, ValueError) as error:
        raise ParameterError(
            f"{path}: its metadata is damaged; expected {', '.join(FACTS)} as JSON, got {error!r}; "
            "save the cache again"
        ) from None
    if not isinstance(facts["model"], dict) or not _is_integers(facts["first"]):
        raise ParameterError(
            f"{path}: its metadata is damaged; expected a model and the first position of each "
            f"layer, got {facts['model']!r:.80} and {facts['first']!r:.80}; save the cache again"
        )
    return facts


def _is_integers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int) for value in values)


def _demand_same_model(theirs: dict[str, str], ours: dict[str, str], path: str) -> None:
    differs = [name for name in ours if theirs.get(name) != ours[name]]
    if differs:
        name = differs[0]
        raise ParameterError(
            f"{path}: the cache of another model; its {' and '.join(differs)} differ; expected "
            f"{name} {ours[name]!r:.80}, got {theirs.get(name)!r:.80}; open it with the model that "
            "made it"
        )


def _array(file: Any, name: str, path: str) -> np.ndarray:
    if name not in file.keys():
        raise ParameterError(
            f"{path}: {name}: missing; expected token_ids and k and v of every layer, got "
            f"{len(file.keys())} arrays; save the cache again"
        )
    return file.get_tensor(name)
