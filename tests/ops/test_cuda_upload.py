"""What is sent to the GPU arrives, byte by byte, whatever its size and whoever waits for it."""

import numpy as np
import pytest

from tests.ops.test_cuda_kernels import needs_gpu
from workbench.errors import ParameterError

pytestmark = needs_gpu


def arrays(n_pieces: float) -> list[np.ndarray]:
    """Arrays of several shapes, one of which takes n_pieces pinned pieces."""
    from workbench.ops.cuda_upload import PIECE_BYTES

    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, int(n_pieces * PIECE_BYTES), np.uint8)
    return [large, rng.standard_normal((3, 5)).astype(np.float32), np.zeros((0, 18), np.uint8)]


def same(got: list, want: list[np.ndarray]) -> None:
    for on_device, array in zip(got, want, strict=True):
        assert on_device.dtype == array.dtype
        np.testing.assert_array_equal(on_device.get(), array)


@pytest.mark.parametrize("n_workers", [None, 1, 3])
@pytest.mark.parametrize("n_pieces", [0.4, 1, 7.3])
def test_all_arrays_are_there_after_the_with_block(n_pieces, n_workers):
    from workbench.ops.cuda_upload import Uploader

    sent = arrays(n_pieces)
    with Uploader(n_workers=n_workers) as uploader:
        got = [uploader.send(array) for array in sent]
    same(got, sent)


def test_kernels_of_the_current_stream_may_use_each_array_at_once():
    from workbench.ops.cuda_upload import Uploader

    sent = [np.full(20 << 20, i, np.uint8) for i in range(30)]  # more than is sent ahead
    with Uploader(sum(array.nbytes for array in sent)) as uploader:
        sums = [int(array.sum()) for array in uploader.each(sent)]
    assert sums == [i * (20 << 20) for i in range(30)]


def test_a_slab_is_filled_from_its_beginning():
    import cupy as cp

    from workbench.ops.cuda_upload import Uploader

    slab, array = cp.zeros(4096, cp.uint8), np.arange(1000, dtype=np.uint16).reshape(10, 100)
    with Uploader() as uploader:
        got = uploader.send(array, out=slab)
        uploader.wait()
        np.testing.assert_array_equal(got.get(), array)
    assert got.data.ptr == slab.data.ptr and not slab[2000:].any()


def test_one_array_is_uploaded_alone():
    from workbench.ops.cuda_upload import upload

    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    same([upload(array)], [array])


def test_an_array_with_gaps_is_refused():
    from workbench.ops.cuda_upload import upload

    with pytest.raises(ParameterError, match="not a contiguous array of the host"):
        upload(np.zeros((4, 4), np.uint8)[:, :2])


def test_free_memory_counts_what_cupy_holds_unused():
    import cupy as cp

    from workbench.ops.cuda_upload import free_memory

    before = free_memory()
    array = cp.empty(64 << 20, cp.uint8)
    assert free_memory() <= before - array.nbytes
    del array
    assert free_memory() >= before - (1 << 20)
