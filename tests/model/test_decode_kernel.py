"""The decode kernel, run on this CPU thread by thread, gives the logits of the plain pass."""

from dataclasses import replace
from fnmatch import fnmatch
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from tests.model import tiny
from tests.model.parity_recipes import RECIPES
from tests.model.random_model import metadata_of, random_weights
from tests.model.test_more_architectures import GOLDENS
from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from workbench.model import decode_memory
from workbench.model.decode_memory import LEAST_WARPS, MOST_WARPS, buffer_sizes
from workbench.model.decode_plan import END_PARTS, LAYER_PARTS, decode_plan, why_not_decoded
from workbench.model.decode_records import MATRIX
from workbench.model.decode_stats import plain_decode_stats
from workbench.model.decode_tables import (
    EXCHANGED,
    UNWRITTEN,
    Addresses,
    layer_records,
    matrix_record,
    shares_layout,
    work_record,
)
from workbench.ops import cpu
from workbench.ops.packets import pack, pack_rows
from workbench.ops.token_shares import token_shares

SHARED = 228 << 10  # bytes that a thread block of an H200 can have
CLOSE = 2e-4  # of the largest logit: another order of sums rounds some cached numbers otherwise


class Decoder:
    """The kernel with its memory, as `DecodeGraph` has it on a GPU."""

    def __init__(self, network, cache, n_blocks, shared=SHARED, **asked):
        self.network, self.cache, self.n_blocks = network, cache, n_blocks
        self.plan = decode_plan(network, shared, **asked)
        config, self.kept = network.config, Addresses(lambda a: a.ctypes.data, np.asarray)
        layers = [layer_packets(blk) for blk in network.weights.blk]
        self.layers = layer_records(self.plan, network, cache, layers, self.kept)
        head = packets_of(network.weights.output.weight)
        self.head = np.array([matrix_record(self.plan, head, self.kept)], MATRIX)
        with_stats = asked.get("with_stats", False)
        sizes = buffer_sizes(network, self.plan.n_warps, cache.n_ctx, n_blocks, with_stats)
        self.buffers = {name: np.full(n, np.nan, np.float32) for name, n in sizes.items()}
        n_marks = len(LAYER_PARTS) * config.n_layer + len(END_PARTS) + 1
        self.buffers |= {
            "logits": np.full(config.n_vocab, np.nan, np.float32),
            "meetings": np.zeros(2, np.uint32),
            "state": np.zeros(64, np.uint32),
            "marks": np.zeros(n_marks, np.uint64),
        }
        self.work = work_record(self.buffers, cache.n_ctx, self.kept)
        self.library = compile_for_cpu(self.plan.source)

    def run(self, token_id, position, order=0):
        """The logits after a token at a position."""
        embedding = cpu.get_rows(self.network.weights.token_embd.weight, np.array([token_id]))[0]
        for name in EXCHANGED:
            self.buffers[name][:] = UNWRITTEN
        first_state = self.buffers["states"][: len(embedding)]
        first_state[:] = embedding * np.float32(self.network.config.embedding_scale)
        self.buffers["meetings"][:] = 0
        self.buffers["state"][:2] = token_id, position
        norm = self.network.weights.output_norm.weight
        sizes = (self.n_blocks, self.plan.threads, self.plan.shared_bytes)
        tables = (self.layers, self.head, norm, self.work)
        launch(self.library, "decode_token", *sizes, *tables, order=order)
        return self.buffers["logits"].copy()


def packets_of(weight, other=None):
    raw = np.ascontiguousarray(weight.raw)
    data = (
        pack_rows(raw, weight.type)
        if other is None
        else pack(raw, np.array(other.raw), weight.type)
    )
    n_rows, n_columns = weight.shape
    sizes = dict(n_tiles=len(data), n_rows=n_rows, n_columns=n_columns, tile_bytes=data.shape[1])
    return SimpleNamespace(type=weight.type, data=data, **sizes)


def layer_packets(blk):
    plain = {"attn_q": blk.attn_q, "attn_k": blk.attn_k, "attn_v": blk.attn_v}
    plain |= {"output": blk.attn_output, "down": blk.ffn_down}
    packets = {name: packets_of(part.weight) for name, part in plain.items()}
    return {**packets, "gate_up": packets_of(blk.ffn_gate.weight, blk.ffn_up.weight)}


