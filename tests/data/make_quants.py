"""Makes quants.npz: a few rows a type of the goldens in ../shared/reference/quants.

Those were computed by llama.cpp (commit 0c1e570, libggml 0.25.3); its README says how.
Run from the repository root: python tests/data/make_quants.py
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
GOLDENS = HERE.parents[2] / "shared" / "reference" / "quants"
ROWS = (
    "gauss_outliers_0",
    "negative_zeros",
    "const_negative",
    "subnormal_f16_scale_2e-6",
    "huge_2e4",
    "alternating",
    "block_magnitudes",
    "grid_of_ties",
)
BLOCK_WEIGHTS = 2048  # random blocks a type, counted in weights


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    for path in sorted(GOLDENS.glob("*.npz")):
        golden = np.load(path)
        name = golden["type_name"].item().upper()
        rows = [list(golden["row_name"]).index(row) for row in ROWS]
        for key, values in (("x", golden["x"][rows]), ("imatrix", golden.get("imatrix"))):
            if values is not None:
                np.testing.assert_array_equal(arrays.setdefault(key, values), values)
        for key in ("q", "q_im"):
            if key in golden:
                arrays[f"{name}.{key}"] = golden[key][rows]
        if "blocks" in golden:
            n = BLOCK_WEIGHTS // golden["blck_size"].item()
            arrays[f"{name}.blocks"] = golden["blocks"][:n]
            arrays[f"{name}.blocks_f32"] = golden["blocks_f32"][:n]
        for key in ("special_x", "special_q", "special_f32"):
            if key in golden:
                arrays[f"{name}.{key}"] = golden[key]
    np.savez_compressed(HERE / "quants.npz", **arrays)


if __name__ == "__main__":
    main()
