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
from typing import Any

import numpy as np

from ..errors import ParameterError, UnsupportedError
from ..gguf.whole_file import whole_file
from .kv_checks import is_integer

__all__ = ["load_cache", "save_cache"]

FORMAT = "workbench KV cache 2"
N_NAMED = 4  # differences that an error names
FACTS = ("n_ctx", "type_k", "type_v", "swa_full", "rotate", "first", "model")


def save_cache(cache: Any, path: str | os.PathLike) -> None:
    """Write what a KVCache holds; a file that is there is replaced once the new one is whole.

    Raises: ParameterError for a cache that belongs to no model, or a place that cannot be written.
    """
    from safetensors import SafetensorError  # only for those who save
    from safetensors.numpy import save_file

    first = [cache.first(layer) for layer in range(cache.n_layer)]
    made = (cache.n_ctx, cache.type_k, cache.type_v, cache.swa_full, cache.rotate)
    facts = dict(zip(FACTS, (*made, first, cache.identity()), strict=True))
    arrays = {"token_ids": cache.token_ids}
    for layer in range(cache.n_layer):
        for name, rows in zip("kv", cache.stored(layer), strict=True):
            arrays[f"{name}.{layer}"] = np.ascontiguousarray(rows)
    texts = {name: json.dumps(fact) for name, fact in facts.items()}
    with whole_file(path) as file:
        try:
            save_file(arrays, file.name, {"format": FORMAT, **texts})
        except SafetensorError as error:
            raise OSError(0, str(error)) from error
        os.chmod(file.name, os.fstat(file.fileno()).st_mode)  # save_file leaves it to its owner


def load_cache(model: Any, path: str | os.PathLike) -> Any:
    """The KVCache of a file, for `model.load_cache`. Raises: ParameterError."""
    from safetensors import SafetensorError, safe_open

    try:
        is_there = os.path.isfile(path) and not isinstance(path, int)
    except TypeError:
        is_there = False
    if not is_there:
        raise ParameterError(
            f"{path}: no such file; expected one that KVCache.save wrote, got none; check the path"
        )
    try:
        with safe_open(os.fsdecode(path), framework="numpy") as file:
            return _read(model, file, os.fsdecode(path))
    except SafetensorError as error:
        raise ParameterError(
            f"{path}: not a whole safetensors file; expected one that KVCache.save wrote, got "
            f"{error}; save the cache again"
        ) from None


def _read(model: Any, file: Any, path: str) -> Any:
    facts = _facts(file.metadata() or {}, path)
    _demand_same_model(facts["model"], model.new_cache(1).identity(), path)
    cache = _empty_cache(model, facts, path)
    ids, first = _array(file, "token_ids", path), facts["first"]
    is_whole = ids.dtype == np.int64 and ids.ndim == 1 and len(ids) <= cache.n_ctx
    if not is_whole or np.any((ids < 0) | (ids >= model.config.n_vocab)):
        raise ParameterError(
            f"{path}: token_ids: not those of this cache; expected up to {cache.n_ctx} ids below "
            f"{model.config.n_vocab} as int64, got {ids.dtype} {ids.shape}; save the cache again"
        )
    _demand_windows(first, cache, len(ids), path)
    rows = [
        _rows(file, index, layer, len(ids) - at, path)
        for index, (layer, at) in enumerate(zip(cache.bytes().layers, first, strict=True))
    ]
    cache.hold(ids, first, rows)
    return cache


def _empty_cache(model: Any, facts: dict[str, Any], path: str) -> Any:
    names = ("n_ctx", "type_k", "type_v", "swa_full", "rotate")
    try:
        return model.new_cache(*(facts[name] for name in names))
    except (ParameterError, UnsupportedError) as error:
        raise type(error)(f"{path}: no such cache can be made here: {error}") from None


def _demand_windows(first: list[int], cache: Any, n_past: int, path: str) -> None:
    """Raises: ParameterError where a layer misses positions that the next token sees."""
    most = [
        max(0, n_past - layer.n_swa + 1) if layer.rows < cache.n_ctx else 0
        for layer in cache.bytes().layers
    ]
    if len(first) != len(most) or not all(0 <= a <= b for a, b in zip(first, most, strict=False)):
        raise ParameterError(
            f"{path}: first: not where the layers of this cache begin; expected {len(most)} "
            f"positions up to {most!r:.80}, got {first!r:.80}; save the cache again"
        )


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
    except (KeyError, ValueError, RecursionError) as error:
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
    return isinstance(values, list) and all(map(is_integer, values))


def _demand_same_model(theirs: dict[str, str], ours: dict[str, str], path: str) -> None:
    differs = [name for name in ours if theirs.get(name) != ours[name]]
    if differs:
        name, more = differs[0], len(differs) - N_NAMED
        said = ", ".join([*differs[:N_NAMED], f"{more} more"] if more > 0 else differs)
        raise ParameterError(
            f"{path}: the cache of another model; it differs in {said}; expected "
            f"{name} {ours[name]!r:.80}, got {theirs.get(name)!r:.80}; open it with the model that "
            "made it"
        )


def _array(file: Any, name: str, path: str) -> np.ndarray:
    if name not in file.keys():
        raise ParameterError(
            f"{path}: {name}: missing; expected token_ids and k and v of every layer, got "
            f"{len(file.keys())} arrays; save the cache again"
        )
    try:
        return file.get_tensor(name)
    except (AttributeError, TypeError):  # a type that NumPy has not, such as BF16
        raise ParameterError(
            f"{path}: {name}: not what a cache holds; expected numbers or bytes as KVCache.save "
            f"writes them, got {file.get_slice(name).get_dtype()}; save the cache again"
        ) from None
