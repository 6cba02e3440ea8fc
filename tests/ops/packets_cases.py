"""What the tests and the measurements of packets share: sources, finite weights, exact products."""

from pathlib import Path

import numpy as np

from tests.ops.raw_blocks import random_blocks
from workbench.ops import kernels
from workbench.quants import CODECS, dequantize

FILES = ("activations", "packets", "packets_float", "packets_legacy", "packets_k", "packets_levels")
TEST_KERNELS = Path(__file__).with_name("packets_kernels.cu")
PATHS = tuple(kernels.FOLDER / f"{name}.cuh" for name in FILES)


def finite_rows(type: str, n_rows: int, K: int, seed: int = 0) -> np.ndarray:
    """(n_rows, bytes) uint8: any codes and integer scales, float scales of about 0.01."""
    rng, codec = np.random.default_rng(seed), CODECS[type]
    if type in ("F16", "BF16"):
        x = rng.standard_normal((n_rows, K)).astype(np.float32)
        numbers = x.astype(np.float16) if type == "F16" else (x.view(np.uint32) >> 16).astype("<u2")
        return numbers.view(np.uint8)
    blocks = random_blocks(type, n_rows * K // codec.block_size, seed).view(codec.dtype)
    for field in {"d", "m", "dmin"} & set(codec.dtype.names):
        blocks[field] = (rng.standard_normal(blocks.shape) * 0.01).astype(np.float16)
    if "e" in codec.dtype.names:
        blocks["e"] = rng.integers(110, 130, blocks.shape)
    return blocks.view(np.uint8).reshape(n_rows, -1)


def vector(K: int, seed: int = 1) -> np.ndarray:
    """(K,) float32 of very different sizes, as a model's activations are."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(K) * np.exp(2 * rng.standard_normal(K))).astype(np.float32)


def planes_room(type: str, K: int) -> int:
    """Bytes of shared memory that the planes of K columns take, in whole 128s."""
    planes, size = {"F16": (2, 2), "BF16": (3, 2)}.get(type, (4, 1))
    sums = -(-K // 256) * 64 if size == 1 else 0
    return -(-(planes * (-(-K // 128) * 128 * size + 64) + sums) // 128) * 128


def relative_error(y: np.ndarray, raw: np.ndarray, type: str, x: np.ndarray) -> float:
    """The largest |y - W x| against the sum of |W| |x| (W read by NumPy, sums in float64)."""
    W = dequantize(raw, type).astype(np.float64)
    magnitude = np.maximum(np.abs(W) @ np.abs(x), 1e-30)  # a row may be all zeros
    return float((np.abs(y - W @ x) / magnitude).max())
