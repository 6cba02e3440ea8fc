"""From a file to a model one can ask: `load_model` and what it gives.

Source: our own.
Left out: which devices there are (`devices.py`), and writing models.
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import GGUFError, ParameterError, UnsupportedError
from ..gguf import GGUFFile
from ..ops import cpu
from ..ops.cpu_attention_row import compile_row_kernels
from ..ops.device_memory import MemoryNeed, demand_memory
from ..ops.packed_linear import compile_kernels
from ..quants.file import open_gguf
from ..tokenizer import load_tokenizer
from .config import ModelConfig, architecture_of
from .context import CacheOrigin
from .devices import choose_device, operations
from .kv_cache import KVCache
from .kv_file import load_cache
from .trace import ActivationTrace
from .transformer import Network, forward
from .weights import load_weights

__all__ = ["Model", "load_model", "to_numpy"]


def load_model(
    path: str | os.PathLike | GGUFFile,
    device: str = "auto",
    weights: str = "packed",
    precision: str = "exact",
) -> "Model":
    """Open a GGUF file as a model; its weights are mapped, on a GPU sent there, still packed.

    path: of the file, or an open GGUFFile (which the caller then closes).
    device: "cpu", "cuda" or "cuda:N" for a GPU, "auto" for the first GPU if there is one; the
    model's `device` says which it became. weights: "packed" computes from the file's own blocks;
    "float32" expands them once, at 4 bytes a weight.
    precision: "exact" multiplies the packed weights with float32 activations; "fast" rounds the
    activations first as llama.cpp does, on the CPU mostly to int8, on a GPU to float16. The first
    model of a type on a machine waits for its kernels to be compiled, with a progress bar.
    Raises: GGUFError for a damaged file or one that does not fit its metadata, UnsupportedError
        for an architecture, type or device without code, DeviceMemoryError for a model that the
        GPU has no room for, ParameterError for other arguments.
    """
    device = choose_device(device)
    if isinstance(path, GGUFFile):
        return _build(path, device, weights, precision, owns_file=False)
    gguf = open_gguf(path)
    try:
        return _build(gguf, device, weights, precision, owns_file=True)
    except BaseException:
        gguf.close()
        raise


def to_numpy(x: Any) -> np.ndarray:
    """An array that a model gave, in the host's memory."""
    return x.get() if hasattr(x, "get") else cpu.to_numpy(x)


def _build(gguf: GGUFFile, device: str, weights: str, precision: str, owns_file: bool) -> "Model":
    ops = operations(device, precision)
    _demand_packed(precision, weights)
    name = gguf.metadata.get("general.architecture")
    if not gguf.tensors:
        raise UnsupportedError(
            f"{gguf.path}: holds no tensors, only metadata such as a vocabulary; expected a model, "
            f"got 0 tensors; load_tokenizer reads its tokenizer"
        )
    if not isinstance(name, str):
        raise GGUFError(
            f"{gguf.path}: does not say its architecture; expected a string under "
            f"general.architecture, got {name!r}"
        )
    architecture = architecture_of(gguf.metadata)
    config = ModelConfig.from_metadata(gguf.metadata, gguf.tensors)
    if architecture.rotates_whole_head and config.n_rot != config.head_dim:
        raise GGUFError(
            f"{name}.rope.dimension_count: not the length of a head; expected {config.head_dim} in "
            f"architecture {name!r}, got {config.n_rot}; the file was converted wrongly"
        )
    with ops.on_device(device):
        n_bytes = _demand_room(gguf, config, device, weights, ops)
        with ops.sender(n_bytes) as send:
            loaded = load_weights(gguf, config, architecture, ops, weights, send)
    if weights == "packed" and device == "cpu":
        types = {info.type for info in gguf.tensors.values() if len(info.shape) > 1}
        compile_kernels(sorted(types), precision == "fast", _show_compiling)
        compile_row_kernels()
    network = Network(config, architecture, loaded, ops, device)
    return Model(gguf, network, precision, owns_file)


def _demand_room(gguf: GGUFFile, config: ModelConfig, device: str, weights: str, ops: Any) -> int:
    """The bytes of all weights on the current device, which is `device`.

    Raises: DeviceMemoryError if a GPU has no room for them and for what a forward pass takes.
    """
    sizes = [int(np.prod(info.shape, dtype=object)) for info in gguf.tensors.values()]
    packed = sum(info.nbytes for info in gguf.tensors.values())
    n_bytes = packed if weights == "packed" else 4 * sum(sizes)
    if device != "cpu":
        scratch = 4 * (min(max(sizes), ops.TILE_WEIGHTS) + ops.TOKENS_AT_ONCE * config.n_vocab)
        demand_memory(MemoryNeed(n_bytes, sum(sizes), scratch), ops.free_memory(), device)
    return n_bytes


