"""All matrices of a token stream through the ring of slots and give the products of NumPy."""

from functools import cache

import numpy as np
import pytest

from tests.ops.fibers import compile_for_cpu, launch, needs_compiler
from tests.ops.packets_cases import PATHS, finite_rows, relative_error
from workbench.model.decode_records import LAYER, MATRIX
from workbench.ops import kernels
from workbench.ops.packets import PACKET_COLUMNS, pack_rows, packet_bytes, tile_bytes

TYPES = ("Q4_0", "Q8_0", "Q6_K")
N_WARPS, N_SLOTS, N_LAYER, MOST_ROWS = 3, 6, 2, 160
PLANE_BYTES = 8192
KERNELS = kernels.FOLDER.parents[2] / "tests/ops/stream_kernels.cu"
CLOSE = 1e-6  # of sum |w| |x|: float32 sums in another order
# (rows, columns, type) of q, k, v, output, gate and up, down; rows of fewer tiles than thread
# blocks and of more than a group, columns of less than a packet and of no whole number of them.
LAYERS = (
    *((33, 576, "Q4_0"), (16, 576, "Q8_0"), (40, 576, "Q4_0")),
    *((5, 1280, "Q6_K"), (160, 256, "Q6_K"), (48, 96, "Q8_0")),
)


@cache
def library(architecture: int):
    slot = max(packet_bytes(type, PACKET_COLUMNS[type]) for type in TYPES)
    names = {
        "N_WARPS": N_WARPS,
        "N_SLOTS": N_SLOTS,
        "SLOT_BYTES": slot,
        "PLANE_BYTES": PLANE_BYTES,
        "N_LAYER": N_LAYER,
        "MOST_ROWS": MOST_ROWS,
        "PACKET_TYPES(CASE)": " ".join(f"CASE({i}, {type})" for i, type in enumerate(TYPES)),
    }
    files = ("decode_records.cuh", "decode_stream.cuh")
    paths = (*PATHS, *(kernels.FOLDER / name for name in files), KERNELS)
    shared = 2048 + 1400 * N_WARPS + PLANE_BYTES + N_SLOTS * slot
    return compile_for_cpu(paths, names, architecture), shared


def record(raw: np.ndarray, K: int, type: str) -> tuple[tuple, np.ndarray]:
    """A MATRIX, and the packets that it points to."""
    tiles = pack_rows(raw, type)
    sizes = (len(tiles), len(raw), tile_bytes(type, K), K, TYPES.index(type), 0)
    return (tiles.ctypes.data, *sizes), tiles


@needs_compiler
@pytest.mark.parametrize(
    ("n_blocks", "architecture", "order"), [(1, 900, 0), (2, 900, 5), (12, 900, 9), (2, 800, 4)]
)
def test_products_of_all_matrices_of_a_token_are_those_of_numpy(n_blocks, architecture, order):
    compiled, shared = library(architecture)
    x = np.random.default_rng(1).standard_normal(1280).clip(-3.9, 3.9).astype(np.float32)
    shapes = [*LAYERS * N_LAYER, (47, 512, "Q6_K")]
    raws = [finite_rows(type, M, K, seed=i) for i, (M, K, type) in enumerate(shapes)]
    made = [record(raw, K, type) for raw, (_, K, type) in zip(raws, shapes, strict=True)]
    layers, head = np.zeros(N_LAYER, LAYER), np.array([made[-1][0]], MATRIX)
    for i, layer in enumerate(layers):
        rows = [row for row, _ in made[6 * i : 6 * i + 6]]
        layer["attn"], (layer["output"], layer["gate_up"], layer["down"]) = rows[:3], rows[3:]
    out = np.full((len(shapes), MOST_ROWS), np.nan, np.float32)
    sizes = (n_blocks, N_WARPS * 32 + 32, shared)
    launch(compiled, "multiply_layers", *sizes, layers, head, x, out, order=order)
    for y, raw, (M, K, type) in zip(out, raws, shapes, strict=True):
        assert relative_error(y[:M].astype(np.float64), raw, type, x[:K]) < CLOSE
        assert np.isnan(y[-(-M // 16) * 16 :]).all()
