"""How fast weights come to a GPU and become packets there; checks every byte on the way.

    PYTHONPATH=. python3 tests/gpu/check_upload.py [8b:Q4_K_M]

Copies: a random model (see `workbench.analysis.synthetic`) is written to a temporary folder, so it
is in the page cache; GB/s of its bytes, beside plain copies of the same size from pinned and from
pageable memory. Repacking: TB/s of the bytes read and written, of ROWS x COLUMNS matrices that
together exceed the L2 cache, launched from a CUDA graph; the median of REPEATS counts.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cupy as cp
import numpy as np

import workbench as wb
from tests.ops.raw_blocks import random_blocks
from workbench.analysis.synthetic import synthetic_model
from workbench.ops import PackedTensor, cuda_packets, cuda_upload, packets
from workbench.quants import CODECS

COPY_BYTES, REPEATS = 1 << 30, 9
ROWS, COLUMNS = 4096, 14336
WORKING_SET = 300 << 20  # several times an L2 cache
TO_DEVICE = cp.cuda.runtime.memcpyHostToDevice


def seconds(act: Callable[[], object]) -> float:
    """Wall time of one call and all that it started."""
    cp.cuda.Device().synchronize()
    start = time.perf_counter()
    act()
    cp.cuda.Device().synchronize()
    return time.perf_counter() - start


def copy_rates() -> dict[str, float]:
    """Bytes a second of one large copy from pinned and from pageable memory."""
    target, stream = cp.empty(COPY_BYTES, cp.uint8), cp.cuda.Stream(non_blocking=True)
    pinned = np.frombuffer(cp.cuda.alloc_pinned_memory(COPY_BYTES), np.uint8, COPY_BYTES)
    rates = {}
    for name, source in (("pinned", pinned), ("pageable", np.empty(COPY_BYTES, np.uint8))):
        source[:] = 1

        def copy(address: int = source.ctypes.data) -> None:
            cp.cuda.runtime.memcpyAsync(target.data.ptr, address, COPY_BYTES, TO_DEVICE, stream.ptr)

        rates[name] = COPY_BYTES / min(seconds(copy) for _ in range(3))
    return rates


def check_upload(path: Path) -> None:
    """Prints the rate of sending a file's tensors, all kept or passing through, and one alone."""
    rates = copy_rates()
    print("copy, GB/s:", ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in rates.items()))
    with wb.open_gguf(path) as gguf:
        raws = [gguf.raw(name) for name in gguf.tensors]
        total, kept = sum(raw.nbytes for raw in raws), []

        def keep() -> None:
            kept.clear()
            with cuda_upload.Uploader(total) as uploader:
                kept.extend(uploader.send(raw) for raw in raws)

        def pass_through() -> None:
            with cuda_upload.Uploader(total) as uploader:
                for _ in uploader.each(raws):
                    pass

        for name, act in (("all kept", keep), ("passing through", pass_through)):
            for n in range(2):
                rate = total / seconds(act)
                share = rate / rates["pinned"]
                print(f"{name}, run {n}: {rate / 1e9:.1f} GB/s, {share:.0%} of pinned", flush=True)
        largest = max(raws, key=lambda raw: raw.nbytes)
        alone = largest.nbytes / seconds(lambda: cuda_upload.upload(largest))
        print(f"one tensor of {largest.nbytes / 1e6:.0f} MB alone: {alone / 1e9:.1f} GB/s")
        wrong = [i for i, raw in enumerate(raws) if not np.array_equal(cp.asnumpy(kept[i]), raw)]
        print(f"{len(raws)} tensors, {len(wrong)} of them WRONG" if wrong else "all bytes equal")


def mismatches(type: str, joined: bool) -> int:
    """Bytes that differ from NumPy's packets, or after the way back, in odd shapes."""
    wrong = 0
    for n_rows, n_columns in ((37, 768), (1, 256), (256, 2816)):
        n_blocks = n_rows * n_columns // CODECS[type].block_size
        raws = [
            random_blocks(type, n_blocks, seed).reshape(n_rows, -1) for seed in range(1 + joined)
        ]
        weights = [PackedTensor(cp.asarray(raw), type, (n_rows, n_columns)) for raw in raws]
        packed = cuda_packets.pack(*weights)
        twin = packets.pack(*raws, type) if joined else packets.pack_rows(raws[0], type)
        wrong += int((cp.asnumpy(packed.data) != twin).sum())
        for got, raw in zip(cuda_packets.unpack(packed), raws, strict=True):
            wrong += int((cp.asnumpy(got.raw) != raw).sum())
    return wrong


def graph_seconds(act: Callable[[], None]) -> float:
    """Median seconds of a CUDA graph of what act launches."""
    act()  # compiled, its tables loaded
    cp.cuda.Device().synchronize()
    times = []
    with cp.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        act()
        graph = stream.end_capture()
        for _ in range(REPEATS):
            start, end = cp.cuda.Event(), cp.cuda.Event()
            start.record(stream)
            graph.launch(stream)
            end.record(stream)
            end.synchronize()
            times.append(cp.cuda.get_elapsed_time(start, end) * 1e-3)
    return float(np.median(times))


def repack_rates(type: str) -> tuple[float, float]:
    """Bytes a second, read and written, of pack and unpack."""
    n_bytes = ROWS * COLUMNS // CODECS[type].block_size * CODECS[type].type_size
    n = -(-WORKING_SET // n_bytes)
    raws = [cp.random.randint(0, 256, n_bytes, dtype=cp.uint8).reshape(ROWS, -1) for _ in range(n)]
    weights = [PackedTensor(raw, type, (ROWS, COLUMNS)) for raw in raws]
    packed = [cuda_packets.pack(weight) for weight in weights]
    slab = cp.empty(n_bytes, cp.uint8)

    def pack() -> None:
        for weight, target in zip(weights, packed, strict=True):
            cuda_packets.pack(weight, out=target.data)

    def unpack() -> None:
        for matrix in packed:
            cuda_packets.unpack(matrix, out=slab)

    return tuple(2 * n * n_bytes / graph_seconds(act) for act in (pack, unpack))


def check_repack() -> None:
    """Prints a line a type: whether its packets are NumPy's, TB/s there and back."""
    print("type      bytes   pack TB/s  unpack TB/s")
    for type in packets.PACKET_COLUMNS:
        wrong = mismatches(type, False) + mismatches(type, True)
        verdict = f"{wrong} WRONG" if wrong else "equal"
        there, back = repack_rates(type)
        print(f"{type:8}  {verdict:6} {there / 1e12:9.2f} {back / 1e12:11.2f}", flush=True)
        cp.get_default_memory_pool().free_all_blocks()


def main(spec: str = "8b:Q4_K_M") -> None:
    check_repack()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        took = seconds(lambda: synthetic_model(path, spec, progress=False))
        size = path.stat().st_size
        print(f"{spec}: {size / 1e9:.2f} GB written in {took:.1f} s, {size / took / 1e9:.1f} GB/s")
        check_upload(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
