"""Makes hard_quants.npz: rows on which the searches of block scales take their odd turns.

Weights beyond or below what float32 sums can hold, far from zero but close together, over many
powers of ten; importances that are zero or huge. What ggml writes for them was computed by
libggml-base 0.25.3 of llama-cpp-python 0.3.36 (llama.cpp 0c1e570), x86-64.
Run from the repository root: python tests/data/make_hard_quants.py PATH/libggml-base.so
"""

import ctypes
import sys
from pathlib import Path

import numpy as np

from workbench.gguf.types import GGML_TYPES

HERE = Path(__file__).resolve().parent
TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
N = 256


def rows(rng: np.random.Generator) -> np.ndarray:
    """(12, 256) float32, two rows a kind."""
    x = rng.standard_normal((12, N))
    x[0:2] *= [[1e13], [2e18]]  # cubes beyond float32
    x[2:4] *= [[1e-16], [1e-41]]  # squares below float32; subnormal
    x[4:6] = x[4:6] * [[1e-4], [1e-6]] - 4  # narrow bands below zero: a scale may come out negative
    x[6:8] *= 10.0 ** rng.uniform(-20, 3, (2, N))
    x[8:10] = np.sign(x[8:10]) * (np.abs(x[8:10]) > 0.7) * [[0.3], [7]]
    x[10:12] *= np.repeat(2.0 ** rng.integers(-30, 30, (2, N // 16)), 16, axis=1)
    return x.astype(np.float32)


def importances(rng: np.random.Generator) -> np.ndarray:
    """(12, 256) float32: for each row its own, every other with zeros or a few huge ones."""
    imatrix = rng.random((12, N)) ** 2
    imatrix[0::4] *= rng.random((3, N)) < 0.5
    imatrix[1::2, rng.integers(0, N, 5)] *= 1e4
    return imatrix.astype(np.float32)


def main() -> None:
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    rng = np.random.default_rng(20)
    arrays = {"x": rows(rng), "imatrix": importances(rng)}
    for name in TYPES:
        kind = GGML_TYPES[name]
        for key in ("q", "q_im"):
            out = np.zeros((12, N // kind.block_size * kind.type_size), np.uint8)
            for x, imatrix, q in zip(arrays["x"], arrays["imatrix"], out, strict=True):
                weights = ctypes.c_void_p(imatrix.ctypes.data if key == "q_im" else None)
                source, target = (ctypes.c_void_p(array.ctypes.data) for array in (x, q))
                one, n = ctypes.c_int64(1), ctypes.c_int64(N)
                ggml.ggml_quantize_chunk(
                    kind.id, source, target, ctypes.c_int64(0), one, n, weights
                )
            arrays[f"{name}.{key}"] = out
    np.savez_compressed(HERE / "hard_quants.npz", **arrays)


if __name__ == "__main__":
    main()
