"""Scores of a token as a decode kernel leaves them, at odd sizes, and the shares made of them."""

import numpy as np

from tests.ops.fibers import compile_for_cpu, launch
from workbench.ops import kernels
from workbench.ops.token_shares import SIZES, SharesLayout, TokenShares

SAME = 2e-6  # of exp2 and log2 in float32
HALF = 1e-3  # of a float16: a share at the middle between two goes either way
SINK, RECENT = 4, 16

CASES = {  # layout, positions there is room for, positions seen
    "one position": (SharesLayout((0, 0), 3, 1, SINK, RECENT), 5, 1),
    "fewer than are summed": (SharesLayout((0,), 2, 2, SINK, RECENT), 9, 3),
    "windows": (SharesLayout((7, 0, 300, 1), 5, 1, SINK, RECENT), 320, 273),
    "more than threads": (SharesLayout((0, 0), 4, 2, SINK, RECENT), 530, 529),
    "one head": (SharesLayout((0, 64), 1, 1, SINK, RECENT), 300, 257),
    "just the threads": (SharesLayout((256,), 2, 1, 32, 32), 256, 256),
}


def buffers_of(layout: SharesLayout, n_rows: int, n_seen: int) -> dict[str, np.ndarray]:
    """scores, ends and norms; numbers that nobody may read are NaN, or from an older token."""
    rng = np.random.default_rng(n_seen)
    shape = (layout.n_layer, layout.n_head)
    scores = np.full((*shape, n_rows), np.nan, np.float32)
    scores[..., :n_seen] = rng.normal(scale=8, size=(*shape, n_seen))
    ends = np.zeros((*shape, 2), np.float32)
    for layer, window in enumerate(layout.windows):
        start = max(0, n_seen - window) if window else 0
        scores[layer, :, : start // 2] = np.nan
        seen = scores[layer, :, start:n_seen].astype(np.float64)
        ends[layer, :, 0] = seen.max(axis=1)
        ends[layer, :, 1] = np.exp2(seen - ends[layer, :, :1]).sum(axis=1)
    norms = rng.normal(size=(layout.n_layer, 2, layout.n_head_kv)).astype(np.float32)
    return {"scores": scores, "ends": ends, "norms": norms}


def kernel_shares(
    layout: SharesLayout, buffers, n_seen: int, per_head: bool, type=np.float16, order: int = 0
) -> TokenShares:
    """The kernel's, run by fibers."""
    library = compile_for_cpu(kernels.SOURCES["decode_shares"])
    memory = np.full(layout.nbytes(n_seen, per_head, type), 0xA5, np.uint8)
    n_rows = buffers["scores"].shape[2]
    sums = (layout.n_first, layout.n_last)
    numbers = (layout.n_layer, layout.n_head, layout.n_head_kv, n_rows, n_seen, *sums, per_head)
    arrays = (*buffers.values(), np.array(layout.windows, np.int32), memory)
    grid = layout.n_layer * layout.n_head
    if not per_head:
        grid += layout.n_layer * -(-n_seen // kernels.THREADS)
    name = f"decode_shares_{np.dtype(type).name}"
    sizes = (grid, kernels.THREADS, 3 * 4 * kernels.THREADS // 32)
    launch(library, name, *sizes, *arrays, np.array(numbers, SIZES), order=order)
    return layout.read(memory, n_seen, per_head, type)


def assert_close(found: TokenShares, wanted: TokenShares) -> None:
    """Raises: AssertionError where they differ by more than rounding."""
    for name, want in vars(wanted).items():
        got = getattr(found, name)
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        close = HALF if want.dtype == np.float16 else SAME
        np.testing.assert_allclose(got, want, close, 1e-7, err_msg=name)