def stored(x, type):
    """A tensor as the file gets it: matrices of a type, or F16 where its blocks do not fit."""
    if x.ndim < 2:
        return x
    if type == "F16" or x.shape[-1] % 32:
        return x.astype(np.float16)
    return wb.quantize(x, type), type, x.shape


def load(folder, name, type):
    """A model of a recipe, heads of 24 for 20, without the biases that decode has no code for."""
    golden, recipe = GOLDENS[name], RECIPES[name]
    wider = {20: 24, 40: 48, 80: 96} if "attention.key_length" in recipe.numbers else {}
    shapes = {
        tensor: tuple(wider.get(n, n) for n in shape)
        for tensor, shape in golden["shapes"].items()
        if not fnmatch(tensor, "*ffn_*.bias") and tensor != "output.bias"
    }
    numbers = {key: wider.get(n, n) for key, n in recipe.numbers.items()}
    weights = random_weights(golden["seed"], shapes, golden["head_scale"])
    path = folder / f"{name}-{type}.gguf"
    tensors = {tensor: stored(x, type) for tensor, x in weights.items()}
    wb.write_gguf(path, metadata_of(replace(recipe, numbers=numbers)), tensors)
    return wb.load_model(path, device="cpu")


def head_major(shape, dtype):
    """Slots as `ops.cuda.kv_zeros` lays them out."""
    n_rows, n_head_kv, length = shape
    return np.zeros((n_head_kv, n_rows, length), dtype).transpose(1, 0, 2)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "type", "n_past"),
    [
        ("llama", "Q8_0", 0),
        ("llama-biases", "Q4_0", 40),
        ("qwen2", "F16", 9),
        ("qwen3", "Q8_0", 30),
        ("gemma2", "F16", 45),
        ("gemma3", "Q8_0", 45),
        ("phi3", "F16", 20),
    ],
)
def test_logits_cache_and_statistics_are_those_of_the_plain_pass(
    name, type, n_past, tmp_path, monkeypatch
):
    monkeypatch.setattr(cpu, "kv_zeros", head_major)
    with load(tmp_path, name, type) as model:
        assert why_not_decoded(model.network) is None
        plain, fast = model.new_cache(n_ctx=64), model.new_cache(n_ctx=64)
        ids = np.random.default_rng(n_past).integers(0, model.config.n_vocab, n_past + 2)
        if n_past:
            model.forward(ids[:n_past], plain)
            model.forward(ids[:n_past], fast)
        decoder = Decoder(model.network, fast, n_blocks=3, with_stats=True)
        for token in ids[n_past:]:
            position = plain.n_past
            want, stats = plain_decode_stats(model.network, int(token), plain)
            got = decoder.run(int(token), position)
            with fast.appending([token]):
                pass
            np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE * np.abs(want).max())
            for layer in range(model.config.n_layer):
                np.testing.assert_allclose(fast.k(layer), plain.k(layer), atol=2e-2)
                np.testing.assert_allclose(fast.v(layer), plain.v(layer), atol=2e-2)
            layout = shares_layout(model.config)
            found = token_shares(layout, decoder.buffers, position + 1)
            np.testing.assert_allclose(found.shares.sum(axis=1), stats.mass, atol=1e-2)
            np.testing.assert_allclose(found.entropy, stats.entropy, atol=1e-2)
            np.testing.assert_allclose(found.k_norm, stats.k_norm, rtol=1e-2)
            np.testing.assert_allclose(found.v_norm, stats.v_norm, rtol=1e-2)
            taps = decoder.buffers["taps"].reshape(stats.taps.shape)
            np.testing.assert_allclose(taps, stats.taps, atol=1e-2 * np.abs(stats.taps).max())


@needs_compiler
def test_who_comes_first_and_what_is_seen_late_changes_no_bit(monkeypatch):
    monkeypatch.setattr(cpu, "kv_zeros", head_major)
    with wb.load_model(BUILTIN_MODEL, device="cpu") as model:  # layers enough to use places again
        cache = model.new_cache(n_ctx=64)
        model.forward(range(9), cache)
        decoder = Decoder(model.network, cache, n_blocks=6)
        logits = [decoder.run(5, 9, order) for order in (0, 1, 2, 7)]
        for other in logits[1:]:
            np.testing.assert_array_equal(other.view(np.uint32), logits[0].view(np.uint32))
        np.testing.assert_allclose(logits[0], model.forward([5], cache)[0], 0, CLOSE * 20)


