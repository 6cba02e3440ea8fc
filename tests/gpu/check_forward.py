"""The plain pass on a GPU against llama.cpp's recordings and against the CPU; a table of both.

    PYTHONPATH=. python3 tests/gpu/check_forward.py [--sections goldens,recipes,depth]
                               [--recipes llama,gemma2] [--reference ../shared/reference]

Sections: goldens (the recordings of whole models), recipes (a tiny random model of each
architecture: logits and every activation), depth (pieces, truncation, shift, windows, edits),
analyses (what the notebooks compute), types (one model in every quantized type), speed.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import workbench as wb
from tests.model.parity_recipes import RECIPES
from tests.model.random_model import prompt_of, write_model
from tests.model.test_more_architectures import GOLDENS, POSITIONS, tolerance
from workbench.model import tap_names
from workbench.quants import CODECS
from workbench.resources import builtin_model_path

GELU_NAMES = ("gemma2", "gemma3", "gpt2", "starcoder2")
EXACT, TABULATED = 1e-4, 5e-3  # of the reference's README; its table of GELU rounds to float16
DEVICES_APART = 1e-4  # float32 sums in another order, twice
KINDS = ("llama-yarn", "gemma2", "gemma3", "gpt-oss", "deepseek2", "phi3-longrope", "smollm3")
TYPES = [*(t for t in CODECS if t not in ("F64", "Q8_1", "Q8_K") and t[0] != "I"), "IQ4_NL"]
TYPES += ["IQ4_XS", "IQ3_XXS", "IQ3_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M"]


def apart(a: object, b: object) -> float:
    """The greatest difference; infinite ones at the same places do not count."""
    a, b = (wb.to_numpy(x).astype(np.float64) for x in (a, b))
    same = np.isneginf(a) & np.isneginf(b)
    return float(np.abs(np.where(same, 0, a) - np.where(same, 0, b)).max(initial=0))


def f32_cache(model: wb.Model, n_ctx: int = 512, **arguments: bool) -> wb.KVCache:
    return model.new_cache(n_ctx, "f32", "f32", **arguments)


def goldens(arguments: argparse.Namespace) -> Iterator[tuple[str, float, float, str]]:
    """The recordings of the reference: greatest difference, and how far the greedy text agrees."""
    for path in sorted((arguments.reference / "logits").glob("*.gguf")):
        with np.load(path.with_suffix(".npz")) as arrays, wb.load_model(path, "cuda") as model:
            result = wb.analysis.parity(model, dict(arrays))[0]
        same = f"greedy {result.n_greedy_same}/{result.n_greedy}"
        bar = TABULATED if path.stem in GELU_NAMES else EXACT
        yield path.stem, result.logits.max_abs, bar, same


def both(path: Path, **arguments: str) -> list[wb.Model]:
    models = [wb.load_model(path, device, **arguments) for device in ("cpu", "cuda")]
    for model in models:
        model.__dict__["tokenizer"] = SimpleNamespace(piece=lambda i: b"%d" % i, token_text=str)
    return models


def recipe_models(name: str, folder: Path) -> list[wb.Model]:
    golden, path = GOLDENS[name], folder / f"{name}.gguf"
    write_model(path, RECIPES[name], golden["seed"], golden["shapes"], golden["head_scale"])
    return both(path)


def recipes(arguments: argparse.Namespace) -> Iterator[tuple[str, float, float, str]]:
    """Every architecture: logits as llama.cpp's, activations and their names as on the CPU."""
    chosen = arguments.recipes.split(",") if arguments.recipes else GOLDENS
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            golden, bar = GOLDENS[name], tolerance(RECIPES[name])
            on_cpu, on_gpu = recipe_models(name, Path(folder))
            cache, prompt = f32_cache(on_gpu), prompt_of(name)
            logits = wb.to_numpy(on_gpu.forward(prompt, cache))
            greedy, row = [], logits[-1]
            while len(greedy) < len(golden["greedy"]):
                greedy.append(int(row.argmax()))
                row = wb.to_numpy(on_gpu.forward(greedy[-1:], cache))[0]
            n_same = sum(map(int.__eq__, greedy, golden["greedy"]))
            note = f"greedy {n_same}/{len(greedy)}"
            traces = [wb.ActivationTrace(["*"]), wb.ActivationTrace(["*"], to="device")]
            for model, trace in zip((on_cpu, on_gpu), traces, strict=True):
                model.forward(prompt[:20], f32_cache(model), trace=trace)
            worst = max((apart(*(t[tap] for t in traces)), tap) for tap in traces[0])
            is_same = list(traces[0]) == list(traces[1]) == tap_names(on_gpu)
            note += f"; {len(traces[0])} taps, {worst[1]} {worst[0]:.1e} apart"
            note += "" if is_same and worst[0] < 20 * bar and n_same == len(greedy) else " WRONG"
            yield name, apart(logits[POSITIONS], golden["logits"]), bar, note


