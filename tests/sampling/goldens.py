"""Results of llama.cpp's samplers, and ours beside them."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

import workbench as wb
from tests.conftest import REFERENCE
from workbench.sampling import Candidates, SamplerChain, Stage, stages
from workbench.sampling.candidates import candidates_from

SMALL = Path(__file__).resolve().parents[1] / "data" / "samplers.npz"
TOLERANCE = 1e-5  # float32 softmax sums, as the reference's README states


@cache
def small() -> tuple[dict, Mapping[str, np.ndarray]]:
    """Those that the repository carries: index, arrays."""
    arrays = dict(np.load(SMALL))
    return json.loads(str(arrays["index"])), arrays


@cache
def reference() -> tuple[dict, Mapping[str, np.ndarray]]:
    """All of them."""
    folder = REFERENCE / "samplers"
    return json.loads((folder / "samplers.json").read_text()), dict(
        np.load(folder / "samplers.npz")
    )


@cache
def vocabulary():
    """The tokenizer in which the goldens' breakers of DRY were looked for."""
    return wb.load_tokenizer(wb.open_gguf(REFERENCE / "models" / "stories260K-f32.gguf"))


def stage_of(sampler: str, params: Mapping) -> Stage:
    """The stage of a golden; DRY gets the vocabulary where it needs one."""
    params = {name: value for name, value in params.items() if name != "history"}
    if sampler == "dry" and params["breakers"] and params["multiplier"]:
        params["tokenizer"] = vocabulary()
    return getattr(stages, sampler)(**params)


def stages_of(sampler: str, params: Mapping) -> list[Stage]:
    """The stages of a golden that may be a whole chain."""
    named = params["samplers"] if sampler == "chain" else [(sampler, params)]
    return [stage_of(*one) for one in named]


def history_of(case: Mapping, arrays: Mapping[str, np.ndarray]) -> list[int]:
    name = case["params"].get("history", case.get("history"))
    return arrays[name].tolist() if name else []


def check_case(case: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
    """Our candidates are those of one golden."""
    left, history = candidates_from(arrays[case["vector"]]), history_of(case, arrays)
    for stage in stages_of(case["sampler"], case["params"]):
        left = stage.apply(left, history)
    assert (len(left), left.sorted) == (case["size"], case["sorted"]), case
    check_candidates(left, f"c{case['case']:04d}", arrays, case)


def check_candidates(left: Candidates, key: str, arrays: Mapping, what: Mapping) -> None:
    """The first of our candidates are those stored: ids, logits, probabilities."""
    ids = arrays[f"{key}_ids"]
    np.testing.assert_array_equal(left.ids[: ids.size], ids, err_msg=str(what))
    for ours, part in ((left.logits, "logits"), (left.probs, "p")):
        np.testing.assert_allclose(
            ours[: ids.size], arrays[f"{key}_{part}"], rtol=0, atol=TOLERANCE, err_msg=str(what)
        )


def check_sequence(run: Mapping, arrays: Mapping, draw: bool) -> None:
    """Step by step; draw: with our own random numbers, else the picks of llama.cpp are accepted."""
    made = stages_of(run["sampler"], run["params"])
    chain = SamplerChain([*made, stages.greedy()] if run["sampler"] == "chain" else made)
    history = history_of(run, arrays)
    for step, golden in enumerate(run["results"]):
        logits, picked = arrays[f"{run['run']}_vectors"][step], golden["selected_id"]
        if draw:
            token_id, left = chain.sample(logits, history)
            assert token_id == picked, (run["run"], step)
        else:
            left = chain.apply(logits, history)
            chain.accept(picked)
        assert len(left) == golden["size"], (run["run"], step)
        check_candidates(left, f"{run['run']}_{step:02d}", arrays, golden)
        (at,) = np.flatnonzero(left.ids == picked)
        np.testing.assert_allclose(left.probs[at], golden["selected_p"], rtol=0, atol=TOLERANCE)
        history.append(picked)
