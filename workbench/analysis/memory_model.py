"""What running a model takes in memory, term by term: from the header of its file alone.

    total = weights + KV cache + what one forward pass needs meanwhile, on the CPU

    activations   T · (3 E + 4 F) floats    the feed-forward network at its widest: the stream,
                                            what is read and added, gate, up, and two of SwiGLU's
    attention     T · (2 E + 2 H D + 2 K D) floats, a tile of scores, and keys and values that are
                  widened to float32 (packed ones always, float16 ones in a prompt)
    logits        V floats a token; a prompt of several pieces holds them twice as they are joined

    T tokens of a piece, at most 512      E n_embd    F n_ff    V n_vocab
    H heads    K KV heads    D head_dim

Source: our own, `model/transformer.py` and `ops/cpu*.py`; held to what NumPy really allocates by
tests. Left out: the interpreter and its libraries, some 150 MB; tiles of decoded weights, 512 KiB a
thread; buffers on a GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..errors import ParameterError
from ..gguf import GGUFFile
from ..model import CacheBytes, ModelConfig, predict_cache_bytes
from ..model.config import TRANSLATIONS
from ..ops.cpu import TOKENS_AT_ONCE
from ..ops.cpu_attention import SCORES_PER_TILE

__all__ = ["MemoryModel", "MemoryTerm", "memory_model"]

FLOAT = 4  # bytes
GGUF_NAMES = {entry.ours: entry.gguf for entry in TRANSLATIONS}


@dataclass(frozen=True)
class MemoryTerm:
    """One part of the memory: its bytes, the formula in words, and the metadata keys in it."""

    name: str
    nbytes: int
    formula: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class MemoryModel:
    """What a model takes with a cache for n_ctx positions and prompts of n_batch tokens."""

    n_ctx: int
    n_batch: int
    terms: tuple[MemoryTerm, ...]
    cache: CacheBytes

    @property
    def total(self) -> int:
        """Bytes of all terms."""
        return sum(term.nbytes for term in self.terms)

    def __getitem__(self, name: str) -> int:
        """Bytes of a term."""
        return next(term.nbytes for term in self.terms if term.name == name)

    def to_frame(self) -> pd.DataFrame:
        """A row a term: MB, the formula, and the keys of the file that it takes."""
        rows = [
            {
                "term": term.name,
                "MB": term.nbytes / 1e6,
                "formula": term.formula,
                "keys": ", ".join(term.keys),
            }
            for term in self.terms
        ]
        return pd.DataFrame(rows)


def memory_model(
    gguf: GGUFFile,
    n_ctx: int | None = None,
    type_k: Any = "f16",
    type_v: Any = "f16",
    n_batch: int = 512,
    swa_full: bool = True,
) -> MemoryModel:
    """Count what a file takes to run on the CPU, without reading its weights.

    n_ctx: positions of the cache, by default all the model was trained for; type_k, type_v,
    swa_full: as for `model.new_cache`; n_batch: tokens of a prompt that is sent through at once,
    whose logits are all wanted.
    Raises: ParameterError for arguments no cache can have, GGUFError, UnsupportedError for files
        that lack the numbers.
    """
    is_count = isinstance(n_batch, int) and not isinstance(n_batch, bool)
    if not is_count or n_batch < 1:
        raise ParameterError(
            f"n_batch: not a number of tokens; expected an integer of at least 1, got {n_batch!r}"
        )
    config = ModelConfig.from_metadata(gguf.metadata, gguf.tensors)
    cache = predict_cache_bytes(config, n_ctx, type_k, type_v, swa_full)
    n_batch = min(n_batch, cache.n_ctx)
    terms = (_weights(gguf), *_cache_terms(cache, config), *_buffers(config, cache, n_batch))
    return MemoryModel(cache.n_ctx, n_batch, terms, cache)


def _weights(gguf: GGUFFile) -> MemoryTerm:
    n_bytes = sum(info.nbytes for info in gguf.tensors.values())
    return MemoryTerm("weights", n_bytes, f"{len(gguf.tensors)} tensors as they lie in it", ())


def _cache_terms(cache: CacheBytes, config: ModelConfig) -> Iterator[MemoryTerm]:
    layers = cache.layers
    windows = sum(layer.rows < cache.n_ctx for layer in layers)
    rows = f"n_ctx {cache.n_ctx:,}" if not windows else f"n_ctx, {windows} layers their window"
    keys = _keys(config, "n_layer", "n_head_kv", *(["n_swa"] if windows else []))
    if config.kv_lora_rank:
        keys += _keys(config, "kv_lora_rank", "n_rot")
    first = layers[0]
    parts = (
        ("keys", first.k_shape, "head_dim", [(layer.k, layer.type_k.name) for layer in layers]),
        ("values", first.v_shape, "head_dim_v", [(layer.v, layer.type_v.name) for layer in layers]),
    )
    for name, (heads, length), key, each in parts:
        kinds = "/".join(sorted({kind for _, kind in each}))
        formula = f"{rows} · {len(layers)} layers · {heads} KV heads · {length} as {kinds}"
        n_bytes = sum(nbytes for nbytes, _ in each)
        yield MemoryTerm(f"cached {name}", n_bytes, formula, (*keys, *_keys(config, key)))


def _buffers(config: ModelConfig, cache: CacheBytes, n_batch: int) -> Iterator[MemoryTerm]:
    """The largest of what the steps of a forward pass hold, and what is there with each."""
    layers = [config.of_layer(layer) for layer in range(config.n_layer)]
    n_tokens = min(n_batch, TOKENS_AT_ONCE)
    ffn = max(_widest(layer) for layer in layers)
    stream = n_tokens * (3 * config.n_embd + 4 * ffn) * FLOAT
    parts = zip(layers, cache.layers, strict=True)
    attention = max(_attention(own, part, n_tokens, cache.n_ctx) for own, part in parts)
    logits = n_batch * config.n_vocab * FLOAT * (2 if n_batch > TOKENS_AT_ONCE else 1)
    step = max((stream, "activations"), (attention, "attention"), (logits, "logits"))
    names = {
        "activations": (f"{n_tokens} tokens · (3 n_embd + 4 n_ff) · 4 bytes", ("n_embd", "n_ff")),
        "attention": ("queries, keys, values, scores as float32", ("n_embd", "n_head", "head_dim")),
        "logits": (f"{n_batch} tokens · n_vocab · 4 bytes", ("n_vocab",)),
    }
    formula, keys = names[step[1]]
    yield MemoryTerm(f"compute: {step[1]}", step[0], formula, _keys(config, *keys))


def _widest(layer: ModelConfig) -> int:
    """Numbers of a token in the widest network of a layer."""
    experts = layer.n_expert_used * layer.n_ff_exp if layer.n_expert else 0
    return max(layer.n_ff, experts)


def _attention(own: ModelConfig, part: Any, n_tokens: int, n_ctx: int) -> int:
    """Bytes of one layer's attention at the end of the context."""
    seen = min(part.rows, n_ctx)
    numbers = n_tokens * (2 * own.n_embd + 2 * own.n_head * own.head_dim)
    numbers += 2 * n_tokens * part.k_shape[0] * part.k_shape[1]
    numbers += min(n_tokens * own.n_head * seen, 2 * SCORES_PER_TILE)
    for (heads, length), type in ((part.k_shape, part.type_k), (part.v_shape, part.type_v)):
        is_read_as_it_lies = type.name == "f32" or (type.name == "f16" and n_tokens == 1)
        numbers += 0 if is_read_as_it_lies else seen * heads * length
    return numbers * FLOAT


def _keys(config: ModelConfig, *ours: str) -> tuple[str, ...]:
    """The file's keys of numbers."""
    return tuple(f"{config.architecture}.{GGUF_NAMES[name]}" for name in ours if name in GGUF_NAMES)
