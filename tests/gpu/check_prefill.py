"""Checks the fast mode's operations on prompts against NumPy, then times them; prints tables.

    PYTHONPATH=. python3 tests/gpu/check_prefill.py [8b:Q4_0 8b:Q8_0 ...]

Rates are of the median of some runs, measured by events on the GPU. Weights take turns, so that
they exceed the L2 cache, and so do outputs. With recipes of `workbench.analysis.synthetic` it also
times whole models: 512 tokens of a prompt, and 2048 after 4096.
"""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cupy as cp
import numpy as np

import workbench as wb
from tests.ops.attention_cases import CASES, HEAD_DIMS, made, normwise
from workbench.analysis.synthetic import synthetic_model
from workbench.ops import PackedTensor, cpu, cuda, cuda_fast
from workbench.quants import quantize
from workbench.resources import builtin_model_path

MODEL_TOLERANCE = 2e-3
TOLERANCE = 1.5e-3  # normwise: both factors are rounded to float16, by 2**-12 of each number
REPEATS = 7
WEIGHT_BYTES = 240 << 20  # of float16, of all weights that take turns
SHAPES = ((4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336))


def median_seconds(run: Callable[[], None]) -> float:
    """Median seconds of REPEATS runs on the current stream, after two that do not count."""
    times = []
    for _ in range(REPEATS + 2):
        start, end = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(start, end) * 1e-3)
    return float(np.median(times[2:]))


def check_attention() -> None:
    print("attention, greatest normwise error")
    for head_dim in HEAD_DIMS:
        worst = 0.0
        for case in CASES:
            q, k, v, rules, first = made(case, head_dim, cp.asarray)
            got = cuda.to_numpy(cuda_fast.attention(q, k, v, rules, first))
            want = cpu.attention(*made(case, head_dim, np.asarray))
            error = normwise(got, want)
            worst = max(worst, error)
            if not error < TOLERANCE:
                print(f"    WRONG: {case}: {error:.2e}")
        print(f"    head_dim {head_dim:3}: {worst:.2e}")


def check_products() -> None:
    print("products, greatest normwise error")
    rng = np.random.default_rng(0)
    for type in ("Q4_0", "Q4_K", "Q6_K", "Q8_0", "F16", "BF16"):
        weight = random_weight(type, (200, 512))
        host = PackedTensor(cuda.to_numpy(weight.raw), type, weight.shape)
        for n_tokens, size in ((1, 1), (7, 1), (130, 1), (9, 1e6), (9, 1e-6)):
            x = rng.standard_normal((n_tokens, 512), np.float32) * np.float32(size)
            bias = rng.standard_normal(200, np.float32)
            want = cpu.linear(x, host, bias)
            for turn in (1, 2):  # the second finds the twin
                got = cuda.to_numpy(cuda_fast.linear(cp.asarray(x), weight, cp.asarray(bias)))
                error = normwise(got, want)
                verdict = "" if error < TOLERANCE else "WRONG"
                if verdict or (n_tokens, turn) == (130, 1):
                    print(f"    {type:5} {n_tokens} tokens of size {size:g}: {error:.2e} {verdict}")


def check_rows() -> None:
    print("rms_norm and swiglu, and what a product makes of their twins: greatest normwise error")
    rng = np.random.default_rng(0)
    for n in (512, 4096, 14336, 516):
        x, y = (rng.standard_normal((13, n), np.float32) * np.float32(3) for _ in range(2))
        norm = rng.random(n, np.float32)
        pairs = {
            "rms_norm": (cuda_fast.rms_norm, cpu.rms_norm, (x, norm, None, 1e-5)),
            "great": (cuda_fast.rms_norm, cpu.rms_norm, (x, norm * 1e5, norm, 1e-5)),
            "swiglu": (cuda_fast.swiglu, cpu.swiglu, (x, y)),
            "great up": (cuda_fast.swiglu, cpu.swiglu, (x, y * 1e5)),
        }
        for name, (fast, plain, values) in pairs.items():
            arguments = [cp.asarray(a) if isinstance(a, np.ndarray) else a for a in values]
            got, want = fast(*arguments), plain(*values)
            error = normwise(cuda.to_numpy(got), want)
            identity = np.eye(n, dtype=np.float16)[:40]
            weight = PackedTensor(cp.asarray(identity.view(np.uint8)), "F16", identity.shape)
            twin = normwise(cuda.to_numpy(cuda_fast.linear(got, weight)), want[:, :40])
            verdict = "" if error < 1e-6 and twin < TOLERANCE else "WRONG"
            if verdict or n == 4096:
                print(f"    {name:8} {n}: {error:.2e}, twin {twin:.2e} {verdict}")


def check_models() -> None:
    """Logits of the fast mode on the GPU against those of the exact mode on the CPU."""
    print("logits of the models of ../shared/reference, normwise error; greatest token's share")
    paths = sorted(Path("../shared/reference/logits").glob("*.gguf"))
    for path in paths or [builtin_model_path()]:
        made = []
        for device, precision in (("cpu", "exact"), ("cuda", "fast")):
            with wb.load_model(path, device=device, precision=precision) as model:
                ids = np.random.default_rng(0).integers(0, model.config.n_vocab, 150)
                made.append(wb.to_numpy(model.forward(ids, model.new_cache(200))))
        error = normwise(made[1], made[0])
        same = float((made[0].argmax(axis=1) == made[1].argmax(axis=1)).mean())
        verdict = "" if error < MODEL_TOLERANCE else "FAR"
        print(f"    {path.stem:24} {error:.2e} {same:4.0%} {verdict}")


