"""Cut the small sampler goldens out of the llama.cpp reference: writes samplers.npz beside itself.

Run from the repository root: python tests/data/make_samplers.py ../shared/reference/samplers
Origin: llama.cpp commit 0c1e570 through its own library (see ../shared/reference/README.md).
Left out: the 32000-token vectors, what needs the vocabulary of the reference model (DRY with
breakers), and of each result everything behind the first 48 candidates.
"""

import json
import sys
from pathlib import Path

import numpy as np

N_STORED = 48


def needs_vocabulary(sampler: str, params: dict) -> bool:
    """Whether breakers of DRY are looked for."""
    if sampler == "chain":
        return any(needs_vocabulary(*stage) for stage in params["samplers"])
    return sampler == "dry" and bool(params["breakers"]) and params["multiplier"] != 0


def main(source: Path) -> None:
    goldens = json.loads((source / "samplers.json").read_text())
    arrays, out = np.load(source / "samplers.npz"), {}

    def take(key: str) -> None:
        for part in ("ids", "logits", "p"):
            out[f"{key}_{part}"] = arrays[f"{key}_{part}"][:N_STORED]

    def wanted(case: dict) -> bool:
        large = case.get("vector", "").startswith("v32000")
        return not large and not needs_vocabulary(case["sampler"], case["params"])

    cases = [{**c, "stored": min(c["stored"], N_STORED)} for c in goldens["cases"] if wanted(c)]
    sequences = [run for run in goldens["sequences"] if wanted(run)]
    for case in cases:
        take(f"c{case['case']:04d}")
        out[case["vector"]] = arrays[case["vector"]]
        if "history" in case["params"]:
            out[case["params"]["history"]] = arrays[case["params"]["history"]]
    for run in sequences:
        out[f"{run['run']}_vectors"] = arrays[f"{run['run']}_vectors"]
        for step in range(run["steps"]):
            take(f"{run['run']}_{step:02d}")
    index = {
        "source": "llama.cpp 0c1e570",
        "cases": cases,
        "sequences": sequences,
        "dist_picks": goldens["dist_picks"],
    }
    out["index"] = np.array(json.dumps(index))
    np.savez_compressed(Path(__file__).with_name("samplers.npz"), **out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
