"""A token's shares made on the GPU and brought to pinned memory, against NumPy.

    python -m tests.gpu.check_shares

A line in the end: how many cases of tests/ops/shares_cases.py there are, and how many went wrong.
"""

import sys

import cupy as cp
import numpy as np

from tests.ops.shares_cases import CASES, assert_close, buffers_of
from workbench.ops.cuda_shares import DeviceShares
from workbench.ops.token_shares import token_shares


def check(name: str, stream: cp.cuda.Stream) -> None:
    """Raises: AssertionError for numbers that are wrong, or written over before their time."""
    layout, n_rows, n_most = CASES[name]
    buffers = buffers_of(layout, n_rows, n_most)
    there = {part: cp.asarray(array.reshape(-1)) for part, array in buffers.items()}
    cp.cuda.get_current_stream().synchronize()
    shares, kept = DeviceShares(layout, there), None
    for per_head in (True, False):
        for type in (np.float16, np.float32):
            taken = shares.enqueue(stream, n_most, per_head, type)
            stream.synchronize()
            shares.keep()
            wanted = token_shares(layout, buffers, n_most, per_head, type)
            assert_close(taken, wanted)
            if kept is not None:
                assert_close(*kept)
            kept = taken, wanted


def main() -> int:
    wrong, stream = 0, cp.cuda.Stream(non_blocking=True)
    for name in CASES:
        try:
            check(name, stream)
        except AssertionError as error:
            wrong += 1
            print(f"{name}: WRONG\n{error}")
    print(f"{len(CASES)} checks, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