@needs_compiler
def test_the_smallest_ring_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "kv_zeros", head_major)
    with load(tmp_path, "llama", "Q8_0") as model:
        plain, fast = model.new_cache(n_ctx=64), model.new_cache(n_ctx=64)
        want = model.forward([3], plain)[0]
        monkeypatch.setattr("workbench.model.decode_memory.MOST_ROUNDS", 1)
        decoder = Decoder(model.network, fast, n_blocks=2)
        assert decoder.plan.source.defines["N_SLOTS"] == MOST_WARPS
        got = decoder.run(3, 0, order=3)
        np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE * np.abs(want).max())


def tiny_model(folder, type, n_ff=32, **changed):
    """A tiny model with matrices of a type, and some tensors changed by a function."""
    weights = tiny.tensors()
    for layer in range(2):
        for name, shape in {"gate": (n_ff, 32), "up": (n_ff, 32), "down": (32, n_ff)}.items():
            numbers = np.random.default_rng(n_ff + layer).normal(size=shape) / np.sqrt(shape[1])
            weights[f"blk.{layer}.ffn_{name}.weight"] = numbers.astype(np.float32)
    for name, numbers in changed.items():
        weights[f"blk.1.{name.replace('__', '.')}"] = np.array(numbers, np.float32)
    tensors = {name: stored(x, type) for name, x in weights.items()}
    keys = tiny.metadata(feed_forward_length=n_ff)
    return wb.load_model(tiny.write(folder, keys, tensors), device="cpu")


@needs_compiler
@pytest.mark.parametrize("type", ["Q8_0", "F16"])
def test_vectors_too_long_for_registers_and_little_memory_are_enough(type, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "kv_zeros", head_major)
    with tiny_model(tmp_path, type, n_ff=8224) as model:  # 17 rounds of 4 warps: held are 16
        *_, least = decode_memory._choices(model.network)
        plain, fast = model.new_cache(n_ctx=64), model.new_cache(n_ctx=64)
        want = model.forward([3], plain)[0]
        decoder = Decoder(model.network, fast, n_blocks=2, shared=least.bytes)
        assert decoder.plan.n_warps == least.n_warps == LEAST_WARPS
        got = decoder.run(3, 0, order=3)
        np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE * np.abs(want).max())
        with pytest.raises(wb.UnsupportedError, match="32 and 8224 numbers are too long"):
            decode_plan(model.network, least.bytes - 1)


# What float16, digits or float32 cannot hold must not look like a number in the end.
WRONG = {
    "nan_of_a_norm": {"ffn_norm__weight": [np.nan, *[1] * 31]},
    "nan_behind_the_first_number": {"attn_norm__weight": [*[1] * 31, np.nan]},
    "value_beyond_float16": {"attn_v__bias": [7e4, *[0] * 15]},
    "key_beyond_float16": {"attn_k__bias": [7e4, *[0] * 15]},
    "square_beyond_float32": {"ffn_norm__weight": [1e25] * 32},
}


@needs_compiler
@pytest.mark.parametrize("type", ["Q8_0", "F16"])
@pytest.mark.parametrize("changed", WRONG.values(), ids=WRONG)
def test_what_is_no_number_reaches_the_logits(changed, type, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "kv_zeros", head_major)
    with tiny_model(tmp_path, type, **changed) as model:
        decoder = Decoder(model.network, model.new_cache(n_ctx=64), n_blocks=2)
        for position in range(2):
            assert not np.isfinite(decoder.run(3, position)).any()


@needs_compiler
def test_behind_a_full_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "kv_zeros", head_major)
    with tiny_model(tmp_path, "Q8_0") as model:
        cache = model.new_cache(n_ctx=32)
        decoder = Decoder(model.network, cache, n_blocks=2)
        assert np.isnan(decoder.run(3, 32)).all()
        assert not any(slots.any() for slots in cache.buffers(1))
        assert np.isfinite(decoder.run(3, 31)).all()
