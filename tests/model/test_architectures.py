"""The table of architectures: every name in an entry is one that the code knows."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

from tests.model.parity_recipes import RECIPES
from tests.model.random_model import prompt_of, write_model
from tests.model.test_more_architectures import GOLDENS
from tests.model.tiny import f32_cache
from workbench.errors import UnsupportedError
from workbench.model import ARCHITECTURES, ModelConfig, load_model
from workbench.model.architectures import Architecture, find_architecture
from workbench.model.attention_part import alibi_slopes, query_temperatures
from workbench.model.config_keys import TRANSLATIONS
from workbench.model.weights import FUSED, LAYER_PARTS, TOP_PARTS
from workbench.ops import cpu

ENTRIES = list(ARCHITECTURES.values())
KINDS = {
    "rope": {"norm", "neox", "none"},
    "ffn_reads": {"residual", "attn_norm", "layer_input"},
    "attention_scale": {"head_dim", "1/head_dim", "n_embd", "file", "output_scale", "mscale"},
    "embedding_scale": {"", "sqrt"},
    "n_ff_exp": {"file", "n_ff", "n_ff_of_expert"},
    "n_ff_shexp": {"", "n_ff", "n_ff_exp", "n_ff_of_shared", "n_ff_of_each_shared"},
    "gating": {"softmax", "sigmoid", "softmax_weight"},
}
PARTS = {*TOP_PARTS, *LAYER_PARTS, *FUSED, "layer_output_norm"}
per_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def all_specs(entry):
    return (*entry.tensors, *entry.layer_tensors, *entry.dense_ffn, *entry.expert_ffn)


@per_entry
def test_operations_and_kinds_are_known(entry):
    for name in (entry.norm, entry.qk_norm, entry.activation):
        assert callable(getattr(cpu, name))
    for field, known in KINDS.items():
        assert getattr(entry, field) in known
    assert entry.window is None or entry.window.rope in {"same", "file", "plain", "own"}


@per_entry
def test_tensors_are_parts_with_shapes_of_config_numbers(entry):
    config_names = {*(field.name for field in fields(ModelConfig)), *dir(ModelConfig)}
    names = [spec.name for spec in all_specs(entry)]
    assert {name.rpartition(".")[0].replace(".", "_") for name in names} <= PARTS
    for spec in all_specs(entry):
        assert set(spec.shape) <= config_names, spec.name
    for tensors in (entry.dense_ffn, entry.expert_ffn):
        layer = [spec.name for spec in (*entry.layer_tensors, *tensors)]
        assert len(layer) == len(set(layer))


@per_entry
def test_norms_of_an_entry_are_among_its_tensors(entry):
    parts = {spec.name.rpartition(".")[0] for spec in all_specs(entry)}
    needed = {entry.attn_post_norm, entry.ffn_post_norm, entry.experts_norm} - {""}
    assert needed <= parts


@per_entry
def test_numbers_a_file_may_set_have_a_key_and_variants_name_fields(entry):
    known = {translation.ours for translation in TRANSLATIONS}
    assert {
        *entry.reads,
        *(f"rope.{key}".replace("latent_", "") for key in entry.yarn_keys),
    } <= known
    for variant in entry.variants:
        assert variant.number in {"n_layer", "n_expert"}
        assert set(variant.changes) <= {field.name for field in fields(Architecture)}


def test_an_unknown_architecture_is_told_the_known_ones():
    with pytest.raises(
        UnsupportedError, match=r"no code for 'rwkv7'; expected one of afmoe, .*llama"
    ):
        find_architecture("rwkv7")


def test_short_and_long_factors_are_chosen_by_the_size_of_the_cache(tmp_path):
    golden, name = GOLDENS["phi3-longrope"], "phi3-longrope"
    path = tmp_path / "model.gguf"
    write_model(path, RECIPES[name], golden["seed"], golden["shapes"], golden["head_scale"])
    with load_model(path) as model:
        n_ctx_orig = model.config.rope.n_ctx_orig
        short, long = (
            model.network.weights.rope_divisors(n_ctx, n_ctx_orig)
            for n_ctx in (n_ctx_orig, n_ctx_orig + 1)
        )
        np.testing.assert_array_equal(short, model.network.weights.rope_factors_short.weight)
        np.testing.assert_array_equal(long, model.network.weights.rope_factors_long.weight)
        ids = prompt_of(name)[:9]
        few, many = (model.forward(ids, f32_cache(model, n_ctx_orig + i)) for i in (0, 1))
    assert abs(few - many).max() > 0.01


def test_slopes_of_heads_halve_and_those_beyond_a_power_of_two_lie_between():
    np.testing.assert_allclose(alibi_slopes(cpu, 4, 8.0), [1 / 4, 1 / 16, 1 / 64, 1 / 256])
    np.testing.assert_allclose(alibi_slopes(cpu, 3, 8.0), [1 / 16, 1 / 256, 1 / 4])
    assert alibi_slopes(cpu, 4, 0.0) is None


def test_queries_grow_by_the_logarithm_of_the_piece_they_are_in():
    config = SimpleNamespace(temperature_scale=0.1, temperature_length=4, temperature_offset=1)
    factors = query_temperatures(cpu, config, np.array([0, 2, 3, 11]))
    np.testing.assert_allclose(factors[:, 0, 0], 1 + 0.1 * np.log([1, 1, 2, 4]), rtol=1e-6)
