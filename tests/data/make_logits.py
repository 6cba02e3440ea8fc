"""Copies two tiny models with llama.cpp's answers to them, trimmed, into tests/data.

Run: python tests/data/make_logits.py ../shared/reference/logits
They are random models made for this project; the logits came from llama.cpp commit 0c1e570 (the
reference's README says how), those of the Q4_0 file with its tensors expanded to float32 first.
Kept: the prompt, its logits at a few positions, the greedy tokens.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
POSITIONS = np.array([0, 1, 2, 15, 30, 31])  # of the 64 or 32 prompt tokens
MODELS = {"llama-tied": "", "llama-gqa-Q4_0": "_dequant"}


def main(logits: Path) -> None:
    for name, suffix in MODELS.items():
        shutil.copyfile(logits / f"{name}.gguf", HERE / f"{name}.gguf")
        with np.load(logits / f"{name}.npz") as golden:
            np.savez_compressed(
                HERE / f"{name}.npz",
                tokens=golden["tokens"],
                positions=POSITIONS,
                logits=golden["logits" + suffix][POSITIONS],
                greedy_tokens=golden["greedy_tokens" + suffix],
                greedy_logits_last=golden["greedy_logits" + suffix][-1],
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
