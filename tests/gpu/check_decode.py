"""The decode graph on a GPU: logits against the plain pass, repeated runs, speed.

python -m tests.gpu.check_decode MODEL.gguf …            equal to the plain pass
python -m tests.gpu.check_decode --speed MODEL.gguf …    tokens a second by depth
    --shared 99      as on a GPU whose thread blocks have so many KiB
    --not-a-number   models with NaN or numbers beyond float16 in them: no logit may be finite
"""

import argparse
import time
import traceback

import cupy as cp
import numpy as np

import workbench as wb
from workbench.model import decode_graph
from workbench.model.decode_graph import DecodeGraph

N_PROMPT, N_STEPS = 40, 12
TOLERANCE = 5e-4  # of the largest logit: sums in another order round some cached numbers otherwise


def check(path: str) -> None:
    """One line: how far the graph's logits are from those of the plain pass."""
    with wb.load_model(path, device="cuda") as model:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, model.config.n_vocab, N_PROMPT + N_STEPS)
        plain, fast = model.new_cache(n_ctx=512), model.new_cache(n_ctx=512)
        model.forward(ids[:N_PROMPT], plain)
        model.forward(ids[:N_PROMPT], fast)
        start = time.perf_counter()
        graph = DecodeGraph(model.network, fast)
        made = time.perf_counter() - start
        worst = agree = 0.0
        for token in ids[N_PROMPT:]:
            want = wb.to_numpy(model.forward([token], plain))[0]
            got = cp.asnumpy(graph.run(int(token)))
            worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
            agree += got.argmax() == want.argmax()
        kv = max(
            float(cp.abs(a.astype("f4") - b.astype("f4")).max())
            for layer in range(model.config.n_layer)
            for a, b in ((plain.k(layer), fast.k(layer)), (plain.v(layer), fast.v(layer)))
        )
        name, verdict = path.rsplit("/", 1)[-1], "ok" if worst < TOLERANCE else "WRONG"
        print(
            f"{name:28s} {verdict:5s} worst {worst:.1e} of the largest logit, top-1 "
            f"{agree:.0f}/{N_STEPS}, KV {kv:.1e}, made in {made:.1f} s; {repeats(graph)}, "
            f"{watched(graph)}"
        )


def check_not_a_number(path: str) -> None:
    """One line: whether what is no number reaches the logits."""
    with wb.load_model(path, device="cuda") as model:
        graph = DecodeGraph(model.network, model.new_cache(n_ctx=64))
        finite = sum(int(np.isfinite(cp.asnumpy(graph.run(token))).sum()) for token in (3, 4))
        verdict = "WRONG" if finite else "ok"
        print(f"{path.rsplit('/', 1)[-1]:28s} {verdict:5s} {finite} logits are finite")


def bits_of(graph: DecodeGraph, token: int = 1) -> np.ndarray:
    """(n_vocab,) uint32 of the logits after a token, which the cache then forgets."""
    n_past = graph.cache.n_past
    got = cp.asnumpy(graph.run(token))
    graph.cache.truncate(n_past)
    return got.view(np.uint32)


def repeats(graph: DecodeGraph, n: int = 1000) -> str:
    """Whether the same token gives the same bits again and again."""
    first = bits_of(graph)
    same = all(np.array_equal(first, bits_of(graph)) for _ in range(n))
    return f"{n} replays bit-identical" if same else "replays DIFFER"


def watched(graph: DecodeGraph) -> str:
    """Whether a graph that leaves statistics gives the same bits."""
    other = DecodeGraph(graph.network, graph.cache, with_stats=True)
    same = np.array_equal(bits_of(graph), bits_of(other))
    return "so with statistics" if same else "statistics CHANGE them"


def rates_of(graph: DecodeGraph, n: int) -> list[float]:
    """Tokens a second of five runs of n tokens, launches only."""
    rates = []
    for _ in range(5):
        graph.start(1)
        begin, end = cp.cuda.Event(), cp.cuda.Event()
        begin.record(graph.stream)
        for _ in range(n):
            graph.launch()
        end.record(graph.stream)
        end.synchronize()
        rates.append(n / cp.cuda.get_elapsed_time(begin, end) * 1e3)
    return rates


def speed(path: str, depths: tuple[int, ...] = (0, 4096), n: int = 128) -> None:
    """Tokens a second of the graph, and of one that leaves statistics."""
    with wb.load_model(path, device="cuda", precision="fast") as model:
        for depth in depths:
            cache = model.new_cache(n_ctx=depth + n + 8)
            if depth:
                model.forward(np.arange(depth) % 1000, cache, last_only=True)
            graph = DecodeGraph(model.network, cache)
            rates = rates_of(graph, n)
            watched = rates_of(DecodeGraph(model.network, cache, with_stats=True), n)
            times = graph.phase_times()
            print("   ".join(f"{name} {us:.0f}" for name, us in times.items()))
            print(
                f"{path.rsplit('/', 1)[-1]:24s} tg{n} @ {depth}: {max(rates):8.1f} tokens/s "
                f"(median {np.median(rates):.1f}), {graph._plan.n_warps} warps, "
                f"{graph._plan.source.defines['N_SLOTS']} slots; "
                f"with statistics {np.median(watched):.1f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    works = parser.add_mutually_exclusive_group()
    works.add_argument("--speed", dest="work", action="store_const", const=speed, default=check)
    works.add_argument(
        "--not-a-number", dest="work", action="store_const", const=check_not_a_number
    )
    parser.add_argument("--shared", type=int, metavar="KIB")
    parser.add_argument("models", nargs="+")
    asked = parser.parse_args()
    if asked.shared:
        decode_graph._shared_limit = lambda: asked.shared << 10
    for path in asked.models:
        try:
            asked.work(path)
        except Exception:
            traceback.print_exc()
