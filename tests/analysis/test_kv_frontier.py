"""Tables of what smaller caches cost, and which of their rows are beaten by none."""

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.conftest import BUILTIN_MODEL
from workbench import analysis
from workbench.errors import ParameterError


@pytest.fixture(scope="module")
def model():
    with wb.load_model(BUILTIN_MODEL, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def ids(model):
    return model.tokenizer.encode("Once upon a time there was a dog who liked to run in the park.")


def test_a_table_has_the_full_cache_and_each_policy_at_each_budget(model, ids):
    table = analysis.eviction_table(model, ids, ["h2o", "tova"], [6, 10])
    assert table["policy"].tolist() == ["full", "h2o", "h2o", "tova", "tova"]
    assert table["budget"].tolist() == [pd.NA, 6, 10, 6, 10]
    assert table["kl"][0] == 0 and (table["kl"][1:] > 0).all()
    one = analysis.run_eviction(model, ids, "tova", 10).to_row()
    assert table.iloc[4].to_dict() == one
    assert table["bytes"].tolist() == [model.new_cache(n).nbytes for n in (len(ids), 6, 10, 6, 10)]


def test_all_policies_are_run_by_default_and_a_function_under_its_name(model, ids):
    table = analysis.eviction_table(model, ids, budgets=[8])
    assert table["policy"].tolist() == ["full", *analysis.EVICTION_POLICIES][:-1]

    def nothing(seen, budget, rng):
        return np.zeros_like(seen.held)

    assert analysis.eviction_table(model, ids, [nothing], [8])["policy"][1] == "nothing"


def test_a_function_of_ones_own_that_is_named_full_is_run(model, ids):
    def full(seen, budget, rng):
        return np.zeros_like(seen.held)

    table = analysis.eviction_table(model, ids, [full, "full"], [8])
    assert table["policy"].tolist() == ["full", "full"]
    assert table["budget"].tolist() == [pd.NA, 8] and table["kl"][1] > 0


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"policies": "h2o"}, r"policies: not a list; .* got 'h2o'; write \['h2o'\]"),
        ({"budgets": 8}, r"budgets: not a list; .* got 8; write \[8\]"),
        ({"budgets": None}, "budgets: not a list"),
        ({"n_prompt": 99}, "n_prompt: leaves no token to measure"),
        ({"seed": "3"}, "seed: none"),
    ],
)
def test_what_is_no_table_is_refused(choice, message, model, ids):
    with pytest.raises(ParameterError, match=message):
        analysis.eviction_table(model, ids, **choice)


def test_a_wrong_budget_or_policy_is_refused_before_anything_runs(model, ids):
    model_that_must_not_run = type("Model", (), {"config": model.config})()
    with pytest.raises(ParameterError, match="budget: no cache for streaming_llm"):
        analysis.eviction_table(model_that_must_not_run, ids, budgets=[8, 4])
    with pytest.raises(ParameterError, match="policy: no such way to evict"):
        analysis.eviction_table(model_that_must_not_run, ids, ["h20"])


def test_the_full_type_differs_in_nothing_and_another_a_little(model, ids):
    table = analysis.kv_type_table(model, ids, ["f16", ("f32", "f16")])
    assert list(zip(table["type_k"], table["type_v"], strict=True)) == [
        ("f16", "f16"),
        ("f32", "f16"),
    ]
    assert table["kl"][0] == 0 and 0 < table["kl"][1] < 1e-5
    assert table["bytes"].tolist() == [
        model.new_cache(len(ids), *types).nbytes for types in (("f16", "f16"), ("f32", "f16"))
    ]


def test_fewer_bits_cost_more_and_bits_of_keys_more_than_bits_of_values(model):
    prompt = "Once upon a time, there was a little girl named Lily. She had a red ball."
    cache = model.new_cache(100)
    list(wb.generate(model, prompt, wb.SamplingParams(seed=5), 80, cache=cache))
    types = ["f16", "q8_0", "q5_0", "q4_0", ("q8_0", "q4_0"), ("q4_0", "q8_0")]
    table = analysis.kv_type_table(model, cache.token_ids, types)
    *alike, coarse_values, coarse_keys = table["kl"]
    assert alike == sorted(alike) and alike[0] == 0 < alike[1]
    assert alike[1] < coarse_values < coarse_keys
    assert table["bytes"][4] == table["bytes"][5] < table["bytes"][1] < table["bytes"][0]


def test_types_of_layers_are_named_one_after_another(model, ids):
    layers = ["f16"] * 7 + ["q8_0"]
    table = analysis.kv_type_table(model, ids, [(layers, "f16")])
    assert table["type_k"][0] == "f16 f16 f16 f16 f16 f16 f16 q8_0"
    assert 0 < table["kl"][0] < 1e-3


def test_a_type_that_is_none_is_refused(model, ids):
    with pytest.raises(ParameterError, match="no such cache type"):
        analysis.kv_type_table(model, ids, ["f16", "q9_9"])
    with pytest.raises(ParameterError, match="types: not a type of a cache; expected a name or a"):
        analysis.kv_type_table(model, ids, [8])
    with pytest.raises(ParameterError, match=r"types: not a list; .* write \['q8_0'\]"):
        analysis.kv_type_table(model, ids, "q8_0")


def test_the_frontier_has_what_nothing_beats_in_both():
    table = pd.DataFrame(
        {
            "bytes": [8, 2, 4, 4, 6, 2],
            "kl": [0.0, 0.9, 0.2, 0.3, 0.2, 0.8],
            "policy": [*"abcdef"],
        }
    )
    assert analysis.kv_frontier(table)["policy"].tolist() == ["f", "c", "a"]
    with pytest.raises(ParameterError, match=r"table: no measured caches; .* got policy"):
        analysis.kv_frontier(table[["policy"]])
    with pytest.raises(ParameterError, match="table: not a DataFrame; expected one from eviction_"):
        analysis.kv_frontier(None)
