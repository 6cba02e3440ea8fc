"""Runs and records of speeds: names, JSON and tables; a fake graph stands for a GPU's."""

import dataclasses
import json
import math

import numpy as np
import pytest

import workbench as wb
from tests.gpu.record_speed import facts_of
from workbench.analysis.machine import machine_of
from workbench.analysis.operation_times import operation_times
from workbench.analysis.turns import OurTurns
from workbench.errors import DeviceMemoryError

SpeedTest, speed_tests = wb.analysis.SpeedTest, wb.analysis.speed_tests
SMALL = {"n_prompt": 6, "n_gen": 4, "repeats": 2, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def run():
    return wb.analysis.speed_run(wb.model_path(), **SMALL, precisions=["exact"], depths=(0, 32))


def test_tests_have_llama_bench_names():
    names = [test.name for test in speed_tests([512, 2048], 128, (0, 4096))]
    assert names[:3] == ["pp512", "pp2048", "tg128"]
    assert names[3:] == ["pp512 @ d4096", "pp2048 @ d4096", "tg128 @ d4096"]
    assert [test.name for test in speed_tests(1, 0)] == ["pp1"]


def test_a_depth_leaves_room_for_the_test():
    assert len(speed_tests(6, 4, (58,), n_ctx_train=64)) == 2
    with pytest.raises(wb.ParameterError, match="depth: the test would leave the context"):
        speed_tests(6, 4, (59,), n_ctx_train=64)


def test_nothing_to_measure_is_refused():
    with pytest.raises(wb.ParameterError, match="tests: there is nothing to measure"):
        speed_tests(0, 0)


def test_single_tokens_come_with_bytes_and_time_by_operation(run):
    by_test = {result.test: result for result in run.results}
    assert list(by_test) == ["pp6", "pp6 @ d32", "tg4", "tg4 @ d32"]
    shallow, deep = by_test["tg4"], by_test["tg4 @ d32"]
    assert deep.bytes_per_token - shallow.bytes_per_token == 32 * 4096  # keys and values
    assert sum(deep.family_bytes.values()) == deep.bytes_per_token
    assert by_test["pp6"].bytes_per_token is None
    assert {"linear", "attention", "rms_norm"} <= set(shallow.families)
    np.testing.assert_allclose(
        shallow.share_of_copy, shallow.floor_us * shallow.tokens_per_s / 1e6, rtol=1e-12
    )


def test_times_by_operation_and_floors_have_the_same_names(run):
    names = ["workbench exact, tg4", "workbench exact, tg4 @ d32"]
    assert list(run.family_times().columns) == list(run.floors()) == names
    assert run.family_times().loc["linear"].gt(0).all()


def test_a_run_is_one_line_of_json_and_comes_back(run):
    line = run.to_json()
    assert "\n" not in line and wb.analysis.SpeedRun.from_dict(json.loads(line)) == run


def test_what_is_no_run_is_refused():
    with pytest.raises(wb.ParameterError, match="speed run: not one that"):
        wb.analysis.SpeedRun.from_dict({"date": "today"})


class FakeGraph:
    """A decode graph that only counts its launches."""

    def __init__(self, network, cache):
        self.n_past, self.starts, self.launches = cache.n_past, 0, 0

    def start(self, token_id):
        self.starts += 1

    def launch(self):
        assert self.starts, "no token to begin with"
        self.launches += 1

    def phase_times(self):
        return {"head": 2.0}


def turns_of(model, tests, make_graph):
    return OurTurns(model, machine_of("cpu"), tests, make_graph)


def test_single_tokens_go_through_the_graph_at_their_depth():
    made = []

    def make(network, cache):
        made.append(FakeGraph(network, cache))
        return made[-1]

    with wb.load_model(wb.model_path()) as model:
        tests = speed_tests(0, 5, (0, 16))
        turns = turns_of(model, tests, make)
        for test in tests:
            assert turns(test) > 0 and turns(test) > 0
            assert turns.families(test) == {"head": 2.0}
    assert [(graph.n_past, graph.launches) for graph in made] == [(0, 10), (16, 10)]
    assert turns.why_plain == ""


@pytest.mark.parametrize("error", [wb.UnsupportedError, DeviceMemoryError])
def test_a_model_without_a_graph_goes_through_the_plain_pass_and_says_why(error):
    def make(network, cache):
        raise error("decode graph: no code for this")

    with wb.load_model(wb.model_path()) as model:
        turns = turns_of(model, speed_tests(0, 2), make)
        assert turns(SpeedTest("tg", 2)) > 0
        assert turns.why_plain == "decode graph: no code for this"
        assert "linear" in turns.families(SpeedTest("tg", 2))


def test_a_turn_leaves_the_cache_as_deep_as_it_was():
    with wb.load_model(wb.model_path()) as model:
        turns = turns_of(model, speed_tests(6, 4, (8,)), None)
        for _ in range(3):
            turns(SpeedTest("pp", 6, 8))
            assert turns._cache(8).n_past == 8


def test_operations_are_timed_on_the_way_through():
    with wb.load_model(wb.model_path()) as model:
        cache = model.new_cache(n_ctx=4)
        times = operation_times(model.network, cache, [1, 2], 1, machine_of("cpu").stopwatch())
    assert cache.n_past == 2
    assert list(times.values()) == sorted(times.values(), reverse=True)


def recorded(run):
    """A record with the run under the name of a model that the peer has."""
    record = wb.analysis.read_speed_record()
    renamed = dataclasses.replace(run, model={**run.model, "name": "llama 8b-Q4_0"})
    result = dataclasses.replace(
        run.results[2], test="tg128", tokens_per_s=677.2, floor_us=1000.0, families={"head": 9.0}
    )
    prompt = dataclasses.replace(run.results[0], test="pp512", tokens_per_s=21562.0)
    ours = dataclasses.replace(renamed, results=(result, prompt))
    return dataclasses.replace(record, runs=(ours,))


def test_a_record_compares_us_with_the_peer_and_the_floor(run):
    record = recorded(run)
    table = record.compare("tg128").set_index("model")
    np.testing.assert_allclose(table.loc["8b-Q4_0", "ratio"], 2.0)
    np.testing.assert_allclose(table.loc["8b-Q4_0", "share"], 0.6772)
    assert math.isnan(table.loc["8b-F16", "ours"]) and table.loc["8b-F16", "peer"] == 211.0
    assert record.compare("pp512").floor.isna().all()
    assert record.floors("tg128")["8b-Q4_0"] == 1000.0  # of the run, else of the recorded ceiling
    nbytes = sum(record.models["8b-F16"]["family_bytes"]["tg128"].values())
    np.testing.assert_allclose(record.floors("tg128")["8b-F16"], nbytes / 4270e9 * 1e6)
    assert record.floors("pp512") == {}


def test_a_record_becomes_a_table_of_a_text(run):
    lines = recorded(run).to_markdown(["tg128", "pp512"]).splitlines()
    assert lines[0] == (
        "| model | tg128 | llama.cpp | ratio | of the floor | pp512 | llama.cpp | ratio |"
    )
    assert "| 8b-Q4_0 | 677.2 | 338.6 | 2.00 | 68% | 21,562 | 10,781 | 2.00 |" in lines


def test_points_lie_at_the_work_of_their_test(run):
    points = recorded(run).rooflines(["tg128", "pp512"])
    own = points[points.model == "8b-Q4_0"].reset_index()
    assert own.who.tolist() == ["workbench", "llama.cpp"] * 2
    facts = recorded(run).models["8b-Q4_0"]
    flop = 2 * (facts["layer_params"] + facts["head_params"])
    np.testing.assert_allclose(own.tflops[0], flop * 677.2 / 1e12)
    np.testing.assert_allclose(
        own.flop_per_byte[0], flop / sum(facts["family_bytes"]["tg128"].values())
    )
    assert own.flop_per_byte[2] > 400 * own.flop_per_byte[0]


def test_models_of_a_record_are_those_that_the_recipes_give():
    facts = facts_of("8b-Q4_K_M")
    assert wb.analysis.read_speed_record().models["8b-Q4_K_M"] == facts
    assert facts["launches"] == 32 * 17 + 3 and facts["layer_params"] == 6979321856


def test_floors_by_family_sum_to_the_floor(run):
    record = dataclasses.replace(recorded(run), runs=())
    sums = record.family_floors("tg128").sum()
    np.testing.assert_allclose([record.floors("tg128")[m] for m in sums.index], sums)


def test_gaps_are_launches_times_their_cost():
    ways = wb.analysis.read_speed_record().ways(547, 32, 1000.0)
    np.testing.assert_allclose(ways.gap_us, [547 * 6, 547 * 0.58, 161 * 0.89])
    np.testing.assert_allclose(ways.tokens_per_s[1], 1e6 / (1000 + 547 * 0.58))


def test_the_package_carries_a_record_of_an_h200():
    record = wb.analysis.read_speed_record()
    assert record.gpu == "NVIDIA H200" and len(record.models) == 5
    assert {"tg128", "pp512"} <= set(record.peer["8b-Q4_K_M"])


def test_what_is_no_record_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(wb.ParameterError, match="no record of speeds"):
        wb.analysis.read_speed_record(path)
