"""Products on packed weights beside dequantize + matmul, for every type, shape and place."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from workbench.ops import PackedTensor, cpu, cpu_fast, packed_linear, packed_threads
from workbench.quants import codec_of, dequantize, quantize

TYPES = [*packed_linear.HALVES, *packed_linear.INT8_FORMS]
# Compiling takes a second for each type and family of kernels. All decoders are run by the exact
# products; of the other families those types whose code differs in more than the decoder.
TYPES_FOR_MANY_TOKENS = ("F16", "BF16", "Q4_0", "Q4_K", "Q6_K")
FAST_TYPES = ("Q4_0", "Q4_1", "Q4_K", "Q6_K")
FLOAT_SUMS = 1e-5  # float32 sums in another order: |x| about 1, weights about 0.1, 1280 terms
HALF_SUMS = 1e-2  # Q8_1 keeps the sum of its codes as float16


def packed(type, rows, n, seed=0):
    """A random weight at an odd address, as in a mapped file, and its numbers."""
    weights = np.random.default_rng(seed).standard_normal((rows, n)).astype(np.float32) / 10
    raw = quantize(weights, type)
    memory = np.empty(raw.nbytes + 3, np.uint8)[3:].reshape(raw.shape)
    memory[...] = raw
    memory.flags.writeable = False
    return PackedTensor(memory, type, (rows, n)), dequantize(raw, type)


def activations(n_tokens, n, seed=1):
    return np.random.default_rng(seed).standard_normal((n_tokens, n)).astype(np.float32)


def row_lengths(type):
    size = codec_of(type).block_size
    return {1: (1, 23, 64, 300), 32: (32, 96, 256, 544), 256: (256, 512, 1280)}[size]


@pytest.mark.parametrize("type", TYPES)
def test_exact_products_are_those_of_the_dequantized_weights(type):
    shapes = [(1, 1), (7, 1), (3, 2)]
    if type in TYPES_FOR_MANY_TOKENS:
        shapes += [(5, 3), (7, 9), (65, 6)]
    for n in row_lengths(type):
        for rows, n_tokens in shapes:
            weight, numbers = packed(type, rows, n)
            x = activations(n_tokens, n)
            expected = x.astype(np.float64) @ numbers.T.astype(np.float64)
            np.testing.assert_allclose(cpu.linear(x, weight), expected, rtol=0, atol=FLOAT_SUMS)


@pytest.mark.parametrize("type", FAST_TYPES)
def test_fast_products_are_those_of_rounded_activations_for_one_token_and_for_many(type):
    kind = packed_linear.INT8_FORMS[type]
    atol = HALF_SUMS if kind == "Q8_1" else FLOAT_SUMS
    for n in row_lengths(type):
        weight, numbers = packed(type, 7, n)
        x = activations(9, n)
        rounded = packed_linear._rounded(x, kind)
        expected = rounded.astype(np.float64) @ numbers.T.astype(np.float64)
        np.testing.assert_allclose(cpu_fast.linear(x, weight), expected, rtol=0, atol=atol)
        one = np.concatenate([cpu_fast.linear(row[None], weight) for row in x])
        np.testing.assert_allclose(one, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("type", FAST_TYPES)
def test_two_tokens_at_once_give_what_each_gives_alone_in_rows_of_any_length(type):
    for n in (512, 2560):
        weight, _ = packed(type, 5, n)
        x = activations(2, n)
        for linear in (cpu.linear, cpu_fast.linear):
            alone = np.concatenate([linear(row[None], weight) for row in x])
            np.testing.assert_array_equal(linear(x, weight), alone)


@pytest.mark.parametrize("type", ["Q4_0", "Q4_K", "Q6_K"])
def test_one_activation_alone_finds_its_own_weight(type):
    n = 512 if type != "Q4_0" else 544
    weight, numbers = packed(type, 1, n)
    for linear in (cpu.linear, cpu_fast.linear):
        one_by_one = [linear(row[None], weight)[0, 0] for row in np.eye(n, dtype=np.float32)]
        np.testing.assert_allclose(one_by_one, numbers[0], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("type", packed_linear.INT8_FORMS)
def test_every_entry_names_the_decoder_and_the_form_of_its_own_type(type):
    for family in ("float_products", "int_products", "tile_products"):
        module = import_module(f"workbench.ops.cpu_kernels.{family}")
        names = getattr(module, type.lower()).__code__.co_names
        own = {f"decode_{type.lower()}", type}
        if family != "tile_products" and type in ("Q4_0", "Q4_K", "Q6_K"):
            own = {f"row_{type.lower()}"}
        others = {"times_floats", "times_ints", "times_tiles", "times_rows", "expand_blocks"}
        assert set(names) - {*others, "X_BYTES", "RECORD_BYTES"} == own
        codec = codec_of(type)
        form = getattr(import_module("workbench.ops.cpu_kernels.forms"), type)
        assert form[:2] == (codec.block_size, codec.type_size)


@pytest.mark.parametrize("type", packed_linear.HALVES)
def test_fast_products_of_16_bit_weights_round_activations_to_the_same_16_bits(type):
    weight, numbers = packed(type, 7, 300)
    x = activations(3, 300)
    rounded = dequantize(quantize(x, type), type).astype(np.float64)
    expected = rounded @ numbers.T.astype(np.float64)
    np.testing.assert_allclose(cpu_fast.linear(x, weight), expected, rtol=0, atol=FLOAT_SUMS)


def test_q8_0_codes_are_those_of_a_hand_computed_block():
    x = np.zeros((1, 32), np.float32)
    x[0, :4] = 127, -127, 1.5, 2.5  # d = 1: halves go to the even code
    np.testing.assert_array_equal(packed_linear._rounded(x, "Q8_0")[0, :5], [127, -127, 2, 2, 0])


def test_q8_k_takes_its_scale_from_the_largest_number_with_its_sign():
    x = np.zeros((1, 256), np.float32)
    x[0, :3] = -254, 100, 3
    np.testing.assert_array_equal(packed_linear._rounded(x, "Q8_K")[0, :4], [-254, 100, 4, 0])


def test_q8_0_activations_are_those_that_quantize_writes_but_for_ties():
    x = activations(5, 320)
    expected = dequantize(quantize(x, "Q8_0"), "Q8_0")
    np.testing.assert_allclose(packed_linear._rounded(x, "Q8_0"), expected, rtol=0, atol=1e-6)


def test_zeros_give_zeros():
    weight, _ = packed("Q4_K", 3, 256)
    for linear in (cpu.linear, cpu_fast.linear):
        np.testing.assert_array_equal(
            linear(np.zeros((1, 256), np.float32), weight), np.zeros((1, 3))
        )


def test_rows_may_lie_apart_and_bytes_of_a_row_in_reverse_memory():
    weight, numbers = packed("Q8_0", 8, 64)
    x = activations(1, 64)
    every_second = PackedTensor(weight.raw[::2], "Q8_0", (4, 64))
    np.testing.assert_allclose(cpu.linear(x, every_second), x @ numbers[::2].T, atol=FLOAT_SUMS)
    columns = PackedTensor(np.asfortranarray(weight.raw), "Q8_0", (8, 64))
    np.testing.assert_allclose(cpu.linear(x, columns), x @ numbers.T, atol=FLOAT_SUMS)


def test_activations_of_any_layout_are_read_right():
    weight, numbers = packed("Q4_0", 3, 64)
    x = activations(64, 4).T
    np.testing.assert_allclose(cpu.linear(x, weight), x @ numbers.T, atol=FLOAT_SUMS)


def test_no_tokens_give_no_rows():
    weight, _ = packed("Q4_0", 3, 64)
    assert cpu.linear(np.empty((0, 64), np.float32), weight).shape == (0, 3)


def test_a_bias_is_added_in_both_modes():
    weight, numbers = packed("Q4_0", 3, 64)
    bias = np.float32([1, 2, 3])
    x = activations(2, 64)
    np.testing.assert_allclose(cpu.linear(x, weight, bias), x @ numbers.T + bias, atol=FLOAT_SUMS)
    np.testing.assert_allclose(
        cpu_fast.linear(x, weight, bias), cpu_fast.linear(x, weight) + bias, atol=FLOAT_SUMS
    )


def test_types_and_byte_orders_without_a_kernel_go_by_tiles():
    raw = quantize(activations(3, 256), "IQ4_NL")
    assert packed_linear.has_kernel(PackedTensor(raw, "IQ4_NL", (3, 256)))
    assert not packed_linear.has_kernel(PackedTensor(raw, "IQ4_NL", (3, 256), "big"))
    raw = quantize(activations(3, 256), "TQ2_0")
    weight = PackedTensor(raw, "TQ2_0", (3, 256))
    assert not packed_linear.has_kernel(weight)
    x = activations(2, 256)
    expected = x @ dequantize(raw, "TQ2_0").T
    np.testing.assert_allclose(cpu_fast.linear(x, weight), expected, atol=1e-4)


def test_many_python_threads_may_multiply_at_once():
    weight, _ = packed("Q4_0", 2048, 1024)
    xs = [activations(1, 1024, seed) for seed in range(8)]
    alone = [cpu.linear(x, weight) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda x: cpu.linear(x, weight), xs))
    np.testing.assert_array_equal(together, alone)


def test_helpers_that_went_to_sleep_are_woken():
    weight, numbers = packed("Q4_0", 2048, 1024)
    x = activations(1, 1024)
    for _ in range(3):
        np.testing.assert_allclose(cpu.linear(x, weight), x @ numbers.T, atol=FLOAT_SUMS)
        time.sleep(0.01)


def test_after_an_interrupt_products_are_shared_as_before(monkeypatch):
    weight, numbers = packed("Q4_0", 2048, 1024)
    x = activations(1, 1024)
    cpu.linear(x, weight)
    compiled, team = packed_threads._compiled(), packed_threads._team(os.getpid())

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for name in ("work", "work_alone"):
            patch.setattr(compiled, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            cpu.linear(x, weight)
    assert not team.lock.locked() and team.job is None
    np.testing.assert_allclose(cpu.linear(x, weight), x @ numbers.T, atol=FLOAT_SUMS)


def test_rows_taken_by_several_threads_are_all_rows_once_and_fewer_at_the_end():
    compiled = packed_threads._compiled()
    memory, address = packed_threads._memory()
    raw, out = np.zeros((1000, 18), np.uint8), np.zeros((1, 1000), np.float32)
    compiled.write_job(address, 2, 0, raw, 32, 0, 1, out, 16)
    taken = []
    while not taken or taken[-1][0] < 1000:
        taken.append(compiled.take_rows(address + compiled.JOB))
    starts, stops = np.array(taken[:-1]).T
    np.testing.assert_array_equal(starts, [0, *stops[:-1]])
    sizes = stops - starts
    assert stops[-1] == 1000 and sizes[0] == 240 and (np.diff(sizes) <= 0).all()
    assert memory.any()


def test_machine_code_is_stored_under_a_name_that_changes_with_any_source_file(monkeypatch):
    from workbench.ops.cpu_kernels import entry, float_products

    assert float_products.q4_0.__qualname__ == f"q4_0-{entry.STAMP}"
    read = Path.read_bytes
    assert entry._stamp() == entry.STAMP
    for name in ("simd.py", "decode.py", "tiles.py", "iq4.py"):
        changed = lambda path, name=name: read(path) + b"#" * (path.name == name)  # noqa: E731
        monkeypatch.setattr(Path, "read_bytes", changed)
        assert entry._stamp() != entry.STAMP


FORKED = """
import os, sys, numpy as np
from tests.ops.test_packed_linear import activations, packed
from workbench.ops import cpu
weight, _ = packed("Q4_0", 2048, 1024)
x = activations(1, 1024)
expected = cpu.linear(x, weight)
child = os.fork()
if child == 0:
    os._exit(0 if (cpu.linear(x, weight) == expected).all() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_multiplies_too():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, env=environment, timeout=60)
    assert done.returncode == 0


PORTABLE = """
import numpy as np
from workbench.ops import cpu, cpu_fast, packed_linear, packed_threads
from tests.ops.test_packed_linear import activations, packed
x = activations(1, 256)
for type, fast in (("IQ4_NL", False), ("Q4_0", True), ("Q4_K", False)):
    weight, numbers = packed(type, 3, 256)
    if not fast:
        np.testing.assert_allclose(cpu.linear(x, weight), x @ numbers.T, atol=1e-5)
    else:
        rounded = packed_linear._rounded(x, packed_linear.INT8_FORMS[type])
        np.testing.assert_allclose(cpu_fast.linear(x, weight), rounded @ numbers.T, atol=1e-5)
"""


def test_kernels_need_no_instruction_beyond_the_first_x86_64_or_arm_machines(tmp_path):
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", PORTABLE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
