"""One token of a model on a GPU as one CUDA graph: embedding, all layers, head, the next token.

    graph = DecodeGraph(network, cache)
    graph.launch()      state: token, position ─▶ decode_begin ─▶ decode_token ─▶ sampler ─▶ state

Nothing in it depends on the length of the text: token and position lie in the GPU's memory, where
the sampler moves them on, so the host may be several tokens behind. The weights are repacked once a
model (`ops/packets.py`); keys and values are written into the cache, behind what it holds.
Source: our own; the kernels are ops/kernels/decode_*. The plain pass (transformer.py) is its truth.
Left out: models that `why_not_decoded` names, several sequences.
"""

from typing import Any
from weakref import WeakKeyDictionary

import cupy as cp
import numpy as np

from ..errors import ParameterError, UnsupportedError
from ..ops import cuda_dequantize, cuda_packets, kernels
from ..ops.cuda_sampling import DeviceSampler
from ..ops.packed import PackedTensor
from .decode_plan import LAYER, MATRIX, WORK, decode_plan, why_not_decoded
from .kv_cache import KVCache
from .transformer import Network, layer_rotation

__all__ = ["DecodeGraph"]

_PACKETS: WeakKeyDictionary = WeakKeyDictionary()  # of each network, as long as it lives


class DecodeGraph:
    """The fast path of one model and one cache.

    logits: (n_vocab,) float32 of the last token launched; state: (64,) uint32 that says which token
    comes next (`ops.cuda_sampling`); sampler, stream: where it is drawn and launched. with_stats
    leaves what `statistics` reads.
    Raises: UnsupportedError naming what the kernel has no code for.
    """

    def __init__(self, network: Network, cache: KVCache, with_stats: bool = False):
        _demand_decodable(network, cache)
        self.network, self.cache, self.with_stats = network, cache, with_stats
        with network.here():
            device = cp.cuda.Device()
            self._n_blocks = device.attributes["MultiProcessorCount"]
            limit = device.attributes["MaxSharedMemoryPerBlockOptin"]
            self._plan = decode_plan(network, limit, with_stats)
            self.stream = cp.cuda.Stream(non_blocking=True)
            self.state = cp.zeros(64, cp.uint32)
            self.logits = cp.zeros(network.config.n_vocab, cp.float32)
            self._buffers = self._take_buffers()
            self._tables = self._fill_tables()
            self.sampler = DeviceSampler(self.logits, self.state)
            self._kernels = self._compile()
            cp.cuda.get_current_stream().synchronize()
            self._graph = self._capture()

    def launch(self) -> None:
        """Enqueue one token: of state's token at state's position, then draw the next one."""
        with self.network.here():
            self._graph.launch(self.stream)

    def start(self, token_id: int) -> None:
        """Let the next launch take a token at the end of the cache, and later ones the likeliest.

        For measurements; `generate` starts the sampler itself. The cache does not count the tokens.
        """
        start = np.array([token_id, self.cache.n_past, 0, 0], np.uint32)
        with self.network.here():
            self.sampler.choose_likeliest(self.stream)
            with self.stream:
                self.state[:4].set(start)
            self.stream.synchronize()

    def run(self, token_id: int) -> cp.ndarray:
        """The logits after one more token at the end of the cache, which then holds it.

        Returns: (n_vocab,) float32, overwritten by the next token. For tests: it waits.
        """
        with self.cache.appending([token_id]):
            self.start(token_id)
            self.launch()
            self.stream.synchronize()
        return self.logits

    def _take_buffers(self) -> dict[str, cp.ndarray]:
        config, n_rows = self.network.config, self.cache.n_ctx
        heads, most_splits = config.n_head * config.head_dim, self._n_blocks
        sizes = {
            **{name: config.n_embd for name in ("x", "other_x", "branch")},
            "qkv": heads + config.n_embd_k + config.n_embd_v,
            "mixed": heads,
            "hidden": config.n_ff,
            "split_sums": heads * most_splits,
            "split_ends": 2 * config.n_head * most_splits,
        }
        if self.with_stats:
            sizes["scores"] = config.n_layer * config.n_head * n_rows
            sizes["ends"] = 2 * config.n_layer * config.n_head
            sizes["taps"] = config.n_layer * config.n_embd
            sizes["norms"] = 2 * config.n_layer * config.n_head_kv
        buffers = {name: cp.zeros(n, cp.float32) for name, n in sizes.items()}
        buffers["barrier"] = cp.zeros(1, cp.uint32)
        buffers["arrivals"] = cp.zeros(config.n_head, cp.uint32)
        return {**buffers, "logits": self.logits, "state": self.state}

    def _fill_tables(self) -> dict[str, cp.ndarray]:
        """The records that the kernel reads, on the device; `_kept` holds what they point to."""
        self._kept: list[Any] = []
        packets = _packets_of(self.network)
        self._rotations: dict[Any, cp.ndarray] = {}
        layers = np.zeros(self.network.config.n_layer, LAYER)
        for number in range(len(layers)):
            self._fill_layer(layers[number], number, packets[number])
        head = np.array([self._matrix(packets[-1])], MATRIX)
        work = np.zeros(1, WORK)
        for name, buffer in self._buffers.items():
            work[name] = buffer.data.ptr
        work["n_rows"], work["most_splits"] = self.cache.n_ctx, self._n_blocks
        records = {"layers": layers, "head": head, "work": work}
        return {name: cp.asarray(table.view(np.uint8)) for name, table in records.items()}

    def _fill_layer(self, record: np.ndarray, number: int, packets: dict[str, Any]) -> None:
        network, rules = self.network, self.network.architecture
        blk, config = network.weights.blk[number], network.config.of_layer(number)
        record["attn"] = [self._matrix(packets[f"attn_{name}"]) for name in "qkv"]
        for name in ("output", "gate_up", "down"):
            record[name] = self._matrix(packets[name])
        norms = {
            "attn_norm": blk.attn_norm.weight,
            "ffn_norm": getattr(blk, rules.ffn_norm).weight,
            "attn_post_norm": _part(blk, rules.attn_post_norm),
            "ffn_post_norm": _part(blk, rules.ffn_post_norm),
            "q_norm": blk.attn_q_norm.weight,
            "k_norm": blk.attn_k_norm.weight,
            "output_bias": blk.attn_output.bias,
            "biases": _joined_biases(blk, config),
            "rotation": self._rotation(number),
        }
        for name, array in norms.items():
            record[name] = self._address(array)
        k, v = self.cache.buffers(number)
        record["k"], record["v"] = k.data.ptr, v.data.ptr
        record["window"] = config.n_swa

    def _matrix(self, packed: cuda_packets.Packets) -> tuple:
        kind = self._plan.types.index(packed.type)
        sizes = (packed.n_tiles, packed.n_rows, packed.tile_bytes, packed.n_columns, kind, 0)
        return (self._address(packed.data), *sizes)

    def _address(self, array: Any) -> int:
        if array is None:
            return 0
        self._kept.append(array)
        return array.data.ptr

    def _rotation(self, layer: int) -> cp.ndarray | None:
        rope = self.network.config.of_layer(layer).rope
        if rope is not None and rope not in self._rotations:
            positions = np.arange(self.cache.n_ctx)
            made = layer_rotation(self.network, layer, positions, self.cache.n_ctx)
            self._rotations[rope] = cp.asarray(made)
        return None if rope is None else self._rotations[rope]

    def _compile(self) -> tuple[cp.RawKernel, cp.RawKernel]:
        embedding = self.network.weights.token_embd.weight
        scale = self.network.config.embedding_scale
        begin = _module(_begin_source(embedding, scale)).get_function("decode_begin")
        token = _module(self._plan.source).get_function("decode_token")
        token.max_dynamic_shared_size_bytes = self._plan.shared_bytes
        return begin, token

    def _enqueue(self) -> None:
        """Launch the kernels of a token on the current stream."""
        begin, token = self._kernels
        embedding, buffers, tables = self.network.weights.token_embd.weight, self._buffers, {}
        tables = self._tables
        n_embd = self.network.config.n_embd
        grid = -(-n_embd // (8 * kernels.THREADS))
        rows = embedding.raw.view(cp.uint8) if embedding.type == "F32" else embedding.raw
        codes = cuda_dequantize.device_table(embedding.type, cp.cuda.Device().id)
        arguments = (rows, codes, np.uint64(rows.strides[0]), np.uint32(n_embd), self.state)
        begin((grid,), (kernels.THREADS,), (*arguments, buffers["x"], buffers["barrier"]))
        norm = self.network.weights.output_norm.weight
        token(
            (self._n_blocks,),
            (self._plan.threads,),
            (tables["layers"], tables["head"], norm, tables["work"]),
            shared_mem=self._plan.shared_bytes,
        )
        self.sampler.enqueue()

    def _capture(self) -> Any:
        with self.stream:
            self.state[3] = 1  # warm up: kernels that are stopped do nothing
            self._enqueue()
            self.stream.synchronize()
            self.stream.begin_capture()
            self._enqueue()
            graph = self.stream.end_capture()
            self.state[3] = 0
            self.stream.synchronize()
        return graph


def _demand_decodable(network: Network, cache: KVCache) -> None:
    reason = why_not_decoded(network)
    if reason is None and (cache.type_k, cache.type_v) != ("f16", "f16"):
        reason = f"a cache of type k {cache.type_k}, v {cache.type_v} (f16 has code)"
    if reason is None and any(cache.first(layer) for layer in range(cache.n_layer)):
        reason = "a cache whose layers keep only their window"
    if reason is None and not cache.swa_full:
        reason = "a cache with swa_full=False"
    if reason is not None:
        raise UnsupportedError(
            f"decode graph: no code for {reason}; expected a model of the fast path, got "
            f"{network.config.architecture!r}; the plain pass (model.forward) runs it"
        )
    if cache.device != network.device:
        raise ParameterError(
            f"cache: on another device; expected {network.device}, got {cache.device}; make it "
            "with model.new_cache()"
        )


def _packets_of(network: Network) -> list[Any]:
    """The packets of each layer by name, and in the end those of the head; made once a model."""
    if network not in _PACKETS:
        made: list[Any] = [_layer_packets(blk) for blk in network.weights.blk]
        made.append(cuda_packets.pack(_whole(network.weights.output.weight)))
        _PACKETS[network] = made
    return _PACKETS[network]


def _layer_packets(blk: Any) -> dict[str, Any]:
    plain = {"attn_q": blk.attn_q, "attn_k": blk.attn_k, "attn_v": blk.attn_v}
    plain |= {"output": blk.attn_output, "down": blk.ffn_down}
    packets = {name: cuda_packets.pack(_whole(part.weight)) for name, part in plain.items()}
    joined = _whole(blk.ffn_gate.weight), _whole(blk.ffn_up.weight)
    return {**packets, "gate_up": cuda_packets.pack(*joined)}


def _whole(weight: PackedTensor) -> PackedTensor:
    """With rows that lie together."""
    raw = cp.ascontiguousarray(weight.raw)
    return PackedTensor(raw, weight.type, weight.shape, weight.byte_order)


def _part(blk: Any, name: str) -> Any:
    return getattr(blk, name).weight if name else None


def _joined_biases(blk: Any, config: Any) -> cp.ndarray | None:
    """Biases of queries, keys and values one after another, zeros where one is missing."""
    parts = (blk.attn_q.bias, blk.attn_k.bias, blk.attn_v.bias)
    if all(bias is None for bias in parts):
        return None
    sizes = (config.n_embd_q, config.n_embd_k, config.n_embd_v)
    return cp.concatenate(
        [
            cp.zeros(n, cp.float32) if bias is None else bias
            for bias, n in zip(parts, sizes, strict=True)
        ]
    )


def _begin_source(embedding: PackedTensor, scale: float) -> kernels.Source:
    family = next(name for name, types in kernels.FAMILIES.items() if embedding.type in types)
    files = (f"dequantize_{family}.cu", "decode_begin.cu")
    macros = {
        "THREADS": kernels.THREADS,
        "CHUNKS": kernels.CHUNKS,
        "EMBEDDING": embedding.type,
        "EMBEDDING_IS_NUMBERS": int(family == "floats"),
        "EMBEDDING_SCALE": f"{float(np.float32(scale))!r}f",
    }
    return kernels.Source((*kernels.SHARED, *(kernels.FOLDER / name for name in files)), macros)


def _module(source: kernels.Source) -> cp.RawModule:
    return cp.RawModule(code=source.text(), options=("-std=c++17",))
