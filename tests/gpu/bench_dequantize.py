"""Checks the dequantizing kernels against NumPy on a GPU, then times them; prints a line a type.

    PYTHONPATH=. python3 tests/gpu/bench_dequantize.py

A rate is the packed bytes, each read once, and the float16 numbers, each written once, a second.
Inputs and outputs take turns, so that together they exceed the L2 cache; launches are replayed from
a CUDA graph; the median of REPEATS replays counts. Beside it stands the share of a plain copy.
"""

import math
import sys
import time
from collections.abc import Callable

import cupy as cp
import numpy as np

from tests.ops.raw_blocks import bits, random_blocks
from workbench.ops import cuda_dequantize, kernels
from workbench.quants import CODECS
from workbench.quants import dequantize as numpy_dequantize

SHAPE = (4096, 14336)
LAUNCHES, REPEATS = 12, 15
INPUT_BYTES = 180 << 20  # three times the L2 cache of an H200
COPY_BYTES = 2 << 30
COPY_KERNEL = """
extern "C" __global__ void copy(const uint4* from, uint4* to, unsigned long long n) {
    for (unsigned long long i = blockIdx.x * 1024ull + threadIdx.x; i < n; i += gridDim.x * 1024ull)
        to[i] = from[i];
}"""


def mismatches(type: str) -> int:
    """How many numbers of a few odd sizes differ in a bit from the NumPy twin's."""
    wrong = 0
    for n_blocks in (1, 5, 333, 4000):
        raw = random_blocks(type, n_blocks, seed=n_blocks)
        with np.errstate(all="ignore"):
            expected = numpy_dequantize(raw, type)
            half = expected.astype(np.float16)
            big_endian = numpy_dequantize(raw, type, "big")
        on_gpu = cp.asarray(raw)
        for got, want in (
            (cuda_dequantize.dequantize(on_gpu, type), expected),
            (cuda_dequantize.dequantize(on_gpu, type, "float16"), half),
            (cuda_dequantize.dequantize(on_gpu, type, byte_order="big"), big_endian),
        ):
            wrong += int((bits(cp.asnumpy(got)) != bits(want)).sum())
    return wrong


def median_seconds(run: Callable[[], None], stream: cp.cuda.Stream) -> float:
    """Median seconds of REPEATS runs on the current stream, after one that does not count."""
    run()
    times = []
    for _ in range(REPEATS):
        start, end = cp.cuda.Event(), cp.cuda.Event()
        start.record(stream)
        run()
        end.record(stream)
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(start, end) * 1e-3)
    return float(np.median(times))


def copy_rates() -> dict[str, float]:
    """Bytes a second, read and written, of two ways to copy COPY_BYTES.

    Neither is part of a graph: there the same memcpy was measured at two thirds of this rate.
    """
    source, target = cp.ones(COPY_BYTES, cp.uint8), cp.empty(COPY_BYTES, cp.uint8)
    kernel = cp.RawKernel(COPY_KERNEL, "copy")
    arguments = (source, target, np.uint64(COPY_BYTES // 16))
    grid = 2 * cp.cuda.Device().attributes["MultiProcessorCount"]
    cp.cuda.Device().synchronize()
    with cp.cuda.Stream(non_blocking=True) as stream:
        ways = {
            "memcpyAsync": lambda: cp.cuda.runtime.memcpyAsync(
                target.data.ptr,
                source.data.ptr,
                COPY_BYTES,
                cp.cuda.runtime.memcpyDeviceToDevice,
                stream.ptr,
            ),
            "kernel": lambda: kernel((grid,), (1024,), arguments),
        }
        return {way: 2 * COPY_BYTES / median_seconds(run, stream) for way, run in ways.items()}


def rate(type: str) -> float:
    """Bytes a second, read and written, of SHAPE to float16."""
    cp.get_default_memory_pool().free_all_blocks()
    codec, n_weights = CODECS[type], math.prod(SHAPE)
    n_bytes = n_weights // codec.block_size * codec.type_size
    n_inputs = min(LAUNCHES, max(2, math.ceil(INPUT_BYTES / n_bytes)))
    raws = [cp.random.randint(0, 256, n_bytes, dtype=cp.uint8) for _ in range(n_inputs)]
    outs = [cp.empty(n_weights, cp.float16) for _ in range(2)]

    def launch() -> None:
        for i in range(LAUNCHES):
            cuda_dequantize._launch(raws[i % n_inputs], codec, outs[i % 2])

    launch()  # compiled and its table loaded: neither can happen within the graph
    cp.cuda.Device().synchronize()
    with cp.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        launch()
        graph = stream.end_capture()
        seconds = median_seconds(lambda: graph.launch(stream), stream)
    return LAUNCHES * (n_bytes + outs[0].nbytes) / seconds


def main() -> int:
    started = time.perf_counter()
    types = [type for types in kernels.FAMILIES.values() for type in types]
    device = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)
    print(f"{device['name'].decode()}, L2 cache {device['l2CacheSize'] >> 20} MiB")
    wrong = {type: mismatches(type) for type in types}
    print(f"checked {len(types)} types against NumPy in {time.perf_counter() - started:.1f} s")
    copies = copy_rates()
    copy = max(copies.values())
    print("copy, GB/s:", ", ".join(f"{way} {x / 1e9:.0f}" for way, x in copies.items()))
    print(f"{SHAPE[0]} x {SHAPE[1]} to float16\ntype      bits     GB/s  of the copy")
    for type in types:
        verdict, measured = f"{wrong[type]} WRONG" if wrong[type] else "equal", rate(type)
        print(f"{type:8}  {verdict:7} {measured / 1e9:5.0f}  {measured / copy:.0%}", flush=True)
    print(f"{time.perf_counter() - started:.1f} s in all")
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
