"""Every sampler against llama.cpp's own results."""

from collections import Counter

import pytest

from tests.conftest import needs_reference
from tests.sampling.goldens import check_case, check_sequence, reference, small
from workbench.sampling import SamplerChain, stages

SAMPLERS = (
    "top_k top_p min_p typical temp temp_ext xtc top_n_sigma penalties dry logit_bias greedy chain"
).split()
SEQUENCES = ("mirostat", "mirostat_v2", "adaptive_p")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_small_golden_of_llama_cpp_is_reproduced(sampler):
    index, arrays = small()
    cases = [case for case in index["cases"] if case["sampler"] == sampler]
    assert cases
    for case in cases:
        check_case(case, arrays)


@needs_reference
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_golden_of_llama_cpp_is_reproduced(sampler):
    index, arrays = reference()
    for case in index["cases"]:
        if case["sampler"] == sampler:
            check_case(case, arrays)


@needs_reference
def test_no_golden_is_left_out():
    counted = Counter(case["sampler"] for case in reference()[0]["cases"])
    assert set(counted) == set(SAMPLERS) and counted.total() == 333


@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("sampler", SEQUENCES)
def test_samplers_with_a_memory_follow_llama_cpp_step_by_step(sampler, draw):
    index, arrays = small()
    runs = [run for run in index["sequences"] if run["sampler"] == sampler]
    assert runs
    for run in runs:
        check_sequence(run, arrays, draw)


@needs_reference
@pytest.mark.parametrize("draw", [False, True])
def test_every_sequence_of_llama_cpp_is_reproduced(draw):
    index, arrays = reference()
    for run in index["sequences"]:
        check_sequence(run, arrays, draw)


def test_dist_picks_are_those_of_llama_cpp_for_every_seed():
    index, arrays = small()
    for run in index["dist_picks"]:
        chain = SamplerChain([stages.dist(run["seed"])])
        assert [chain.sample(arrays[run["vector"]])[0] for _ in run["ids"]] == run["ids"]


@pytest.mark.parametrize("end", [[], [stages.greedy()], [stages.temp(0)]])
def test_greedy_goldens_are_picked(end):
    index, arrays = small()
    cases = [case for case in index["cases"] if case["sampler"] == "greedy"]
    for case in cases:
        chain = SamplerChain([*end] or [stages.top_k(1)], seed=case["case"])
        assert chain.sample(arrays[case["vector"]])[0] == case["selected_id"]
