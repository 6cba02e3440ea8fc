"""Cut the small sampler goldens out of the llama.cpp reference: writes samplers.npz beside itself.

Run from the repository root: python tests/data/make_samplers.py ../shared/reference/samplers
Origin: llama.cpp commit 0c1e570 through its own library (see ../shared/reference/README.md).
Left out: the 32000-token vectors, and of each result everything behind the first 48 candidates.
"""

import json
import sys
from pathlib import Path

import numpy as np

SAMPLERS = ("top_k", "top_p", "min_p", "temp")
N_STORED = 48


def main(source: Path) -> None:
    goldens = json.loads((source / "samplers.json").read_text())
    arrays = np.load(source / "samplers.npz")
    cases, out = [], {}
    for case in goldens["cases"]:
        if case["sampler"] not in SAMPLERS or case["vector"].startswith("v32000"):
            continue
        key = f"c{case['case']:04d}"
        for part in ("ids", "logits", "p"):
            out[f"{key}_{part}"] = arrays[f"{key}_{part}"][:N_STORED]
        out[case["vector"]] = arrays[case["vector"]]
        cases.append({**case, "stored": min(case["stored"], N_STORED)})
    index = {"source": "llama.cpp 0c1e570", "cases": cases, "dist_picks": goldens["dist_picks"]}
    out["index"] = np.array(json.dumps(index))
    np.savez_compressed(Path(__file__).with_name("samplers.npz"), **out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
