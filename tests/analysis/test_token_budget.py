"""`token_budget`: every byte of a file that a token reads counts once; caches by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from tests.model.random_model import Recipe, metadata_of
from workbench.analysis.token_budget import kv_positions, multiplied_weights

token_budget, by_family = wb.analysis.token_budget, wb.analysis.budget_by_family

DENSE = {"output.weight": (64, 32), "output_norm.weight": (32,), "token_embd.weight": (64, 32)}
ATTENTION = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
NETWORK = {"ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}
EXPERTS = {
    "ffn_gate_inp": (4, 32),
    "ffn_gate_exps": (4, 48, 32),
    "ffn_up_exps": (4, 48, 32),
    "ffn_down_exps": (4, 32, 48),
}


def tensors_of(layer: dict, n_layer: int = 3, top: dict = DENSE) -> dict:
    """Float32 tensors by name; layer: part -> shape."""
    shapes = dict(top)
    for i in range(n_layer):
        shapes |= {f"blk.{i}.{part}.weight": shape for part, shape in layer.items()}
    return {
        name: SimpleNamespace(shape=shape, nbytes=4 * int(np.prod(shape)))
        for name, shape in shapes.items()
    }


def config_of(architecture: str = "llama", **numbers) -> wb.ModelConfig:
    keys = {key.replace("__", "."): value for key, value in numbers.items()}
    return wb.ModelConfig.from_metadata(metadata_of(Recipe(architecture, keys)))


def sums(budget) -> dict[str, int]:
    return by_family(budget).set_index("family").nbytes.to_dict()


def test_weights_of_the_built_in_model_sum_to_its_file():
    with wb.load_model(wb.model_path()) as model:
        budget = token_budget(model.config, model.gguf.tensors)
        every = sum(info.nbytes for info in model.gguf.tensors.values())
    weights = budget[~budget.family.isin(["kv_read", "kv_write", "activations"])]
    assert weights.nbytes.sum() == every  # its head is its embedding: nothing stays unread


def test_an_embedding_beside_a_head_costs_one_row():
    tensors = tensors_of(ATTENTION | NETWORK)
    found = sums(token_budget(config_of(), tensors))
    assert found["embedding"] == 32 * 4 and found["output"] == 64 * 32 * 4
    unread = (64 - 1) * 32 * 4
    weights = sum(found[f] for f in found if f not in ("kv_write", "activations", "kv_read"))
    assert weights == sum(info.nbytes for info in tensors.values()) - unread


def test_each_family_has_the_bytes_of_its_matrices():
    found = sums(token_budget(config_of(), tensors_of(ATTENTION | NETWORK)))
    assert found["attn_qkv"] == 3 * 4 * 32 * (32 + 16 + 16)
    assert found["attn_output"] == 3 * 4 * 32 * 32
    assert found["ffn_gate_up"] == 3 * 4 * 2 * 48 * 32
    assert found["ffn_down"] == 3 * 4 * 32 * 48
    assert found["norms"] == 4 * 32


def test_of_experts_those_asked_count():
    config = config_of(expert_count=4, expert_used_count=2)
    found = sums(token_budget(config, tensors_of(ATTENTION | EXPERTS)))
    assert found["ffn_gate_up"] == 3 * 2 * 2 * 48 * 32 * 4
    assert found["ffn_down"] == 3 * 2 * 32 * 48 * 4
    assert found["ffn_router"] == 3 * 4 * 32 * 4
    in_layers, in_head = multiplied_weights(config, tensors_of(ATTENTION | EXPERTS))
    assert in_layers == 3 * (2 * 32 * 32 + 2 * 16 * 32 + 4 * 32 + 2 * 3 * 48 * 32)
    assert in_head == 64 * 32


@pytest.mark.parametrize(("type", "size"), [("f16", 2), ("f32", 4)])
def test_the_cache_is_read_at_each_position_and_written_once(type, size):
    found = sums(
        token_budget(config_of(), tensors_of(ATTENTION | NETWORK), 100, type_k=type, type_v=type)
    )
    position = 3 * 2 * 16 * size  # layers, keys and values, 2 KV heads of 8
    assert found["kv_read"] == 100 * position and found["kv_write"] == position


@pytest.mark.parametrize(
    ("n_swa", "chunked", "n_past", "expected"),
    [(0, False, 50, 50), (8, False, 3, 3), (8, False, 50, 7), (8, True, 50, 2), (8, True, 48, 0)],
)
def test_a_window_bounds_what_is_read(n_swa, chunked, n_past, expected):
    config = replace(config_of(), n_swa=n_swa, swa_is_chunked=chunked)
    assert kv_positions(config, 0, n_past) == expected


def test_a_floor_is_bytes_over_bandwidth():
    budget = token_budget(config_of(), tensors_of(ATTENTION | NETWORK), 7, bandwidth=2e9)
    np.testing.assert_allclose(budget.floor_us, budget.nbytes / 2e9 * 1e6)
    assert token_budget(config_of(), tensors_of(ATTENTION | NETWORK)).floor_us.isna().all()


def test_a_kernel_for_each_operation_is_seventeen_a_layer_and_three():
    tensors = tensors_of(ATTENTION | NETWORK | {"attn_norm": (32,), "ffn_norm": (32,)})
    assert token_budget(config_of(), tensors).launches.sum() == 3 * 17 + 3


def test_layers_that_guess_tokens_ahead_cost_nothing():
    config, tensors = config_of(), tensors_of(ATTENTION | NETWORK)
    more = tensors | {"blk.3.nextn.eh_proj.weight": tensors["blk.0.attn_q.weight"]}
    assert sums(token_budget(config, more)) == sums(token_budget(config, tensors))


def test_rows_stand_in_the_order_of_the_pass():
    budget = token_budget(config_of(), tensors_of(ATTENTION | NETWORK))
    assert budget.family.iloc[0] == "embedding" and budget.layer.isna().iloc[0]
    assert budget.layer.dropna().tolist() == sorted(budget.layer.dropna())
    assert "output" in budget[budget.layer.isna()].family.tolist()


@pytest.mark.parametrize("n_past", [-1, 1.5, True])
def test_an_impossible_depth_is_refused(n_past):
    with pytest.raises(wb.ParameterError, match="n_past: no number of positions"):
        token_budget(config_of(), tensors_of(NETWORK), n_past)


@pytest.mark.parametrize("bandwidth", [0, -1.0, float("nan")])
def test_a_bandwidth_of_nothing_is_refused(bandwidth):
    with pytest.raises(wb.ParameterError, match="bandwidth: not a speed"):
        token_budget(config_of(), tensors_of(NETWORK), bandwidth=bandwidth)


def test_memory_is_weights_and_positions():
    plan = wb.analysis.memory_plan(config_of(), tensors_of(ATTENTION | NETWORK), ("f16", "f32"))
    weights = sum(info.nbytes for info in tensors_of(ATTENTION | NETWORK).values())
    assert plan.weights == weights and plan.position == {"f16": 192, "f32": 384}
    assert plan.total("f16", 10) == weights + 1920
    assert plan.fits("f16", weights + 1920) == 10 and plan.fits("f16", 5) == 0
    assert plan.even("f32") == weights // 384
    np.testing.assert_allclose(plan.to_frame([10]).f32_mb, [3840 / 1e6])
    with pytest.raises(wb.ParameterError, match="types: no cache"):
        wb.analysis.memory_plan(config_of(), {}, ())


def test_a_cache_takes_what_the_plan_says():
    with wb.load_model(wb.model_path()) as model:
        plan = wb.analysis.memory_plan(model.config, model.gguf.tensors)
        cache = model.new_cache(n_ctx=64)
        assert cache.nbytes == 64 * plan.position["f16"]
