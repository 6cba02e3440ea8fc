"""One token of a model on a GPU as one CUDA graph: embedding, all layers, head, the next token.

    graph = DecodeGraph(network, cache)
    graph.launch()      state: token, position ─▶ decode_begin ─▶ decode_token ─▶ sampler ─▶ state

Nothing in it depends on the length of the text: token and position lie in the GPU's memory, where
the sampler moves them on, so the host may be several tokens behind. The weights are repacked once a
model (`ops/packets.py`); keys and values are written into the cache, behind what it holds.
Source: our own; the kernels are ops/kernels/decode_*. The plain pass (transformer.py) is its truth.
Left out: models that `why_not_decoded` names, several sequences.
"""

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import cupy as cp
import numpy as np

from ..errors import ContextFullError, ParameterError, UnsupportedError
from ..ops import cuda, cuda_dequantize, cuda_packets, kernels
from ..ops.cuda_sampling import DeviceSampler
from ..ops.cuda_shares import DeviceShares
from ..ops.packed import PackedTensor
from ..ops.token_shares import TokenShares
from .decode_memory import buffer_sizes, demand_graph_memory, packets_nbytes
from .decode_plan import END_PARTS, LAYER_PARTS, DecodePlan, decode_plan, why_not_decoded
from .decode_records import MATRIX
from .decode_stats import DecodeStats
from .decode_tables import (
    EXCHANGED,
    Addresses,
    layer_records,
    matrix_record,
    shares_layout,
    work_record,
)
from .kv_cache import KVCache
from .transformer import Network

__all__ = ["DecodeGraph"]

Tables = tuple[cp.ndarray, cp.ndarray, cp.ndarray, Addresses]
_PACKETS: WeakKeyDictionary = WeakKeyDictionary()  # of each network, as long as it lives


