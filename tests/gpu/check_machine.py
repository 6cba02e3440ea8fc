"""Checks each instruction behind our names on the GPU, and measures those that wait.

    python -m tests.gpu.check_machine

The kernels are tests/ops/machine.cu, the answers those of tests/ops/machine_cases.py.
"""

import ctypes
import traceback

import cupy as cp
import numpy as np

from tests.ops import machine_cases
from workbench.ops import kernels


def module() -> cp.RawModule:
    path = kernels.FOLDER.parents[2] / "tests/ops/machine.cu"
    source = kernels.join_sources([*kernels.DECODE_SHARED, path], {})
    return cp.RawModule(code=source, options=("-std=c++17",))


def launch_on(kernels_here: cp.RawModule):
    """A launch for the cases: NumPy arrays travel to the GPU and back."""

    def launch(name, grid, threads, shared_bytes, *arguments):
        there = [cp.asarray(x) if isinstance(x, np.ndarray) else np.int32(x) for x in arguments]
        kernel = kernels_here.get_function(name)
        if shared_bytes > 48 << 10:
            kernel.max_dynamic_shared_size_bytes = shared_bytes
        kernel((grid,), (threads,), tuple(there), shared_mem=shared_bytes)
        for x, y in zip(arguments, there, strict=True):
            if isinstance(x, np.ndarray):
                x[...] = y.get()

    return launch


def check(launch, n_blocks: int = 132, n_rounds: int = 1000) -> None:
    cases = [(case.__name__, case, {}) for case in machine_cases.CASES]
    wait = machine_cases.thread_blocks_wait_for_each_other
    many = {"grid": n_blocks, "n_rounds": n_rounds}
    cases.append((f"{n_blocks} thread blocks wait for each other", wait, many))
    for name, case, options in cases:
        try:
            case(launch, **options)
            print("right ", name, flush=True)
        except Exception:
            print("WRONG ", name, flush=True)
            traceback.print_exc()


def seconds(work, n: int = 5) -> float:
    """The least time of n runs, measured by events on the stream."""
    times = []
    for _ in range(n):
        start, end = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(start, end) / 1e3)
    return min(times)


def measure_barrier(kernels_here: cp.RawModule, n: int = 1000) -> None:
    kernel = kernels_here.get_function("pass_on")
    for threads in (64, 288, 544):
        two, arrived = cp.zeros((2, 132, threads), cp.float32), cp.zeros(1, cp.uint32)

        def work(two=two, arrived=arrived, threads=threads):
            arrived.fill(0)
            kernel((132,), (threads,), (two, arrived, np.int32(n)))

        print(f"grid barrier, 132 x {threads} threads: {seconds(work) / n * 1e6:.2f} us a round")


def measure_ring(n_bytes: int = 2 << 30, given_back: int = 1) -> None:
    """How fast 132 rings take bytes in, for several sizes, with and without waiting for all."""
    path = kernels.FOLDER.parents[2] / "tests/gpu/machine_speed.cu"
    source = kernels.join_sources([*kernels.DECODE_SHARED, path], {"GIVEN_BACK": given_back})
    kernel = cp.RawModule(code=source, options=("-std=c++17",)).get_function("read_packets")
    kernel.max_dynamic_shared_size_bytes = 227 << 10
    n_blocks = cp.cuda.runtime.getDeviceProperties(0)["multiProcessorCount"]
    data = cp.random.default_rng(0).integers(0, 2**32, n_bytes // 4, np.uint32)
    out, arrived = cp.zeros(n_blocks * 1024, cp.uint32), cp.zeros(1, cp.uint32)
    print("packet  slots  ring KB  readers  phase KB  lanes   TB/s")

    def run(packet, slots, readers=8, phase=0, lanes=1):
        n_packets = data.nbytes // (packet * n_blocks)
        sizes = [n_packets, packet, slots, phase, lanes]

        def work():
            out.fill(0)
            arrived.fill(0)
            arguments = (data, out, arrived, *map(np.int32, sizes))
            shared = 2048 + slots * packet
            kernel((n_blocks,), (32 * readers + 32,), arguments, shared_mem=shared)

        taken = n_packets * packet * n_blocks
        speed = taken / seconds(work) / 1e12
        words = data[: taken // 4].reshape(-1, 4)
        want = ((words[:, 0] ^ words[:, 1]) + (words[:, 2] ^ words[:, 3])).sum(dtype=np.uint32)
        wrong = "" if want == out.sum(dtype=np.uint32) else "   WRONG"
        print(
            f"{packet:6d} {slots:6d} {slots * packet >> 10:8d} {readers:8d} "
            f"{phase * packet >> 10:9d} {lanes:6d} {speed:6.3f}{wrong}",
            flush=True,
        )

    for packet, slots in ((2304, 64), (4608, 16), (4608, 32), (9216, 16)):
        for lanes in (1, 2, 4, 8):
            run(packet, slots, lanes=lanes)
    for readers, slots in ((4, 32), (11, 33), (15, 30)):
        run(4608, slots, readers)
    for slots in (16, 32):  # a phase of 28 packets is 17 MB of weights on 132 thread blocks
        for phase in (12, 24, 36, 60, 192):
            run(4608, slots, 8, phase)


class Configuration(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("threads", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("n_attributes", ctypes.c_uint),
    )


def launch_early(kernel: cp.RawKernel, array: cp.ndarray, stream: cp.cuda.Stream) -> None:
    """Launches one warp that may start before the kernel before it has ended."""
    early = (ctypes.c_int * 18)(6, 0, 1)  # CUlaunchAttribute: programmatic serialization: yes
    one, warp = (ctypes.c_uint * 3)(1, 1, 1), (ctypes.c_uint * 3)(32, 1, 1)
    configuration = Configuration(one, warp, 0, stream.ptr, ctypes.addressof(early), 1)
    pointer = ctypes.c_void_p(array.data.ptr)
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(pointer))
    function = ctypes.c_void_p(kernel.kernel.ptr)
    cuda = ctypes.CDLL("libcuda.so.1")
    status = cuda.cuLaunchKernelEx(ctypes.byref(configuration), function, arguments, None)
    assert status == 0, f"cuLaunchKernelEx answers {status}"


def check_early_starts(kernels_here: cp.RawModule, n: int = 2000) -> None:
    """A graph of kernels, each of which waits for what the one before wrote, counts right."""
    kernel, number = kernels_here.get_function("count_up"), cp.zeros(1, cp.float32)
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        launch_early(kernel, number, stream)  # loads it, which a capture cannot
        stream.begin_capture()
        for _ in range(n):
            launch_early(kernel, number, stream)
        graph = stream.end_capture()
        took = seconds(graph.launch, 4)
    right = float(number.get()[0]) == 4 * n + 1
    print(f"{'right ' if right else 'WRONG '} early starts, {took / n * 1e6:.2f} us a kernel")


def main() -> None:
    kernels_here = module()
    check(launch_on(kernels_here))
    for part, given in (
        (check_early_starts, (kernels_here,)),
        (measure_barrier, (kernels_here,)),
        (measure_ring, ()),
    ):
        try:
            part(*given)
        except Exception:
            traceback.print_exc()


if __name__ == "__main__":
    main()
