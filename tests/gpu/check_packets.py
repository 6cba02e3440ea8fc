"""Packets on a GPU: are their products right, and how fast is the arithmetic without the memory?

    python tests/gpu/check_packets.py [type ...]

Columns: the largest error of a product against sum |w| |x|; weights a clock and SM of 8 and of 16
warps, with packets that stay in shared memory and 4096 columns; how often that is the rate at which
the memory can deliver them (4.3 TB/s over all SMs); registers.
"""

import sys
from pathlib import Path

import cupy
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.ops.packets_cases import (
    PATHS,
    TEST_KERNELS,
    finite_rows,
    planes_room,
    relative_error,
    vector,
)
from workbench.ops import kernels
from workbench.ops.packets import PACKET_COLUMNS, pack_rows, packet_bytes, tile_bytes
from workbench.quants import CODECS

BANDWIDTH = 4.3e12


def launch(kernel, grid: int, threads: int, arguments: tuple, shared: int) -> None:
    kernel.max_dynamic_shared_size_bytes = shared
    kernel((grid,), (threads,), arguments, shared_mem=shared)


def largest_error(module, type: str) -> float:
    """Over some shapes, short last packets among them."""
    small = CODECS[type].block_size < 256
    errors = []
    for M, K in (
        ((13, 96), (40, 288), (33, 11008))
        if small
        else ((13, 256), (40, 768), (33, 11008 // 256 * 256))
    ):
        raw, x = finite_rows(type, M, K, seed=M), vector(K)
        y = cupy.zeros(-(-M // 16) * 16, np.float32)
        tiles = cupy.asarray(pack_rows(raw, type))
        shared = planes_room(type, K) + packet_bytes(type, PACKET_COLUMNS[type])
        arguments = (tiles, cupy.asarray(x), y, np.int32(K))
        launch(module.get_function(f"matvec_{type}"), len(tiles), 32, arguments, shared)
        errors.append(relative_error(y.get()[:M].astype(np.float64), raw, type, x))
    return max(errors)


def rate(module, type: str, warps: int, K: int = 4096, rounds: int = 200) -> tuple[float, float]:
    """(weights a clock and SM, clocks a second)."""
    sms = cupy.cuda.Device().attributes["MultiProcessorCount"]
    C = PACKET_COLUMNS[type]
    tiles, x = cupy.asarray(pack_rows(finite_rows(type, 16, C), type)), cupy.asarray(vector(K))
    y, cycles = cupy.zeros(sms * 512, np.float32), cupy.zeros(sms, np.int64)
    shared = planes_room(type, K) + warps * packet_bytes(type, C)
    kernel = module.get_function(f"spin_{type}")
    seconds = 0.0
    for _ in range(2):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        arguments = (tiles, x, y, np.int32(K), np.int32(C), np.int32(rounds), cycles)
        launch(kernel, sms, 32 * warps, arguments, shared)
        stop.record()
        stop.synchronize()
        seconds = cupy.cuda.get_elapsed_time(start, stop) / 1e3
    clocks = float(cycles.get().mean())
    return rounds * warps * 16 * K / clocks, clocks / seconds


def compiled():
    """The kernels of tests/ops/packets_kernels.cu."""
    text = kernels.join_sources((*kernels.DECODE_SHARED, *PATHS, TEST_KERNELS), {"MEASURE": 1})
    return cupy.RawModule(code=text, options=("-std=c++17",))


def main(types: list[str]) -> None:
    module = compiled()
    sms = cupy.cuda.Device().attributes["MultiProcessorCount"]
    clock = cupy.cuda.Device().attributes.get("ClockRate", 1_980_000) * 1e3
    print(f"{clock / 1e9:.2f} GHz at most")
    print(f"{'type':8}{'error':>10}{'8 warps':>9}{'16':>7}{'x memory, 8':>13}{'16':>6}{'regs':>6}")
    for type in types:
        try:
            error = largest_error(module, type)
            (eight, _), (sixteen, seen) = rate(module, type, 8), rate(module, type, 16)
            stream = BANDWIDTH / sms / clock / (tile_bytes(type, 4096) / 65536)
            registers = module.get_function(f"spin_{type}").num_regs
            print(
                f"{type:8}{error:10.1e}{eight:9.1f}{sixteen:7.1f}{eight / stream:13.2f}"
                f"{sixteen / stream:6.2f}{registers:6}   ({seen / 1e9:.2f} GHz with the start)"
            )
        except Exception as error:  # one type's failure shall not hide the others
            print(type, repr(error)[:2000])


if __name__ == "__main__":
    main(sys.argv[1:] or list(PACKET_COLUMNS))
