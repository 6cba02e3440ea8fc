"""The yardsticks of a GPU are there and plausible; how large they are is never tested."""

import numpy as np

from tests.ops.test_cuda_kernels import needs_gpu


@needs_gpu
def test_a_gpu_says_who_it_is():
    from workbench.ops import cuda_clock

    facts = cuda_clock.device_facts()
    assert facts["name"] and facts["multiprocessors"] > 0 and facts["memory_bytes"] > 1 << 30
    assert facts["cuda_runtime"].count(".") == 1 and facts["cupy"]


@needs_gpu
def test_copies_and_uploads_have_a_speed():
    from workbench.ops import cuda_clock

    assert cuda_clock.copy_bandwidth(1 << 26) > 1e9
    assert cuda_clock.upload_bandwidth(1 << 24) > 1e8


@needs_gpu
def test_a_stopwatch_gives_back_results_and_adds_up_times():
    import cupy as cp

    from workbench.ops import cuda_clock

    stopwatch = cuda_clock.Stopwatch()
    ones = cp.ones(1 << 20, np.float32)
    sums = [stopwatch.time("sum", ones.sum) for _ in range(3)]
    np.testing.assert_array_equal([float(total) for total in sums], 1 << 20)
    assert list(stopwatch.totals()) == ["sum"] and stopwatch.totals()["sum"] > 0


@needs_gpu
def test_kernels_on_disk_have_names():
    from workbench.ops import cuda_clock

    cuda_clock.copy_bandwidth(1 << 24)
    assert all(name.endswith(".cubin") for name in cuda_clock.cached_kernels())
