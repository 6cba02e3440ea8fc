"""Runs every kernel family under compute-sanitizer: memcheck and racecheck.

    python -m tests.gpu.sanitize                     all of WORK
    python -m tests.gpu.sanitize machine decode      some of it

memcheck finds reads and writes outside of an allocation (CuPy's memory pool is off, so that each
array is one); racecheck finds threads that meet in shared memory with no barrier between them. It
reported rings where one lane's arrival, after sync_warp(), speaks for what its warp has read (PTX
ISA, memory consistency model), so here every lane gives a slot back: GIVEN_BACK = 32.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

TOOLS = ("memcheck", "racecheck")
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300  # for one tool on one piece of work


def machine() -> None:
    """Each instruction."""
    from tests.gpu import check_machine

    check_machine.check(check_machine.launch_on(check_machine.module()), n_blocks=8, n_rounds=20)


def ring() -> None:
    """Weights through rings of slots, as in decoding."""
    from tests.gpu import check_machine

    check_machine.measure_ring(n_bytes=16 << 20, given_back=32)


def tests(file: str, chosen: str = "gpu"):
    """The GPU tests of a file: those whose names have a word."""

    def run() -> None:
        import pytest

        options = ["-q", "-x", "-o", "addopts=", "-p", "no:cacheprovider", "-k", chosen]
        assert pytest.main([*options, str(ROOT / "tests/ops" / file)]) == 0

    return run


def sample() -> None:
    """A few draws of every kind."""
    from tests.gpu import check_sampling
    from workbench.sampling import SamplingParams

    for name, settings in check_sampling.CASES.items():
        print(check_sampling.check(name, SamplingParams(seed=1, **settings), "flat", 5001, 3))


def shares() -> None:
    """What a token's heads saw, brought to the host."""
    from tests.gpu import check_shares

    assert check_shares.main() == 0


def decode() -> None:
    """Two tokens of the built-in model through the persistent kernel."""
    from dataclasses import replace

    import workbench as wb
    from workbench.model import decode_graph, decode_plan
    from workbench.ops import kernels

    def plan(*sizes, **asked):
        made = decode_plan.decode_plan(*sizes, **asked)
        names = {**made.source.defines, "GIVEN_BACK": 32, "ASKING": 1}
        return replace(made, source=kernels.Source(made.source.paths, names))

    decode_graph.decode_plan = plan
    with wb.load_model(ROOT / "data/stories-7m-f16.gguf", device="cuda") as model:
        cache = model.new_cache(n_ctx=64)
        model.forward([1, 2, 3], cache, last_only=True)
        graph = model.decode_graph(cache)
        print([graph.run(token).argmax() for token in (4, 5)])


WORK = {
    "machine": machine,
    "ring": ring,
    "dequantize": tests("test_cuda_kernels.py"),
    "packets": tests("test_packets.py"),
    "repack": tests("test_repack.py"),
    "flash_attention": tests("test_flash_attention.py"),
    "prefill": tests("test_prefill.py", "great_weights or rounding"),
    "sample": sample,
    "shares": shares,
    "decode": decode,
}


def inside(name: str) -> None:
    """What the sanitizer watches."""
    import cupy

    cupy.cuda.set_allocator(None)
    WORK[name]()
    cupy.cuda.Device().synchronize()


def sanitize(tool: str, name: str) -> bool:
    """Runs one piece of work under one tool and prints a line, or all it said where it is wrong."""
    start = time.perf_counter()
    options = ["--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
    command = ["compute-sanitizer", *options, sys.executable, "-m", __spec__.name, "--inside", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT)
    except subprocess.TimeoutExpired:
        print(f"{tool:10s} {name:16s} took longer than {SECONDS} s", flush=True)
        return False
    summary = re.findall(r"=+ (.* SUMMARY.*)", done.stdout)
    seconds = time.perf_counter() - start
    print(f"{tool:10s} {name:16s} {seconds:5.1f} s  {'; '.join(summary)}", flush=True)
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-3000:], flush=True)
    return done.returncode == 0


def main(names: list[str]) -> int:
    clean = [sanitize(tool, name) for name in names or WORK for tool in TOOLS]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
