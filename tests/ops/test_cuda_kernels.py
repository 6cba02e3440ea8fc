"""The CUDA kernels give the bits of NumPy: on the CPU through a shim, on a GPU if one is here."""

import numpy as np
import pytest

from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from tests.ops.raw_blocks import bits, random_blocks
from workbench.errors import ParameterError
from workbench.ops import PackedTensor, kernels
from workbench.ops.kernels import SOURCES
from workbench.quants import CODECS, dequantize

TYPES = [type for types in kernels.FAMILIES.values() for type in types]
FAMILY = {type: family for family, types in kernels.FAMILIES.items() for type in types}


def gpu_is_missing() -> str:
    """Why kernels cannot run here, or nothing."""
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except ImportError:
        return "CuPy is not installed"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"there is no GPU: {error}"
    return ""


NO_GPU = gpu_is_missing()
needs_gpu = pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU or "a GPU is here")


def expected(raw: np.ndarray, type: str, dtype: str) -> np.ndarray:
    """What the NumPy twin reads, rounded to dtype."""
    with np.errstate(all="ignore"):
        return dequantize(raw, type).astype(dtype)


def run_on_cpu(raw: np.ndarray, type: str, dtype: str) -> np.ndarray:
    """The kernel's output for (n, type size) blocks."""
    n_blocks = len(raw)
    out = np.full(n_blocks * CODECS[type].block_size, 77, dtype)
    library = compile_for_cpu(SOURCES[f"dequantize_{FAMILY[type]}"])
    table, grid = kernels.dequantize_table(type), -(-out.size // kernels.WEIGHTS_PER_THREAD_BLOCK)
    name = f"dequantize_{type}_{dtype}"
    launch(library, name, grid, kernels.THREADS, 0, raw, table, out, n_blocks)
    return out


def test_every_type_that_numpy_can_read_has_a_kernel():
    assert sorted(TYPES) == sorted(CODECS)


@pytest.mark.parametrize("type", TYPES)
def test_the_table_of_a_type_is_bytes_or_nothing(type):
    table = kernels.dequantize_table(type)
    assert table is None or (table.dtype == np.uint8 and table.ndim == 1 and table.size % 16 == 0)


@needs_compiler
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernels_run_on_the_cpu_give_the_bits_of_numpy(type, dtype):
    one_thread_block = kernels.WEIGHTS_PER_THREAD_BLOCK // CODECS[type].block_size
    for n_blocks in (1, 7, one_thread_block, 2 * one_thread_block + 3):
        raw = random_blocks(type, n_blocks, seed=n_blocks)
        got, want = run_on_cpu(raw, type, dtype), expected(raw, type, dtype).reshape(-1)
        np.testing.assert_array_equal(bits(got), bits(want))


@needs_compiler
def test_the_shim_rounds_every_float16_and_its_neighbours_as_numpy():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact = halves.view(np.uint32)
    middle = exact + 0x1000  # half a step of a normal float16
    raw = np.stack([exact, middle - 1, middle, middle + 1], axis=1).reshape(-1, 1).view(np.uint8)
    got, want = run_on_cpu(raw, "F32", "float16"), expected(raw, "F32", "float16").reshape(-1)
    np.testing.assert_array_equal(bits(got), bits(want))


# --- on a GPU --------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_the_gpu_gives_the_bits_of_numpy(type, byte_order):
    from workbench.ops import cuda

    for n_blocks in (1, 5, 333):
        raw = random_blocks(type, n_blocks, seed=n_blocks)
        with np.errstate(all="ignore"):
            want = dequantize(raw, type, byte_order)
        for dtype in cuda.DTYPES:
            got = cuda.to_numpy(cuda.dequantize(cuda.asarray(raw), type, dtype, byte_order))
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(bits(got), bits(want.astype(dtype)))


@needs_gpu
def test_the_gpu_reads_rows_that_start_at_odd_addresses():
    from workbench.ops import cuda

    raw = random_blocks("Q4_K", 12).reshape(4, -1)
    shifted = cuda.asarray(np.concatenate([np.zeros(1, np.uint8), raw.reshape(-1)]))[1:]
    got = cuda.to_numpy(cuda.dequantize(shifted.reshape(raw.shape), "q4_k"))
    np.testing.assert_array_equal(bits(got), bits(expected(raw, "Q4_K", "float32")))


@needs_gpu
def test_expand_on_the_gpu_takes_rows_as_on_the_cpu():
    from workbench.ops import cuda

    raw = random_blocks("Q8_0", 12).reshape(4, -1)
    weight = PackedTensor(cuda.asarray(raw), "Q8_0", (4, 96))
    for rows in (..., 2, slice(1, 3), np.array([3, 0, 3])):
        want = expected(raw[rows], "Q8_0", "float32")
        np.testing.assert_array_equal(bits(cuda.to_numpy(cuda.expand(weight, rows))), bits(want))


@needs_gpu
def test_no_blocks_give_no_weights():
    from workbench.ops import cuda

    assert cuda.dequantize(cuda.asarray(np.zeros((3, 0), np.uint8)), "Q4_0").shape == (3, 0)


@needs_gpu
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros(18, np.uint8), "Q4_0"), ParameterError, "no array of bytes on the GPU"),
        ((17, "Q4_0"), ParameterError, "expected a multiple of 18 bytes, got 17"),
        ((18, "Q4_0", "float64"), ParameterError, "no such dtype"),
        ((18, "Q4_0", "float32", "middle"), ParameterError, "no such byte order"),
        ((18, "Q4_9"), ParameterError, "did you mean Q4_"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    from workbench.ops import cuda

    raw, *rest = arguments
    raw = cuda.asarray(np.zeros(raw, np.uint8)) if isinstance(raw, int) else raw
    with pytest.raises(error, match=message):
        cuda.dequantize(raw, *rest)
