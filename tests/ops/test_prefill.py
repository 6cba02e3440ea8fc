"""What stands between the products of a prompt: the kernels of prefill.cu against NumPy."""

import numpy as np
import pytest

from tests.ops.attention_cases import normwise
from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from tests.ops.test_cuda_kernels import needs_gpu
from workbench.ops import PackedTensor, cpu, kernels
from workbench.quants import quantize

SOURCE = kernels.SOURCES["prefill"]
THREADS = SOURCE.defines["ROW_THREADS"]
CLOSE = 1e-6  # normwise: sums in another order, a fast exponential
ROUNDED = 1.5e-3  # normwise, of a product: both factors are float16, by 2**-12 of each number
LARGEST_HALF = 65504


def run(name, n_rows, *arguments):
    launch(compile_for_cpu(SOURCE), name, n_rows, THREADS, THREADS // 32 * 4, *arguments)


def poisoned(shape):
    """(T, n) float32, (T, n) float16 and (T,) float32 of what is no number."""
    return [
        np.full(shape, np.nan, np.float32),
        np.full(shape, np.nan, np.float16),
        np.full(shape[0], np.nan, np.float32),
    ]


def numbers(*shape, seed=0, size=3.0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(size)


@needs_compiler
@pytest.mark.parametrize("n", [4, 132, 1028, 2048])
def test_rms_norm_is_that_of_numpy_and_its_twin_the_same_rounded(n):
    x, weight, bias = numbers(3, n), numbers(n, seed=1), numbers(n, seed=2)
    for w, b in ((weight, bias), (weight, None), (None, None)):
        out, half, _ = poisoned(x.shape)
        run("rms_norm_rows", 3, x, w, b, out, half, n, np.float32(1e-5))
        assert normwise(out, cpu.rms_norm(x, w, b, 1e-5)) < CLOSE
        np.testing.assert_array_equal(half, out.astype(np.float16))


@needs_compiler
@pytest.mark.parametrize("n", [4, 1028])
def test_swiglu_is_that_of_numpy_and_rows_beyond_float16_are_scaled(n):
    gate, up = numbers(4, n), numbers(4, n, seed=1)
    up[1] *= 1e5
    up[2] *= 1e30
    gate[3, :4] = (-1000, 1000, 0, -100)
    out, half, scales = poisoned(gate.shape)
    run("swiglu_rows", 4, gate, up, out, half, scales, n)
    want = cpu.swiglu(gate, up)
    for row in range(4):
        assert normwise(out[row], want[row]) < CLOSE
        assert normwise(half[row] * scales[row], want[row]) < ROUNDED
    assert scales[0] == scales[3] == 1 < scales[1] < scales[2]


@needs_compiler
def test_halves_of_rows_stay_finite_and_exact_to_their_last_bit():
    sizes = np.float32([1e-3, 1, 3e4, 32768, 32769, 65504, 65536, 1e20, 3e38])
    x = numbers(len(sizes), 64)
    x *= (sizes / abs(x).max(axis=1))[:, None]
    _, half, scales = poisoned(x.shape)
    run("half_rows", len(x), x, half, scales, 64)
    assert (abs(half) <= 32768).all()
    assert (np.frexp(scales)[0] == 0.5).all() and (scales[:4] == 1).all() and scales[4] == 2
    np.testing.assert_array_equal(half, (x / scales[:, None]).astype(np.float16))


@needs_compiler
def test_products_get_their_scale_and_bias():
    y, scales, bias = numbers(3, 300), np.float32([1, 4, 2]), numbers(300, seed=1)
    for s, b in ((scales, bias), (scales, None), (None, bias), (None, None)):
        got = y.copy()
        run("finish_rows", 3, got, s, b, 300)
        want = y * (1 if s is None else s[:, None]) + (0 if b is None else b)
        np.testing.assert_array_equal(got, want.astype(np.float32))


# --- on a GPU --------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("type", ["Q4_0", "Q4_K", "Q6_K", "Q8_0", "F16", "BF16", "IQ4_XS"])
def test_products_of_the_fast_mode_are_those_of_numpy_but_for_the_rounding(type):
    import cupy as cp

    from workbench.ops import cuda_fast

    raw = quantize(numbers(100, 512, size=0.02), type)
    weight, on_gpu = (PackedTensor(f(raw), type, (100, 512)) for f in (np.asarray, cp.asarray))
    bias = numbers(100, seed=2)
    for n_tokens, size in ((1, 1), (7, 1e6), (130, 1e-3)):
        x = numbers(n_tokens, 512, seed=3, size=size)
        x[0] *= 1e3  # the others do not suffer from one great row
        given, want = cp.asarray(x), cpu.linear(x, weight, bias)
        for _ in range(2):  # the second product finds the twin
            got = cp.asnumpy(cuda_fast.linear(given, on_gpu, cp.asarray(bias)))
            for row in range(n_tokens):
                assert normwise(got[row], want[row]) < ROUNDED


@needs_gpu
def test_a_twin_is_forgotten_with_its_array():
    import cupy as cp

    from workbench.ops import cuda_fast, cuda_prefill

    eye = np.eye(512, dtype=np.float16)
    weight = PackedTensor(cp.asarray(eye.view(np.uint8)), "F16", eye.shape)
    for seed in range(20):
        x = cp.asarray(numbers(3, 512, seed=seed))
        out = cuda_fast.linear(cuda_fast.rms_norm(x, None, None, 0.0), weight)
        want = cpu.rms_norm(cp.asnumpy(x))
        assert normwise(cp.asnumpy(out), want) < ROUNDED
        del x, out
    assert not cuda_prefill._twins()._notes


@needs_gpu
def test_norms_with_great_weights_do_not_overflow():
    import cupy as cp

    from workbench.ops import cuda_fast

    x, norm = numbers(5, 512), abs(numbers(512, seed=1)) * np.float32(1e5)
    eye = np.eye(512, dtype=np.float16)
    weight = PackedTensor(cp.asarray(eye.view(np.uint8)), "F16", eye.shape)
    out = cuda_fast.linear(cuda_fast.rms_norm(cp.asarray(x), cp.asarray(norm)), weight)
    assert normwise(cp.asnumpy(out), cpu.rms_norm(x, norm)) < ROUNDED
