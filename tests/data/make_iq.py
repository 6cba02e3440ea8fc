"""Makes iq.npz: rows on which the searches over lattice grids take their odd turns.

Weights of all sizes that ggml can take, ties, constants, runs of zeros, importances that are zero
for single weights or for whole sub-blocks, or huge. What ggml writes for them was computed by
libggml-base 0.25.3 of llama-cpp-python 0.3.36 (llama.cpp 0c1e570), x86-64.
Run from the repository root: python tests/data/make_iq.py PATH/libggml-base.so
"""

import ctypes
import sys
from pathlib import Path

import numpy as np

from workbench.gguf.types import GGML_TYPES

HERE = Path(__file__).resolve().parent
TYPES = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S".split()
NEED_IMATRIX = ("IQ1_S", "IQ2_XXS", "IQ2_XS")  # ggml_quantize_requires_imatrix
N = 512


def rows(rng: np.random.Generator) -> np.ndarray:
    """(20, 512) float32, two rows a kind."""
    x = rng.standard_normal((20, N))
    x[0:2] *= [[0.02], [40]]
    x[2:4] = rng.standard_t(2, (2, N)) * 0.1
    x[4:6] *= [[1e8], [1e10]]  # ggml aborts where sums overflow
    x[6:8] *= [[1e-22], [1e-43]]  # squares below float32; subnormal
    x[8:10] = [[0.7], [-3]]
    x[10:12] = np.round(x[10:12] * 4) / 8  # equal weights
    x[12:14] = np.sign(x[12:14]) * (np.abs(x[12:14]) > 0.7) * [[0.3], [7]]
    x[14:16] *= np.repeat(2.0 ** rng.integers(-30, 20, (2, N // 16)), 16, axis=1)
    x[16:18] *= np.repeat(rng.random((2, N // 32)) < 0.6, 32, axis=1)  # whole sub-blocks of zeros
    x[18:20, :] = np.abs(x[18:20]) * [[1], [-1]]
    return x.astype(np.float32)


def importances(rng: np.random.Generator) -> np.ndarray:
    """(20, 512) float32: for each row its own."""
    imatrix = rng.random((20, N)) ** 2
    imatrix[0::4] *= rng.random((5, N)) < 0.5
    imatrix[1::4] *= np.repeat(rng.random((5, N // 16)) < 0.5, 16, axis=1)
    imatrix[2::4, rng.integers(0, N, 5)] *= 1e4
    return imatrix.astype(np.float32)


def main() -> None:
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    rng = np.random.default_rng(21)
    arrays = {"x": rows(rng), "imatrix": importances(rng)}
    for name in TYPES:
        kind = GGML_TYPES[name]
        for key in ("q", "q_im")[name in NEED_IMATRIX :]:
            out = np.zeros((20, N // kind.block_size * kind.type_size), np.uint8)
            for x, imatrix, q in zip(arrays["x"], arrays["imatrix"], out, strict=True):
                weights = ctypes.c_void_p(imatrix.ctypes.data if key == "q_im" else None)
                source, target = (ctypes.c_void_p(array.ctypes.data) for array in (x, q))
                zero, one, n = (ctypes.c_int64(number) for number in (0, 1, N))
                ggml.ggml_quantize_chunk(kind.id, source, target, zero, one, n, weights)
            arrays[f"{name}.{key}"] = out
    np.savez_compressed(HERE / "iq.npz", **arrays)


if __name__ == "__main__":
    main()
