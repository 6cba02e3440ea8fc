"""A KV recorder on a GPU: the same run as on the CPU, and what it costs.

    python -m tests.gpu.check_recorder [MODEL.gguf …]      by default the built-in model

A line a model: the largest difference of a share of attention from the CPU's (of the built-in model
only, others are too large for it), and tokens a second without a recorder, drawn step by step on
the host as with one, and with one that keeps the mean of the heads or every head.
"""

import sys
import time

import numpy as np

import workbench as wb

TEXT = "Once upon a time there was a dog who liked to run in the park with his red ball. "
N_TOKENS, N_DEPTH = 64, (16, 512)


def differs(path: str) -> float:
    """The largest difference between the shares of two runs of a text, token by token."""
    runs = []
    for device in ("cpu", "cuda"):
        with wb.load_model(path, device=device) as model:
            recorder, cache = wb.KVRecorder(model), model.new_cache(128)
            for token_id in model.tokenizer.encode(TEXT * 2):
                recorder.forward([token_id], cache)
            runs.append(recorder.run)
    return float(np.abs(runs[0].masses.astype("f4") - runs[1].masses.astype("f4")).max())


def tokens_per_second(model: wb.Model, depth: int, **asked) -> float:
    """Of single tokens behind `depth` others; asked: of KVRecorder, or nothing for none."""
    ids = np.arange(depth + N_TOKENS + 1) % 1000 + 3
    cache = model.new_cache(len(ids))
    model.forward(ids[:depth], cache, last_only=True)
    run = _graph(model, cache) if not asked else wb.KVRecorder(model, **asked).forward
    run(ids[depth : depth + 1], cache)
    start = time.perf_counter()
    for token_id in ids[depth + 1 :]:
        wb.to_numpy(run([int(token_id)], cache))
    return N_TOKENS / (time.perf_counter() - start)


def _graph(model: wb.Model, cache: wb.KVCache):
    graph = model.decode_graph(cache)
    return lambda ids, _: graph.run(int(ids[0]))


def main(paths: list[str]) -> None:
    for path in paths or [wb.model_path()]:
        found = f"shares differ by {differs(path):.1e}; " if not paths else ""
        with wb.load_model(path, device="cuda", precision="fast") as model:
            for depth in N_DEPTH:
                plain = tokens_per_second(model, depth)
                mean, heads = (
                    tokens_per_second(model, depth, per_head=each) for each in (False, True)
                )
                print(
                    f"{found}behind {depth}: {plain:.0f} tokens/s, recorded {mean:.0f} "
                    f"({plain / mean - 1:+.0%}), every head {heads:.0f} ({plain / heads - 1:+.0%})"
                )


if __name__ == "__main__":
    main(sys.argv[1:])