def random_weight(type: str, shape: tuple[int, int]) -> PackedTensor:
    """Quantized noise, some rows of it again and again."""
    rows = quantized_noise(type, shape[1])
    raw = np.tile(rows, (-(-shape[0] // len(rows)), 1))[: shape[0]]
    return PackedTensor(cp.asarray(raw), type, shape)


@cache
def quantized_noise(type: str, n: int) -> np.ndarray:
    """(40, bytes) uint8."""
    numbers = np.random.default_rng(1).standard_normal((40, n), np.float32)
    return quantize(numbers * np.float32(0.02), type)


def time_products() -> None:
    print("linear, microseconds and TFLOP/s (dequantize and product)")
    print(f"{'':16}" + "".join(f"{f'{m} x {n}':>22}" for m, n in SHAPES))
    for n_tokens in (512, 2048):
        for type in ("F16", "Q4_0", "Q4_K", "Q6_K", "Q8_0"):
            cells = []
            for shape in SHAPES:
                n_weights = max(2, WEIGHT_BYTES // (2 * shape[0] * shape[1]))
                weights = [random_weight(type, shape) for _ in range(n_weights)]
                x = cp.ones((n_tokens, shape[1]), np.float32)
                cuda_fast.linear(x, weights[0])
                seconds = median_seconds(
                    lambda weights=weights, x=x: [cuda_fast.linear(x, w) for w in weights]
                )
                seconds /= n_weights
                rate = 2 * n_tokens * shape[0] * shape[1] / seconds / 1e12
                cells.append(f"{seconds * 1e6:12.0f} us {rate:4.0f} T")
            print(f"{n_tokens:5} {type:9}" + " ".join(cells))


def time_attention() -> None:
    print("attention, microseconds and TFLOP/s")
    for head_dim, n_head in ((128, 32), (64, 32), (256, 16)):
        for n_tokens, n_seen in ((512, 512), (512, 4608), (2048, 6144), (2048, 32768)):
            q = cp.ones((n_tokens, n_head, head_dim), np.float32)
            k, v = (
                cp.random.standard_normal((8, n_seen, head_dim), np.float32)
                .astype(np.float16)
                .transpose(1, 0, 2)
                for _ in range(2)
            )
            rules, first = cuda_fast.AttentionRules(head_dim**-0.5), n_seen - n_tokens
            seconds = median_seconds(lambda: cuda_fast.attention(q, k, v, rules, first))  # noqa: B023
            flop = 4 * n_head * head_dim * n_tokens * (n_seen - n_tokens / 2)
            print(
                f"    head_dim {head_dim:3} {n_tokens:5} of {n_seen:5}: "
                f"{seconds * 1e6:7.0f} us {flop / seconds / 1e12:5.0f} TFLOP/s"
            )


def time_model(recipe: str) -> None:
    """Tokens a second of a synthetic model: llama-bench's pp512, pp2048 @ d4096, and 32768 tokens.

    The last line tells what memory all of it took, beside weights and cache, at its worst.
    """
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "model.gguf"
        synthetic_model(path, recipe, progress=False)
        os.sync()  # or the kernel writes the file to disk meanwhile
        with wb.load_model(path, device="cuda", precision="fast") as model:
            for n_past, n_tokens, repeats in ((0, 512, 9), (4096, 2048, 9), (0, 32768, 2)):
                cp.get_default_memory_pool().free_all_blocks()
                cache = model.new_cache(n_past + n_tokens)
                before = cp.get_default_memory_pool().used_bytes()
                rate, issued = prompt_rate(model, cache, n_past, n_tokens, repeats)
                took = cp.get_default_memory_pool().total_bytes() - before
                print(
                    f"{recipe}: {n_tokens} tokens after {n_past}: {rate:.0f} tokens/s, "
                    f"{n_tokens / rate * 1e3:.1f} ms, of which the host {issued * 1e3:.1f} ms; "
                    f"{took / 1e9:.2f} GB",
                    flush=True,
                )
                del cache


def prompt_rate(
    model: wb.Model, cache: wb.KVCache, n_past: int, n_tokens: int, repeats: int
) -> tuple[float, float]:
    """Median tokens a second, and the seconds until the host had issued all work."""
    ids = np.random.default_rng(0).integers(0, model.config.n_vocab, n_past + n_tokens)
    if n_past:
        model.forward(ids[:n_past], cache, last_only=True)
    rates = []
    for _ in range(repeats):
        cache.truncate(n_past)
        cp.cuda.Device().synchronize()
        start = time.perf_counter()
        model.forward(ids[n_past:], cache, last_only=True)
        issued = time.perf_counter() - start
        cp.cuda.Device().synchronize()
        rates.append((n_tokens / (time.perf_counter() - start), issued))
    return sorted(rates)[len(rates) // 2]


def main() -> None:
    sections = [check_attention, check_products, check_rows, check_models]
    sections += [time_attention, time_products]
    sections += [lambda recipe=recipe: time_model(recipe) for recipe in sys.argv[1:]]
    for section in sections:
        start = time.perf_counter()
        try:
            section()
        except Exception:
            traceback.print_exc(file=sys.stdout)
        print(f"-- {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