class DecodeGraph:
    """The fast path of one model and one cache.

    logits: (n_vocab,) float32 of the last token launched; state: (64,) uint32 that says which token
    comes next (`ops.cuda_sampling`); sampler, stream: where it is drawn and launched. with_stats:
    whether tokens leave what `record` and `statistics` read.
    Raises: UnsupportedError naming what the kernel has no code for, DeviceMemoryError for a GPU
    without room for a second copy of the weights.
    """

    def __init__(self, network: Network, cache: KVCache, with_stats: bool = False):
        _demand_decodable(network, cache)
        self.network, self.cache, self.with_stats = network, cache, with_stats
        with network.here():
            self._n_blocks = cp.cuda.Device().attributes["MultiProcessorCount"]
            self._plan = decode_plan(network, _shared_limit(), with_stats)
            self.stream = cp.cuda.Stream(non_blocking=True)
            self.state = cp.zeros(64, cp.uint32)
            self.logits = cp.zeros(network.config.n_vocab, cp.float32)
            self._buffers = self._take_buffers()
            self._tables = self._fill_tables(self._plan, self._buffers)
            self.sampler = DeviceSampler(self.logits, self.state)
            layout = shares_layout(network.config)
            self._shares = DeviceShares(layout, self._buffers) if with_stats else None
            cp.cuda.get_current_stream().synchronize()
            self._graph = self._capture()

    def launch(self) -> None:
        """Enqueue one token: of state's token at state's position, then draw the next one.

        Behind the last position of the cache nothing is computed.
        """
        with self.network.here():
            self._graph.launch(self.stream)

    def start(self, token_id: int) -> None:
        """Let the next launch take a token at the end of the cache, and later ones the likeliest.

        For measurements; `generate` starts the sampler itself. The cache does not count the tokens.
        Raises: ContextFullError where the cache is full.
        """
        self._demand_position(self.cache.n_past)
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

    def record(
        self, token_id: int, per_head: bool, meanwhile: Callable[[], None] = lambda: None
    ) -> TokenShares:
        """As `run`, and what the token saw, its shares as float16; one wait for both.

        per_head: shares of each head, else their mean; meanwhile: called while the GPU works.
        Returns: views of memory that the record after the next one writes over.
        Raises: ParameterError without with_stats.
        """
        shares = self._demanded_shares()
        with self.cache.appending([token_id]):
            self.start(token_id)
            with self.network.here():
                self._graph.launch(self.stream)
                taken = shares.enqueue(self.stream, self.cache.n_past + 1, per_head)
            meanwhile()
            self.stream.synchronize()
        shares.keep()
        return taken

    def statistics(self) -> DecodeStats:
        """What the last token left; it waits for it. Raises: ParameterError without with_stats."""
        shares = self._demanded_shares()
        with self.network.here():
            self.stream.synchronize()
            position = int(self.state[1]) - 1
            taken = shares.enqueue(self.stream, position + 1, type=np.float32)
            self.stream.synchronize()
            taps = cp.asnumpy(self._buffers["taps"]).reshape(self.network.config.n_layer, -1)
        parts = (taken.shares, taken.entropy, taken.k_norm, taken.v_norm)
        return DecodeStats(position, *(part.copy() for part in parts), taps)

    def phase_times(self) -> dict[str, float]:
        """Microseconds of one token by part, as one thread of the GPU sees them.

        "meet" is what thread blocks wait for one another. It runs a kernel of its own, a few times,
        from the state's position on; the cache does not count these tokens.
        Raises: ContextFullError where that is behind the cache's last.
        """
        self._demand_position(int(self.state[1]))
        n_parts = len(LAYER_PARTS) * self.network.config.n_layer + len(END_PARTS)
        with self.network.here():
            plan = decode_plan(self.network, _shared_limit(), with_marks=True)
            marks = cp.zeros(n_parts + 1, cp.uint64)
            tables = self._fill_tables(plan, {**self._buffers, "marks": marks})
            seconds = self._seconds_of_a_token(self._compile(plan), tables)
        cycles = np.diff(cp.asnumpy(marks).astype(np.int64)).astype(np.float64)
        micros = cycles / cycles.sum() * seconds * 1e6
        names = (*LAYER_PARTS * self.network.config.n_layer, *END_PARTS)
        times = dict.fromkeys(names, 0.0)
        for name, part in zip(names, micros, strict=True):
            times[name] += float(part)
        return times

    def _seconds_of_a_token(self, kernels_of: Any, tables: Tables, n: int = 4) -> float:
        """Seconds of the last of n launches of the same token."""
        with self.stream:
            for _ in range(n):
                start, end = cp.cuda.Event(), cp.cuda.Event()
                start.record()
                self._enqueue(kernels_of, tables)
                end.record()
                end.synchronize()
                self.state[1] -= 1
        return cp.cuda.get_elapsed_time(start, end) * 1e-3

    def _demand_position(self, position: int) -> None:
        if position >= self.cache.n_ctx:
            raise ContextFullError(
                f"decode graph: no slot for a token at position {position}; expected one below "
                f"n_ctx={self.cache.n_ctx}, got {position}; make a longer cache, or truncate it"
            )

    def _demanded_shares(self) -> DeviceShares:
        if self._shares is None:
            raise ParameterError(
                "statistics: this graph leaves none; expected one made with with_stats=True, got "
                "with_stats=False; make another one"
            )
        return self._shares

    def _take_buffers(self) -> dict[str, cp.ndarray]:
        network, n_rows = self.network, self.cache.n_ctx
        sizes = buffer_sizes(network, self._plan.n_warps, n_rows, self._n_blocks, self.with_stats)
        n_bytes = _nbytes(network, sum(sizes.values()))
        demand_graph_memory(n_bytes, cuda.free_memory(), network.device)
        ends = np.cumsum([sizes[name] for name in EXCHANGED])
        self._exchanged = cp.zeros(int(ends[-1]), cp.float32)
        buffers = {name: cp.zeros(n, cp.float32) for name, n in sizes.items()}
        parts = cp.split(self._exchanged, ends[:-1].tolist())
        buffers |= dict(zip(EXCHANGED, parts, strict=True))
        buffers["meetings"] = cp.zeros(2, cp.uint32)
        return {**buffers, "logits": self.logits, "state": self.state}

    def _fill_tables(self, plan: DecodePlan, buffers: Mapping[str, cp.ndarray]) -> Tables:
        """The records that the kernel reads, on the device, and all that they point to."""
        packets = _packets_of(self.network)
        kept = Addresses(lambda array: array.data.ptr, cp.asarray)
        layers = layer_records(plan, self.network, self.cache, packets[:-1], kept)
        head = np.array([matrix_record(plan, packets[-1], kept)], MATRIX)
        work = work_record(buffers, self.cache.n_ctx, kept)
        tables = (cp.asarray(table.view(np.uint8)) for table in (layers, head, work))
        return (*tables, kept)

    def _compile(self, plan: DecodePlan) -> tuple[cp.RawKernel, cp.RawKernel]:
        embedding = self.network.weights.token_embd.weight
        scale = self.network.config.embedding_scale
        begin = _module(_begin_source(embedding, scale)).get_function("decode_begin")
        token = _module(plan.source).get_function("decode_token")
        token.max_dynamic_shared_size_bytes = plan.shared_bytes
        return begin, token

    def _enqueue(self, kernels_of: tuple[cp.RawKernel, cp.RawKernel], tables: Tables) -> None:
        """Launch the kernels of a token on the current stream."""
        begin, token = kernels_of
        layers, head, work, _ = tables
        embedding, n_embd = self.network.weights.token_embd.weight, self.network.config.n_embd
        rows = embedding.raw.view(cp.uint8) if embedding.type == "F32" else embedding.raw
        codes = cuda_dequantize.device_table(embedding.type, cp.cuda.Device().id)
        start = (rows, codes, np.uint64(rows.strides[0]), np.uint32(n_embd), self.state)
        exchanged = self._exchanged
        grid = (-(-exchanged.size // (8 * kernels.THREADS)),)
        given = (*start, exchanged, np.uint32(exchanged.size), self._buffers["meetings"])
        begin(grid, (kernels.THREADS,), given)
        arguments = (layers, head, self.network.weights.output_norm.weight, work)
        sizes = ((self._n_blocks,), (self._plan.threads,))
        token(*sizes, arguments, shared_mem=self._plan.shared_bytes)
        self.sampler.enqueue()

    def _capture(self) -> Any:
        compiled = self._compiled = self._compile(self._plan)  # a graph does not keep its kernels
        with self.stream:
            self.state[3] = 1  # warm up: kernels that are stopped do nothing
            self._enqueue(compiled, self._tables)
            self.stream.synchronize()
            self.stream.begin_capture()
            self._enqueue(compiled, self._tables)
            graph = self.stream.end_capture()
            self.state[3] = 0
            self.stream.synchronize()
        return graph


def _shared_limit() -> int:
    """Bytes of shared memory that a thread block of the current device can have."""
    return cp.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]


def _demand_decodable(network: Network, cache: KVCache) -> None:
    reason = why_not_decoded(network, cache)
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


def _nbytes(network: Network, n_buffered: int) -> int:
    """Bytes that a graph needs: n_buffered float32, packets, what the plain pass works with."""
    spare = cuda.TILE_WEIGHTS + cuda.TOKENS_AT_ONCE * network.config.n_vocab
    packets = 0 if network in _PACKETS else packets_nbytes(network)
    return 4 * (n_buffered + spare) + packets


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


def _begin_source(embedding: PackedTensor, scale: float) -> kernels.Source:
    family = next(name for name, types in kernels.FAMILIES.items() if embedding.type in types)
    files = (f"dequantize_{family}.cu", "decode_begin.cu")
    macros = {
        "THREADS": kernels.THREADS,
        "CHUNKS": kernels.CHUNKS,
        "EMBEDDING": embedding.type,
        "EMBEDDING_IS_NUMBERS": int(family == "floats"),
        "EMBEDDING_SCALE": f"{float(np.float32(scale))!r}f",
        **kernels.EXCHANGE,
    }
    return kernels.Source((*kernels.SHARED, *(kernels.FOLDER / name for name in files)), macros)


def _module(source: kernels.Source) -> cp.RawModule:
    return cp.RawModule(code=source.text(), options=("-std=c++17",))
