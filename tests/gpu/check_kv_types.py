"""Caches of every type on a GPU beside the CPU's: stored bytes, logits, shift, fork and file.

    PYTHONPATH=. python tests/gpu/check_kv_types.py [TYPE…]    on a machine with a GPU and CuPy

tests/model/test_gpu_pass.py runs it by fibers. The last line says how many checks were wrong.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import workbench as wb
from tests.model.kv_models import prompt, write_kv_model

PAIRS = (("f32", "f32"), ("f16", "f16"), ("bf16", "q8_0"), ("q8_0", "q4_0"), ("iq4_nl", "q5_1"))
SAME = 0.02  # logits: a number that rounds to the other side moves them a little


def check(folder: Path, head_dim: int, pair: tuple[str, str]) -> dict[str, bool]:
    """What holds for one pair of types."""
    path, ids = write_kv_model(folder / f"{head_dim}.gguf", head_dim), prompt(24)
    models = [wb.load_model(path, device=device) for device in ("cpu", "cuda")]
    caches = [model.new_cache(32, *pair) for model in models]
    logits = []
    for model, cache in zip(models, caches, strict=True):
        rows = [model.forward(ids[:20], cache, last_only=True)]
        rows += [model.forward([token], cache) for token in ids[20:]]
        logits.append(np.concatenate([wb.to_numpy(row) for row in rows]))
    stored = [cache.stored(0)[0] for cache in caches]
    keys = [wb.to_numpy(cache.k(1, rotated=False)) for cache in caches]
    found = {
        "logits": bool(((logits[0] - logits[1]) ** 2).mean() < SAME * logits[0].var()),
        "stored": bool(np.isclose(stored[0], stored[1], rtol=1e-2, atol=1e-3).mean() > 0.98),
        "keys": bool(np.abs(keys[0] - keys[1]).max() < 0.2 * np.abs(keys[0]).max()),
    }
    caches[1].save(folder / "cache")
    opened, fork = models[1].load_cache(folder / "cache"), caches[1].fork()
    after = [wb.to_numpy(models[1].forward([3], cache)) for cache in (caches[1], opened, fork)]
    found["file and fork"] = all(np.array_equal(after[0], other) for other in after[1:])
    for cache in caches:
        cache.truncate(24)
        cache.shift(2, 8)
    shifted = [wb.to_numpy(cache.k(1)) for cache in caches]
    found["shift"] = bool(np.abs(shifted[0] - shifted[1]).max() < 0.2 * np.abs(shifted[0]).max())
    return found


def main() -> None:
    n_checks = n_wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for head_dim in (32, 64):
            for pair in (pair for pair in PAIRS if not sys.argv[1:] or pair[0] in sys.argv[1:]):
                found = check(Path(folder), head_dim, pair)
                wrong = [name for name, holds in found.items() if not holds]
                n_checks, n_wrong = n_checks + len(found), n_wrong + len(wrong)
                print(head_dim, *pair, f"wrong: {', '.join(wrong)}" if wrong else "all hold")
    print(f"{n_checks} checks, {n_wrong} wrong")
    sys.exit(n_wrong > 0)


if __name__ == "__main__":
    main()
