"""From a file to a model one can ask: `load_model` and what it gives.

Source: our own.
Left out: GPUs (a device named "cuda" is refused), and writing models.
"""

import os
import re
from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import GGUFError, ParameterError, UnsupportedError
from ..gguf import GGUFFile
from ..ops import cpu, cpu_fast
from ..ops.packed_linear import compile_kernels
from ..quants.file import open_gguf
from ..tokenizer import load_tokenizer
from .config import ModelConfig, architecture_of
from .context import turn_keys
from .kv_cache import KVCache
from .trace import ActivationTrace
from .transformer import Network, forward
from .weights import load_weights

__all__ = ["Model", "load_model", "to_numpy"]

PRECISIONS = {"exact": cpu, "fast": cpu_fast}


def load_model(
    path: str | os.PathLike | GGUFFile,
    device: str = "auto",
    weights: str = "packed",
    precision: str = "exact",
) -> "Model":
    """Open a GGUF file as a model; its weights are mapped, not read.

    path: of the file, or an open GGUFFile (which the caller then closes).
    device: "auto" or "cpu". weights: "packed" computes from the file's own blocks; "float32"
    expands them once, at 4 bytes a weight.
    precision: "exact" multiplies the packed weights with float32 activations; "fast" rounds the
    activations first as llama.cpp does, mostly to int8. The first model of a type on a machine
    waits for its kernels to be compiled, with a progress bar.
    Raises: GGUFError for a damaged file or one that does not fit its metadata, UnsupportedError
        for an architecture, type or device without code, ParameterError for other arguments.
    """
    _demand_device(device)
    if isinstance(path, GGUFFile):
        return _build(path, weights, precision, owns_file=False)
    gguf = open_gguf(path)
    try:
        return _build(gguf, weights, precision, owns_file=True)
    except BaseException:
        gguf.close()
        raise


def to_numpy(x: Any) -> np.ndarray:
    """An array that a model gave, in the host's memory."""
    return cpu.to_numpy(x)


def _demand_device(device: Any) -> None:
    if isinstance(device, str) and re.fullmatch(r"cuda(:\d+)?", device):
        raise UnsupportedError(
            f"device: this version computes on the CPU; expected 'auto' or 'cpu', got {device!r}; "
            "pass device='cpu'"
        )
    if device not in ("auto", "cpu"):
        raise ParameterError(
            f"device: no such device; expected 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r}"
        )


def _build(gguf: GGUFFile, weights: str, precision: str, owns_file: bool) -> "Model":
    _demand_precision(precision, weights)
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
    ops = PRECISIONS[precision]
    loaded = load_weights(gguf, config, architecture, ops, weights)
    if weights == "packed":
        types = {info.type for info in gguf.tensors.values() if len(info.shape) > 1}
        compile_kernels(sorted(types), precision == "fast", _show_compiling)
    return Model(gguf, Network(config, architecture, loaded, ops), owns_file)


def _demand_precision(precision: Any, weights: str) -> None:
    if precision not in PRECISIONS:
        raise ParameterError(
            f"precision: no such precision; expected one of {', '.join(PRECISIONS)}, "
            f"got {precision!r}"
        )
    if precision == "fast" and weights == "float32":
        raise ParameterError(
            "precision: expanded weights have no fast products; expected weights='packed' with "
            "precision='fast', got weights='float32'; choose one of the two"
        )


def _show_compiling(kernels: list) -> Any:
    """A progress bar where compiling takes more than a second, which it does once a machine."""
    from tqdm.auto import tqdm  # a tenth of a second, which `import workbench` need not pay

    return tqdm(kernels, "compiling CPU kernels, once", delay=1, leave=False)


class Model:
    """A model ready to compute; made by `load_model`, best used in a `with` statement.

    config: its numbers; gguf: its file; device: where it computes; precision: "exact" or "fast";
    tokenizer: read at first use.
    """

    def __init__(self, gguf: GGUFFile, network: Network, owns_file: bool):
        self.gguf = gguf
        self.config: ModelConfig = network.config
        self.device = "cpu"
        self.precision = next(name for name, ops in PRECISIONS.items() if ops is network.ops)
        self._network: Network | None = network
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
        self._network = None
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
        type_k: str = "f16",
        type_v: str = "f16",
        swa_full: bool = True,
    ) -> KVCache:
        """An empty KV cache; n_ctx: positions, by default all the model was trained for.

        type_k, type_v: "f16" or "f32"; swa_full: False lets layers with a sliding window keep only
        that, which saves memory and forbids going back. Raises: ParameterError.
        """
        ops = self.network.ops
        return KVCache(self.config, n_ctx, type_k, type_v, ops, swa_full, self._turn_keys)

    def _turn_keys(self, layer: int, keys: Any, delta: int, n_ctx: int) -> Any:
        return turn_keys(self.network, layer, keys, delta, n_ctx)

    def forward(
        self,
        token_ids: Any,
        cache: KVCache,
        trace: ActivationTrace | None = None,
        last_only: bool = False,
    ) -> Any:
        """Send tokens through the model at the positions after those in the cache.

        token_ids: (T,) integers; cache: of this model, gets their keys and values.
        Returns: (T, n_vocab) float32 logits, (1, n_vocab) of the last token if last_only.
        Raises: ParameterError, ContextFullError; the cache then is as it was.
        """
        return forward(self.network, token_ids, cache, trace, last_only)
