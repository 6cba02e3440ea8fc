"""The decode kernel on the CPU, every thread a fiber, gives the logits of the plain pass."""

import numpy as np
import pytest

import workbench as wb
from tests.model.tiny import METADATA
from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from workbench.model.decode_plan import LAYER, MATRIX, WORK, decode_plan, why_not_decoded
from workbench.model.transformer import layer_rotation
from workbench.ops import packets

pytestmark = needs_compiler

N_BLOCKS = 3  # thread blocks, which wait for each other
SHARED_LIMIT = 227 << 10
CLOSE = 2e-5  # of the largest logit: sums in another order, keys and values as float16
SIZES = {
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "llama.vocab_size": 75,
}
SHAPES = {
    "attn_q": (256, 256),
    "attn_k": (64, 256),
    "attn_v": (64, 256),
    "attn_output": (256, 256),
    "ffn_gate": (512, 256),
    "ffn_up": (512, 256),
    "ffn_down": (256, 512),
}


def write_model(path, type: str, v_type: str):
    """Two layers of random weights; values and the head in a type of their own."""
    rng = np.random.default_rng(7)

    def matrix(shape, type):
        x = (rng.standard_normal(shape) / 16).astype(np.float32)
        return (wb.quantize(x, type), type, shape)

    tensors = {
        "token_embd.weight": rng.standard_normal((75, 256)).astype(np.float32),
        "output.weight": matrix((75, 256), v_type),
        "output_norm.weight": np.ones(256, np.float32),
    }
    for layer in range(2):
        for name, shape in SHAPES.items():
            own = v_type if name == "attn_v" else type
            tensors[f"blk.{layer}.{name}.weight"] = matrix(shape, own)
        for name in ("attn_norm", "ffn_norm"):
            weight = rng.uniform(0.5, 1.5, 256).astype(np.float32)
            tensors[f"blk.{layer}.{name}.weight"] = weight
    wb.write_gguf(path, METADATA | SIZES, tensors)


class Memory:
    """Arrays at addresses like those of GPU memory, kept as long as this lives."""

    def __init__(self):
        self.kept = []

    def put(self, array) -> int:
        """The address of a copy of an array, or 0 for None."""
        return 0 if array is None else self.room(array).ctypes.data

    def room(self, array) -> np.ndarray:
        array = np.ascontiguousarray(array)
        memory = np.empty(array.nbytes + 64, np.uint8)
        self.kept.append(memory)
        start = -memory.ctypes.data % 64
        copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy


def matrix_record(memory, types, weight, other=None):
    raw = weight.raw
    tiles = packets.pack(raw, other.raw, weight.type) if other else packets.pack_rows(raw, weight.type)
    sizes = (len(tiles), weight.shape[0], tiles.shape[1], weight.shape[1])
    return (memory.put(tiles), *sizes, types.index(weight.type), 0)


def layer_record(memory, types, network, cache, number):
    blk, record = network.weights.blk[number], np.zeros((), LAYER)
    for i, part in enumerate((blk.attn_q, blk.attn_k, blk.attn_v)):
        record["attn"][i] = matrix_record(memory, types, part.weight)
    record["output"] = matrix_record(memory, types, blk.attn_output.weight)
    record["gate_up"] = matrix_record(memory, types, blk.ffn_gate.weight, blk.ffn_up.weight)
    record["down"] = matrix_record(memory, types, blk.ffn_down.weight)
    record["attn_norm"] = memory.put(blk.attn_norm.weight)
    record["ffn_norm"] = memory.put(blk.ffn_norm.weight)
    positions = np.arange(cache.n_ctx)
    record["rotation"] = memory.put(layer_rotation(network, number, positions, cache.n_ctx))
    for name, rows in zip("kv", cache.buffers(number), strict=True):
        record[name] = memory.put(np.asarray(rows, np.float16).transpose(1, 0, 2))
    return record


def run_token(model, cache, token_id: int, order: int) -> np.ndarray:
    """The logits of one more token through the kernel; the cache stays as it is."""
    network, memory = model.network, Memory()
    config, weights = network.config, network.weights
    assert why_not_decoded(network) is None
    plan = decode_plan(network, SHARED_LIMIT)
    layers = [layer_record(memory, plan.types, network, cache, i) for i in range(config.n_layer)]
    head = np.array([matrix_record(memory, plan.types, weights.output.weight)], MATRIX)
    heads = config.n_head * config.head_dim
    sizes = {
        **{name: config.n_embd for name in ("other_x", "branch")},
        "qkv": heads + config.n_embd_k + config.n_embd_v,
        "mixed": heads,
        "hidden": config.n_ff,
        "logits": config.n_vocab,
        "split_sums": heads * N_BLOCKS,
        "split_ends": 2 * config.n_head * N_BLOCKS,
    }
    buffers = {name: memory.room(np.full(n, np.nan, np.float32)) for name, n in sizes.items()}
    x = network.ops.expand(weights.token_embd.weight, np.array([token_id]))
    buffers["x"] = memory.room(x * np.float32(config.embedding_scale))
    buffers["barrier"] = memory.room(np.zeros(1, np.uint32))
    buffers["arrivals"] = memory.room(np.zeros(config.n_head, np.uint32))
    buffers["state"] = memory.room(np.array([token_id, cache.n_past, 0, 0], np.uint32))
    work = np.zeros(1, WORK)
    for name, buffer in buffers.items():
        work[name] = buffer.ctypes.data
    work["n_rows"], work["most_splits"] = cache.n_ctx, N_BLOCKS
    library = compile_for_cpu(plan.source)
    tables = (np.array(layers, LAYER), head, weights.output_norm.weight, work)
    sizes = (N_BLOCKS, plan.threads, plan.shared_bytes)
    launch(library, "decode_token", *sizes, *tables, order=order)
    return buffers["logits"]


@pytest.mark.parametrize(
    ("type", "v_type", "order"),
    [("Q4_0", "Q6_K", 0), ("Q4_K", "Q6_K", 5), ("Q8_0", "Q5_1", 1), ("F16", "F16", 3)],
)
def test_a_token_through_the_kernel_has_the_logits_of_the_plain_pass(tmp_path, type, v_type, order):
    path = tmp_path / "model.gguf"
    write_model(path, type, v_type)
    with wb.load_model(path, device="cpu", precision="exact") as model:
        cache = model.new_cache(n_ctx=64)
        model.forward([3, 14, 15, 9, 26, 5, 35], cache)
        got = run_token(model, cache, 8, order)
        want = model.forward([8], cache)[-1]
    np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE * np.abs(want).max())