def edits_of(source: wb.ActivationTrace) -> dict[str, wb.ActivationTrace]:
    return {
        "edit": wb.ActivationTrace().edit("l_out-0", lambda x: x * 0.5, positions=[3, -1]),
        "edit scores": wb.ActivationTrace().edit("kq_soft_max-1", lambda x: x**2),
        "ablate zero": wb.ActivationTrace().ablate_heads(1, [0, 2]),
        "ablate mean": wb.ActivationTrace().ablate_heads(0, 1, to="mean"),
        "patch": wb.ActivationTrace().patch("l_out-1", source, positions=[5, 7]),
    }


def depth(arguments: argparse.Namespace) -> Iterator[tuple[str, float, float, str]]:
    """Pieces, windows, truncation, shift and edits, on the GPU as on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        for name in KINDS:
            on_cpu, on_gpu = recipe_models(name, Path(folder))
            ids, bar = prompt_of(name)[:100], max(DEVICES_APART, tolerance(RECIPES[name]))
            whole = on_gpu.forward(ids, f32_cache(on_gpu))
            for step, full in ((1, True), (37, True), (37, False)):
                cache = f32_cache(on_gpu, swa_full=full)
                pieces = [on_gpu.forward(ids[i : i + step], cache) for i in range(0, 100, step)]
                pieces = np.concatenate([wb.to_numpy(piece) for piece in pieces])
                yield f"{name}: by {step}, swa_full={full}", apart(pieces, whole), bar, ""
            cache = f32_cache(on_gpu)
            on_gpu.forward(ids, cache)
            cache.truncate(60)
            n_kept = cache.reuse([*ids[:50], *ids[10:40]])
            again = on_gpu.forward(ids[50:70], cache)
            yield f"{name}: truncate, reuse {n_kept}", apart(again, whole[50:70]), bar, ""
            made = []
            for model in (on_cpu, on_gpu):
                cache = f32_cache(model)
                model.forward(ids, cache)
                cache.shift(4, 30)
                made.append(wb.to_numpy(model.forward(ids[:3], cache)))
            yield f"{name}: shift", apart(*made), bar, repr(cache)[:40]
            source = wb.ActivationTrace(["l_out-*"], to="device")
            on_gpu.forward(ids[::-1], f32_cache(on_gpu), trace=source)
            for what, trace in edits_of(source).items():
                made = [m.forward(ids[:40], f32_cache(m), trace=trace) for m in (on_cpu, on_gpu)]
                yield f"{name}: {what}", apart(*made), bar, ""


def analyses(arguments: argparse.Namespace) -> Iterator[tuple[str, float, float, str]]:
    """What the notebooks compute, on the GPU as on the CPU."""
    path = builtin_model_path()
    on_cpu, on_gpu = wb.load_model(path, "cpu"), wb.load_model(path, "cuda")
    text = "Once upon a time there was a little girl who had a big red ball. " * 12
    ids = on_cpu.tokenizer.encode(text)
    analysis = wb.analysis
    for what, compute in {
        "perplexity": lambda m: analysis.perplexity(m, ids, 128).nll,
        "logit lens": lambda m: analysis.logit_lens(m, traced(m, ids[:20]), ids[:20]).kl,
        "attribution": lambda m: analysis.logit_attribution(m, traced(m, ids[:20])).heads,
        "ablation": lambda m: analysis.ablate_each_head(m, ids[:20]).kl,
    }.items():
        yield what, apart(compute(on_cpu), compute(on_gpu)), DEVICES_APART, ""
    texts = []
    for model in (on_cpu, on_gpu):
        params = wb.SamplingParams(temperature=0.8, top_k=40, seed=1)
        steps = wb.generate(model, "Once upon a time", params=params, max_tokens=40)
        texts.append("".join(step.text for step in steps))
    yield "generate", float(texts[0] != texts[1]), 0.5, texts[1][:40].replace("\n", " ")
    yield "repr", 0.0, 1.0, repr(on_gpu)


def traced(model: wb.Model, ids: list[int]) -> wb.ActivationTrace:
    trace = wb.ActivationTrace(wb.analysis.stream_taps(model, heads=True))
    model.forward(ids, f32_cache(model, 128), trace=trace)
    return trace


def types(arguments: argparse.Namespace) -> Iterator[tuple[str, float, float, str]]:
    """Matrices in every type, dense and of experts, as on the CPU."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for type in TYPES:
            x = rng.standard_normal((24, 256), np.float32) / 16
            raw = x if type == "F32" else wb.quantize(x, type, imatrix=np.ones(256, np.float32))
            for n_expert in (0, 4):
                path = Path(folder) / f"{type}-{n_expert}.gguf"
                write_typed(path, type, raw, n_expert, rng)
                on_cpu, on_gpu = both(path)
                ids = rng.integers(0, 40, 12)
                made = [model.forward(ids, f32_cache(model, 64)) for model in (on_cpu, on_gpu)]
                yield f"{type}, {n_expert} experts", apart(*made), DEVICES_APART, ""


