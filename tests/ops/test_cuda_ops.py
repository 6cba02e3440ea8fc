"""The operations of a GPU are those of the CPU: their kernels run on the CPU, and one body on both.

Tests that take `ops` run on every device there is; the others run the kernels' text by fibers.
"""

import inspect

import numpy as np
import pytest

from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from tests.ops.raw_blocks import random_blocks
from tests.ops.test_cuda_kernels import NO_GPU, TYPES, needs_gpu
from workbench.ops import PackedTensor, cpu, kernels
from workbench.quants import CODECS, dequantize, quantize

CLOSE = 3e-6  # float32 sums in another order, functions a few units in the last place off
PRODUCT = 2e-5  # sums of some hundred products of numbers of size 1
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
THREADS = 256


@pytest.fixture(params=DEVICES)
def ops(request):
    """The operations of a device."""
    if request.param == "cpu":
        return cpu
    from workbench.ops import cuda

    return cuda


def normal(*shape, seed=0, size=1.0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(size)


def run(name, n_blocks, n_threads, *arguments):
    library = compile_for_cpu(kernels.SOURCES["plain"])
    launch(library, name, n_blocks, n_threads, n_threads // 32 * 4, *arguments)


def close(got, want, bar=CLOSE):
    np.testing.assert_allclose(got, want, rtol=bar, atol=bar)


# --- the kernels, by fibers ----------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("n", [1, 33, 300])
@pytest.mark.parametrize("weight_rows", [1, 3])
def test_norm_kernels_are_those_of_numpy(n, weight_rows):
    x, shape = normal(2, 3, n, size=3), (n,) if weight_rows == 1 else (3, n)
    weight, bias = normal(*shape, seed=1), normal(*shape, seed=2)
    for name in ("rms_norm", "layer_norm"):
        for w, b in ((weight, bias), (weight, None), (None, None)):
            out = np.full(x.shape, np.nan, np.float32)
            sizes = n, weight_rows if w is not None else 1, np.float32(1e-3)
            run(name, 6, min(THREADS, -(-n // 32) * 32), x, w, b, out, *sizes)
            close(out, getattr(cpu, name)(x, w, b, 1e-3))


RULES = {
    "plain": cpu.AttentionRules(0.3),
    "capped": cpu.AttentionRules(1.0, softcap=2.0),
    "window": cpu.AttentionRules(1.0, window=3),
    "pieces": cpu.AttentionRules(1.0, window=4, chunked=True),
    "sinks": cpu.AttentionRules(1.0, sinks=normal(4, seed=5)),
    "slopes": cpu.AttentionRules(1.0, slopes=abs(normal(4, seed=6))),
    "all": cpu.AttentionRules(0.7, 3.0, 5, False, normal(4, seed=5), abs(normal(4, seed=6))),
}


@needs_compiler
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("n_tokens", "n_seen"), [(1, 1), (1, 40), (7, 7), (5, 300)])
def test_the_kernel_of_shares_follows_the_rules(name, n_tokens, n_seen):
    rules, first = RULES[name], 300
    scores = normal(4, n_tokens, n_seen, size=4)
    want = cpu.attention_probs(scores, rules, first)
    run(
        *("shares", 4 * n_tokens, min(THREADS, -(-n_seen // 32) * 32)),
        *(scores, rules.sinks, rules.slopes, n_tokens, n_seen),
        *(first, first + n_tokens - n_seen, rules.window, int(rules.chunked)),
        *(np.float32(rules.scale), np.float32(rules.softcap)),
    )
    close(scores, want)


@needs_compiler
@pytest.mark.parametrize("kind", ["norm", "neox"])
@pytest.mark.parametrize(("head_dim", "half"), [(8, 4), (20, 5), (80, 40)])
def test_the_kernel_of_rope_turns_as_numpy(kind, head_dim, half):
    x, angles = normal(5, 3, head_dim), normal(5, half, seed=1)
    rotation = np.exp(1j * angles).astype(np.complex64)
    out = np.full(x.shape, np.nan, np.float32)
    sizes = x.size, 3 * head_dim, head_dim, half, int(kind == "neox")
    run("rope", -(-x.size // THREADS), THREADS, x, rotation, out, *sizes)
    close(out, cpu.rope(x, rotation, kind))


@needs_compiler
@pytest.mark.parametrize("types", [("f2", "f4"), ("f4", "f2")])
def test_the_kernel_of_rows_puts_them_to_their_heads(types):
    k, v = normal(3, 2, 20), normal(3, 2, 12, seed=1)
    rooms = [np.zeros((2, 9, x.shape[2]), dtype) for x, dtype in zip((k, v), types, strict=True)]
    halves = [int(dtype == "f2") for dtype in types]
    run("store_rows", 1, THREADS, k, v, *rooms, k.size, v.size, 2, 20, 12, 4, 9, *halves)
    for room, x, dtype in zip(rooms, (k, v), types, strict=True):
        np.testing.assert_array_equal(room[:, 4:7], x.transpose(1, 0, 2).astype(dtype))
        assert not room[:, :4].any() and not room[:, 7:].any()


X = np.concatenate([normal(500, size=4), np.float32([0, -0.0, 9.99, 10, 11, -10, -200, 200])])
ACTIVATIONS = {
    **{name: () for name in ("sigmoid", "silu", "relu_squared", "swiglu", "swiglu_oai", "reglu")},
    "gelu": (),
    "geglu": (),
    "soft_cap": (30.0,),
    "xielu": (0.3, 0.8, 0.5, -1e-6),
}
GATED = ("swiglu", "swiglu_oai", "reglu", "geglu")


def numbers_of(name):
    """What a kernel takes between its inputs and its output."""
    from workbench.ops.cpu_activations import gelu_table, softplus

    if name in ("gelu", "geglu"):
        return (gelu_table(),)
    if name == "xielu":
        alpha_n, alpha_p, beta, eps = ACTIVATIONS[name]
        numbers = beta + softplus(alpha_n), softplus(alpha_p), beta, eps
        return tuple(map(np.float32, numbers))
    return tuple(map(np.float32, ACTIVATIONS[name]))


@needs_compiler
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kernels_of_activations_are_those_of_numpy(name):
    inputs = (X, X[::-1].copy()) if name in GATED else (X,)
    out = np.full(X.shape, np.nan, np.float32)
    run(name, -(-X.size // THREADS), THREADS, *inputs, *numbers_of(name), out, X.size)
    close(out, getattr(cpu, name)(*inputs, *ACTIVATIONS[name]))


@needs_compiler
@pytest.mark.parametrize("type", TYPES)
def test_products_of_packed_rows_are_those_of_expanded_ones(type):
    n, n_rows = max(64, 2 * CODECS[type].block_size), 11
    raw = safe_blocks(type, n_rows, n)
    with np.errstate(all="ignore"):
        expanded = dequantize(raw, type)
    scale = abs(expanded).max()
    if not 0 < scale < 1e30:
        pytest.skip("random bits of this type are no numbers")
    x, out = normal(3, n, seed=1) / scale, np.full((3, n_rows), np.nan, np.float32)
    family = next(name for name, types in kernels.FAMILIES.items() if type in types)
    library = compile_for_cpu(kernels.SOURCES[f"matvec_{family}"])
    table = kernels.dequantize_table(type)
    launch(library, f"matvec_{type}", (2, 3), THREADS, 0, raw, table, x, out, n, n_rows)
    close(out, x @ expanded.T, PRODUCT)


# --- on every device -----------------------------------------------------------------------------


@pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU or "a GPU is here")
def test_every_operation_of_the_cpu_has_a_twin_with_the_same_arguments():
    from workbench.ops import cuda, cuda_fast

    for name in cpu.__all__:
        on_cpu, on_gpu = getattr(cpu, name), getattr(cuda, name)
        given = [list(inspect.signature(f).parameters) for f in (on_cpu, on_gpu)]
        assert given[0][: len(given[1])] == given[1], name
        assert callable(getattr(cuda_fast, name))


@pytest.mark.parametrize("type", [*TYPES, "F32"])
def test_a_product_with_packed_rows_is_that_with_expanded_ones(ops, type, monkeypatch):
    block = CODECS[type].block_size if type != "F32" else 1
    n = max(64, block)
    raw = normal(37, n) if type == "F32" else safe_blocks(type, 37, n)
    with np.errstate(all="ignore"):
        expanded = raw if type == "F32" else dequantize(raw, type)
    scale = abs(expanded).max()
    if not np.isfinite(scale) or scale == 0:
        pytest.skip("random bits of this type are no numbers")
    x, bias = normal(9, n, seed=1) / scale, normal(37, seed=2)
    weight, want = PackedTensor(ops.asarray(raw), type, (37, n)), x @ expanded.T + bias
    for n_tokens in (1, 3, 9):
        got = ops.linear(ops.asarray(x[:n_tokens]), weight, ops.asarray(bias))
        close(ops.to_numpy(got), want[:n_tokens], PRODUCT)
    monkeypatch.setattr(ops, "TILE_WEIGHTS", 5 * n)
    got = ops.linear(ops.asarray(x), weight, ops.asarray(bias))
    close(ops.to_numpy(got), want, PRODUCT)
    ids = np.array([36, 0, 36])
    np.testing.assert_array_equal(ops.to_numpy(ops.get_rows(weight, ids)), expanded[ids])


def safe_blocks(type, n_rows, n):
    """Rows of a type: quantized numbers, or random blocks of one that cannot be written."""
    try:
        return quantize(normal(n_rows, n), type, imatrix=np.ones(n, np.float32))
    except ValueError:
        return random_blocks(type, n_rows * n // CODECS[type].block_size).reshape(n_rows, -1)


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
def test_norms_read_parts_of_rows(ops, name):
    x, weight = normal(4, 3, 50), normal(40, seed=1)
    got = getattr(ops, name)(ops.asarray(x)[..., :40], ops.asarray(weight), None, 1e-5)
    close(ops.to_numpy(got), getattr(cpu, name)(x[..., :40].copy(), weight, None, 1e-5))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_attention_is_its_three_steps_by_parts_and_tiles(ops, name, dtype, monkeypatch):
    rules, q = RULES[name], normal(6, 4, 16)
    k, v = ops.kv_zeros((11, 2, 16), dtype), ops.kv_zeros((11, 2, 24), dtype)
    k[...], v[...] = ops.asarray(normal(11, 2, 16, seed=1)), ops.asarray(normal(11, 2, 24, seed=2))
    want = cpu.attention(q, ops.to_numpy(k), ops.to_numpy(v), rules, 20)
    own = ops.AttentionRules(
        *(rules.scale, rules.softcap, rules.window, rules.chunked),
        *(None if part is None else ops.asarray(part) for part in (rules.sinks, rules.slopes)),
    )
    on_device = ops.asarray(q)
    kq = ops.attention_scores(on_device, k)
    steps = ops.attention_values(ops.attention_probs(kq, own, 20), v)
    close(ops.to_numpy(steps), want, PRODUCT)
    module = inspect.getmodule(ops.attention)
    for scores, history in ((1 << 26, 1 << 26), (90, 11 * 24)):
        monkeypatch.setattr(module, "SCORES_PER_TILE", scores)
        monkeypatch.setattr(module, "HISTORY_PER_TILE", history)
        got = ops.attention(on_device, k, v, own, 20)
        close(ops.to_numpy(got), want, PRODUCT)


def test_experts_are_chosen_and_mixed(ops):
    x, logits = normal(5, 32), normal(5, 6, seed=1)
    probs = ops.expert_probs(ops.asarray(logits), "softmax")
    close(ops.to_numpy(probs), cpu.softmax(logits))
    ids = ops.choose_experts(probs, 2, ops.asarray(normal(6, seed=2)), 3, 2)
    want_ids = cpu.choose_experts(cpu.softmax(logits), 2, normal(6, seed=2), 3, 2)
    np.testing.assert_array_equal(ops.to_numpy(ids), want_ids)
    shares = ops.normalized_shares(ops.shares_of_experts(probs, ids))
    raws = [quantize(normal(6, 32, 32, seed=seed), "Q8_0") for seed in (3, 4, 5)]
    made = []
    for own in (cpu, ops):
        parts = [(PackedTensor(own.asarray(raw), "Q8_0", (6, 32, 32)), None) for raw in raws]
        given = [own.asarray(ops.to_numpy(part)) for part in (x, ids, shares)]
        mixed = own.mix_experts(*given, tuple(parts), own.swiglu, own.linear)
        made.append(own.to_numpy(mixed))
    close(made[1], made[0], PRODUCT)


def test_rows_of_keys_lie_as_the_device_wants_them(ops):
    room, room_v = ops.kv_zeros((7, 3, 8), "float16"), ops.kv_zeros((7, 3, 5), "float32")
    assert room.shape == (7, 3, 8) and not ops.to_numpy(room).any()
    k, v = normal(2, 3, 8), normal(2, 3, 6, seed=1)
    ops.put_rows(room, room_v, 2, ops.asarray(k), ops.asarray(v)[..., 1:])
    assert ops is cpu or room.transpose(1, 0, 2).flags.c_contiguous
    for got, want, dtype in ((room, k, "f2"), (room_v, v[..., 1:], "f4")):
        got = ops.to_numpy(got)
        np.testing.assert_array_equal(got[2:4], want.astype(dtype))
        assert not got[:2].any() and not got[4:].any()


def test_results_share_no_memory_with_what_they_were_made_of(ops):
    x = ops.asarray(normal(2, 3, 8))
    rotation = ops.asarray(np.ones((2, 4), np.complex64))
    for made in (ops.rms_norm(x), ops.rope(x, rotation, "norm"), ops.softmax(x), ops.silu(x)):
        made[...] = 9
    np.testing.assert_array_equal(ops.to_numpy(x), normal(2, 3, 8))