def _demand_packed(precision: Any, weights: str) -> None:
    if precision == "fast" and weights == "float32":
        raise ParameterError(
            "precision: expanded weights have no fast products; expected weights='packed' with "
            "precision='fast', got weights='float32'; choose one of the two"
        )


def _show_compiling(kernels: list) -> Any:
    """A progress bar where compiling takes more than a second, which it does once a machine."""
    from tqdm.auto import tqdm  # a tenth of a second, which `import workbench` need not pay

    hidden = bool(os.environ.get("TQDM_DISABLE"))  # which tqdm's bar for notebooks overlooks
    return tqdm(kernels, "compiling CPU kernels, once", delay=1, leave=False, disable=hidden)


class Model:
    """A model ready to compute; made by `load_model`, best used in a `with` statement.

    config: its numbers; gguf: its file; device: where it computes, "cpu" or "cuda:N"; precision:
    "exact" or "fast"; tokenizer: read at first use.
    """

    def __init__(self, gguf: GGUFFile, network: Network, precision: str, owns_file: bool):
        self.gguf = gguf
        self.config: ModelConfig = network.config
        self.device, self.precision = network.device, precision
        self._network: Network | None = network
        self._graph: Any = None  # of the cache that was decoded last
        self._owns_file = owns_file

    def __repr__(self) -> str:
        config = self.config
        types = Counter()
        for info in self.gguf.tensors.values():
            types[info.type] += int(np.prod(info.shape, dtype=object))
        return (
            f"Model({config.architecture}: {config.n_layer} layers, n_embd {config.n_embd}, "
            f"{sum(types.values()) / 1e6:.2f} M weights, mostly {types.most_common(1)[0][0]}, "
            f"on {self.device})"
        )

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the weights, and of the file if `load_model` opened it."""
        self._network = self._graph = None
        if self._owns_file:
            self.gguf.close()

    @property
    def network(self) -> Network:
        """Config, architecture, weights and operations, as the forward pass takes them.

        Raises: ParameterError if the model is closed.
        """
        if self._network is None:
            raise ParameterError(
                "model: it is closed; expected an open model, got a closed one; use it inside "
                "its `with` block or load it again"
            )
        return self._network

    @cached_property
    def tokenizer(self) -> Any:
        """The file's tokenizer. Raises: UnsupportedError where there is no code for its kind."""
        return load_tokenizer(self.gguf)

    def new_cache(
        self,
        n_ctx: int | None = None,
        type_k: str | Sequence[str] = "f16",
        type_v: str | Sequence[str] = "f16",
        swa_full: bool = True,
        rotate: bool | None = None,
    ) -> KVCache:
        """An empty KV cache; n_ctx: positions, by default all the model was trained for.

        type_k, type_v: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl, or one of them for
        each layer; swa_full: False lets layers with a sliding window keep only that, which saves
        memory and forbids going back; rotate: whether a Hadamard rotation spreads the outliers of
        heads over all their numbers first, None for as llama.cpp does: with quantized types and
        heads of a multiple of 64 numbers. A GPU gives all the memory at once.
        Raises: ParameterError, DeviceMemoryError.
        """
        network, types = self.network, (type_k, type_v)
        where = (CacheOrigin(self), self.device)
        with network.here():
            return KVCache(self.config, n_ctx, *types, network.ops, swa_full, *where, rotate)

    def load_cache(self, path: str | os.PathLike) -> KVCache:
        """Open a cache that `KVCache.save` wrote, to go on from it.

        Raises: ParameterError for a damaged file, or one of another model, with what differs.
        """
        return load_cache(self, path)

    def decode_graph(self, cache: KVCache) -> Any:
        """One token of this model on the GPU as a CUDA graph, which draws its tokens there.

        cache: of this model. Raises: UnsupportedError for what the graph does not cover,
        DeviceMemoryError where the GPU has no room for it; `forward` covers all.
        """
        if self.device == "cpu":
            raise UnsupportedError(
                "decode graph: there is none on this device; expected a GPU, got the CPU; "
                "forward computes everywhere"
            )
        if self._graph is None or self._graph.cache is not cache:
            from .decode_graph import DecodeGraph  # imports cupy, which only a GPU needs

            self._graph = DecodeGraph(self.network, cache)
        return self._graph

    def forward(
        self,
        token_ids: Any,
        cache: KVCache,
        trace: ActivationTrace | None = None,
        last_only: bool = False,
    ) -> Any:
        """Send tokens through the model at the positions after those in the cache.

        token_ids: (T,) integers; cache: of this model, gets their keys and values.
        Returns: (T, n_vocab) float32 logits on the device, (1, n_vocab) of the last token if
        last_only; `to_numpy` brings them to the host.
        Raises: ParameterError, ContextFullError; the cache then is as it was.
        """
        return forward(self.network, token_ids, cache, trace, last_only)