def write_typed(
    path: Path, type: str, raw: np.ndarray, n_expert: int, rng: np.random.Generator
) -> None:
    """A llama of two layers whose matrices have one type; their rows are those of raw."""
    size, experts = 256, (n_expert,) if n_expert else ()
    kind = "_exps" if n_expert else ""
    shapes = {"token_embd.weight": (40, size)}
    for layer in range(2):
        parts = {f"attn_{part}": (size, size) for part in ("q", "output")}
        parts |= {f"attn_{part}": (128, size) for part in "kv"}
        parts |= {f"ffn_{part}{kind}": (*experts, 256, size) for part in ("gate", "up", "down")}
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in parts.items()}
    tensors = {}
    for name, shape in shapes.items():
        rows = raw[rng.integers(0, len(raw), shape[:-1])]
        tensors[name] = rows if type == "F32" else (rows, type, shape)
    for layer in range(2):
        for part in ("attn", "ffn"):
            tensors[f"blk.{layer}.{part}_norm.weight"] = np.ones(size, np.float32)
        if n_expert:
            router = rng.standard_normal((n_expert, size), np.float32)
            tensors[f"blk.{layer}.ffn_gate_inp.weight"] = router
    tensors["output_norm.weight"] = np.ones(size, np.float32)
    numbers = {
        "context_length": 64, "embedding_length": size, "block_count": 2, "vocab_size": 40,
        "feed_forward_length": 256, "attention.head_count": 8, "attention.head_count_kv": 4,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }  # fmt: skip
    if n_expert:
        numbers |= {"expert_count": n_expert, "expert_used_count": 2}
    keys = {"general.architecture": "llama", **{f"llama.{k}": v for k, v in numbers.items()}}
    wb.write_gguf(path, keys, tensors)


def speed(arguments: argparse.Namespace) -> Iterator[tuple[str, float, float, str]]:
    """Tokens a second of the plain pass, both precisions, on a random model of the 1b shape."""
    from workbench.analysis.synthetic import synthetic_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        synthetic_model(path, "1b:Q4_0", progress=False)
        for precision in ("exact", "fast"):
            start = time.perf_counter()
            model = wb.load_model(path, "cuda", precision=precision)
            loaded = time.perf_counter() - start
            cache, ids = model.new_cache(2048), np.arange(512) + 5
            rates = []
            for n_tokens, repeats in ((512, 4), (1, 40)):
                for repeat in range(repeats):
                    if repeat == 1:
                        start = time.perf_counter()
                    if n_tokens > 1:
                        cache.truncate(0)
                    wb.to_numpy(model.forward(ids[:n_tokens], cache, last_only=True))
                seconds = (time.perf_counter() - start) / (repeats - 1)
                rates.append(n_tokens / seconds)
            note = f"pp512 {rates[0]:.0f}, tg {rates[1]:.1f} tokens/s; loaded in {loaded:.2f} s"
            yield f"1b:Q4_0 {precision}", 0.0, 1.0, note
            model.close()


SECTIONS: dict[str, Callable] = {
    "goldens": goldens,
    "recipes": recipes,
    "depth": depth,
    "analyses": analyses,
    "types": types,
    "speed": speed,
}


def main() -> None:
    """Print a line a check, and how many failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", type=Path, default=Path("../shared/reference"))
    parser.add_argument("--recipes", default="")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    arguments = parser.parse_args()
    n_wrong = n_checks = 0
    for section in arguments.sections.split(","):
        start = time.perf_counter()
        print(f"--- {section}: {SECTIONS[section].__doc__}")
        try:
            for name, difference, bar, note in SECTIONS[section](arguments):
                n_checks += 1
                is_wrong = not difference <= bar or "WRONG" in note
                n_wrong += is_wrong
                mark = "WRONG" if is_wrong else "ok"
                print(f"{name:36} {difference:9.2e} (bar {bar:.0e}) {mark:6} {note}", flush=True)
        except Exception:
            n_wrong += 1
            traceback.print_exc(file=sys.stdout)
        print(f"    {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{n_checks} checks, {n_wrong} wrong")


if __name__ == "__main__":
    main()
