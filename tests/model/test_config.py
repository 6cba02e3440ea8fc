"""ModelConfig: values, defaults, and keys that are missing, ill-typed or at odds."""

import numpy as np
import pytest

from tests.model.tiny import METADATA, metadata
from workbench.errors import GGUFError, UnsupportedError
from workbench.gguf import write_gguf
from workbench.model import ModelConfig, load_model
from workbench.model.architectures.inspected import INSPECTED
from workbench.model.config import TRANSLATIONS, architecture_of


def config(**changes):
    return ModelConfig.from_metadata(metadata(**changes))


def test_numbers_come_from_their_keys_and_defaults_from_each_other():
    numbers = config()
    assert (numbers.n_layer, numbers.n_embd, numbers.n_ff, numbers.n_vocab) == (2, 32, 48, 40)
    assert (numbers.n_head, numbers.n_head_kv, numbers.head_dim, numbers.n_rot) == (4, 2, 8, 8)
    assert (numbers.n_embd_q, numbers.n_embd_k, numbers.n_embd_v) == (32, 16, 16)
    assert (numbers.n_ctx_train, numbers.norm_eps, numbers.n_expert) == (64, 1e-5, 0)
    assert (numbers.rope.base, numbers.rope.scaling, numbers.rope.factor) == (10000, "linear", 1)
    assert numbers.rope.n_ctx_orig == 64


def test_missing_head_count_kv_means_as_many_as_heads():
    assert config(attention__head_count_kv=None).n_head_kv == 4


def test_head_length_may_differ_from_n_embd_over_n_head():
    numbers = config(attention__key_length=12, attention__head_count=5, attention__head_count_kv=1)
    assert (numbers.head_dim, numbers.n_rot, numbers.n_embd_q) == (12, 12, 60)


def test_vocabulary_is_that_of_the_tokenizer_before_the_key():
    keys = metadata() | {"tokenizer.ggml.tokens": ["a", "b", "c"]}
    assert ModelConfig.from_metadata(keys).n_vocab == 3


def test_vocabulary_is_the_rows_of_the_embedding_where_nothing_else_says():
    class Info:
        shape = (77, 32)

    keys = metadata(vocab_size=None)
    assert ModelConfig.from_metadata(keys, {"token_embd.weight": Info}).n_vocab == 77


def test_equal_numbers_for_every_layer_count_as_one():
    heads = np.array([4, 4], np.int32)
    assert config(attention__head_count=heads).n_head == 4


def test_heads_that_differ_from_layer_to_layer_are_kept_for_each():
    heads, kv_heads = np.array([4, 2], np.int32), np.array([2, 1], np.int32)
    numbers = config(attention__head_count=heads, attention__head_count_kv=kv_heads)
    assert [numbers.of_layer(i).n_head for i in range(2)] == [4, 2]
    assert [numbers.of_layer(i).n_embd_k for i in range(2)] == [16, 8]
    assert numbers.n_head == 4


def test_a_list_for_fewer_layers_than_there_are_is_refused():
    with pytest.raises(GGUFError, match=r"head_count: .* a number of each of 2 layers"):
        config(attention__head_count=np.array([4], np.int32))


def test_numbers_that_must_be_one_for_all_layers_are_refused_as_lists():
    with pytest.raises(UnsupportedError, match=r"freq_base: rope.base differs from layer to layer"):
        config(rope__freq_base=np.array([1e4, 1e6], np.float32))


def test_rope_scaling_is_read_by_new_and_old_keys():
    assert config(rope__scale_linear=2.0).rope.factor == 2
    assert config(rope__scale_linear=2.0, rope__scaling__factor=3.0).rope.factor == 3
    assert config(rope__scaling__factor=0.0).rope.factor == 1
    yarn = config(rope__scaling__type="yarn", rope__scaling__original_context_length=16).rope
    assert (yarn.scaling, yarn.n_ctx_orig) == ("yarn", 16)


def of(architecture, **changes):
    """The numbers of tiny's metadata as another architecture's."""
    keys = metadata(**changes) | {"llama.attention.layer_norm_epsilon": 1e-6}
    renamed = {key.replace("llama.", f"{architecture}.", 1): value for key, value in keys.items()}
    return ModelConfig.from_metadata(renamed | {"general.architecture": architecture})


def test_windows_alternate_with_layers_that_see_all():
    numbers = of("gemma2", block_count=5)
    assert [numbers.of_layer(i).n_swa for i in range(5)] == [4096, 0, 4096, 0, 4096]
    given = of("gemma2", attention__sliding_window=9).of_layer(0).n_swa
    assert (given, numbers.kv_slots(0)[2]) == (9, 4096)


def test_a_list_says_which_layers_have_a_window():
    pattern = np.array([False, True])
    numbers = of("gemma2", attention__sliding_window_pattern=pattern)
    assert [numbers.of_layer(i).n_swa for i in range(2)] == [0, 4096]
    with pytest.raises(
        GGUFError, match=r"sliding_window_pattern: .* an entry for each of 2 layers"
    ):
        of("gemma2", attention__sliding_window_pattern=pattern[:1])


def test_layers_with_a_window_may_have_another_base():
    numbers = of("gemma3", block_count=6, attention__sliding_window=9, rope__freq_base=1e6)
    assert numbers.of_layer(0).rope.base == 10000 and numbers.of_layer(5).rope.base == 1e6


def test_some_layers_are_not_rotated():
    numbers = of("smollm3", block_count=5)
    assert [numbers.of_layer(i).rope is None for i in range(5)] == [0, 0, 0, 1, 0]
    assert of("granite", rope__scaling__finetuned=False).rope is None


def test_a_size_may_differ_from_its_family():
    narrow, wide = of("gemma2", attention__key_length=4), of("gemma2", block_count=46)
    assert (narrow.attention_scale, wide.attention_scale) == (1 / 2, 1 / 8**0.5)
    wide = of("gemma2", block_count=46, attention__key_length=4)
    assert wide.attention_scale == 1 / 8**0.5  # n_embd / n_head, not the head's length
    assert [of("baichuan", block_count=n).max_alibi_bias for n in (32, 40)] == [0, 8]
    assert of("exaone4", block_count=64).of_layer(0).n_swa == 4096


def test_scales_come_from_the_file_then_from_the_architecture():
    assert of("gemma").embedding_scale == 32**0.5
    assert of("granite", logit_scale=4.0).logit_scale == 0.25
    assert of("granite", attention__scale=0.3).attention_scale == 0.3
    assert of("command-r", logit_scale=4.0).logit_scale == 4
    assert of("minicpm").residual_scale == pytest.approx(1.4 / 2**0.5)
    assert of("gemma2", attn_logit_softcapping=7.0).attn_logit_softcapping == 7


def test_leading_layers_may_be_dense_and_shared_experts_are_counted():
    experts = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 10}
    numbers = of("deepseek", leading_dense_block_count=1, expert_shared_count=3, **experts)
    assert [numbers.of_layer(i).n_expert for i in range(2)] == [0, 4]
    assert (numbers.n_ff_exp, numbers.n_ff_shexp) == (10, 30)
    assert of("qwen2moe", **experts).n_ff_shexp == 48
    assert of("qwen3moe", expert_count=4, expert_used_count=2).n_ff_exp == 24


def test_experts_are_gated_as_the_file_says():
    experts = {"expert_count": 4, "expert_used_count": 2, "expert_shared_count": 1}
    assert of("dots1", expert_gating_func=2, **experts).expert_gating == "sigmoid"
    scaled = of("dots1", expert_weights_norm=True, expert_weights_scale=2.5, **experts)
    assert (scaled.normalizes_shares, scaled.expert_weights_scale) == (True, 2.5)
    with pytest.raises(UnsupportedError, match="no code for this way to choose experts"):
        of("dots1", expert_gating_func=9, **experts)


LATENT = {
    "attention__head_count_kv": 1,
    "attention__q_lora_rank": 6,
    "attention__kv_lora_rank": 10,
    "attention__key_length": 14,
    "attention__value_length": 10,
    "attention__key_length_mla": 12,
    "attention__value_length_mla": 7,
    "rope__dimension_count": 4,
}


def test_latent_attention_keeps_one_vector_for_all_heads():
    numbers = of("deepseek2", **LATENT)
    assert numbers.kv_slots(0) == ((1, 14), (1, 10), 0)
    assert (numbers.head_dim_nope, numbers.n_kv_a, numbers.n_embd_heads) == (8, 14, 28)
    assert numbers.attention_scale == 1 / 12**0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention__kv_lora_rank": 9}, "key_length: .* kv_lora_rank 9 \\+ n_rot 4"),
        ({"attention__value_length": 9}, "value_length: .* expected kv_lora_rank 10"),
        ({"rope__dimension_count": 12}, "dimension_count: .* less than a head's 12 numbers"),
        ({"attention__head_count_kv": 2}, "head_count_kv: .* expected 1 in this form"),
    ],
)
def test_latent_sizes_at_odds_are_refused(change, message):
    with pytest.raises(GGUFError, match=message):
        of("deepseek2", **LATENT | change)


def test_experts_where_there_can_be_none_and_none_where_there_must_be_are_refused():
    with pytest.raises(UnsupportedError, match="'qwen3' has no code for experts"):
        of("qwen3", expert_count=4, expert_used_count=2)
    with pytest.raises(GGUFError, match="'qwen3moe' has nothing else"):
        of("qwen3moe")


@pytest.mark.parametrize("key", [key for key in METADATA if key != "llama.attention.head_count_kv"])
def test_a_missing_key_is_named(key):
    keys = {name: value for name, value in METADATA.items() if name != key}
    with pytest.raises(GGUFError, match=key.replace(".", r"\.")):
        ModelConfig.from_metadata(keys)


@pytest.mark.parametrize("key", [key for key in METADATA if key != "general.architecture"])
@pytest.mark.parametrize("value", ["many", -1, 2.5, True, [4], float("nan"), 2**31, None])
def test_an_impossible_value_is_named(key, value):
    if key.endswith("epsilon") and value in (2.5, 2**31):
        return  # odd but possible
    if key.endswith("head_count_kv") and value is None:
        return  # it has a default
    with pytest.raises(GGUFError, match=key.replace(".", r"\.")):
        ModelConfig.from_metadata(METADATA | {key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention__head_count": 5}, r"head_count: wrong value for n_head; expected a divisor"),
        ({"attention__head_count_kv": 3}, r"head_count_kv: .* expected a divisor of n_head 4"),
        ({"rope__dimension_count": 7}, r"dimension_count: .* an even number up to head_dim 8"),
        ({"rope__dimension_count": 10}, r"dimension_count: .* an even number up to head_dim 8"),
        ({"expert_count": 4}, r"expert_used_count: .* from 1 to the 4 experts, got 0"),
        ({"expert_used_count": 1}, r"expert_used_count"),
        ({"rope__freq_base": 0.0}, r"freq_base: .* finite positive number"),
        ({"rope__scaling__factor": -2.0}, r"scaling\.factor"),
        ({"rope__scaling__type": "yarn", "rope__freq_base": 1.0}, r"a number above 1 for yarn"),
        ({"rope__scaling__type": 3}, r"scaling\.type: .* expected a string, got 3"),
        ({"attention__causal": "no"}, r"causal: .* expected true or false"),
    ],
)
def test_numbers_at_odds_are_refused(changes, message):
    with pytest.raises(GGUFError, match=message):
        config(**changes)


def test_what_has_no_code_is_unsupported():
    with pytest.raises(UnsupportedError, match="one of none, linear, yarn, longrope, got 'ntk'"):
        config(rope__scaling__type="ntk")
    with pytest.raises(UnsupportedError, match="attention to the future"):
        architecture_of(metadata(attention__causal=False))


@pytest.mark.parametrize("name", sorted(INSPECTED))
def test_what_llama_cpp_runs_and_we_do_not_is_read_but_not_loaded(name, tmp_path):
    keys = {key.replace("llama.", f"{name}."): value for key, value in METADATA.items()}
    keys["general.architecture"] = name
    made = ModelConfig.from_metadata(keys)
    assert (made.architecture, made.n_layer, made.n_head_kv) == (name, 2, 2)
    layer_norm = {key.replace("_rms_epsilon", "_epsilon"): keys[key] for key in keys}
    assert ModelConfig.from_metadata(layer_norm).norm_eps == made.norm_eps
    write_gguf(tmp_path / "model.gguf", keys, {"token_embd.weight": np.zeros((40, 32), np.float32)})
    with pytest.raises(UnsupportedError, match=f"no code for '{name}'; expected one of afmoe"):
        load_model(tmp_path / "model.gguf", device="cpu")


def test_the_translation_table_names_each_number_once():
    assert len({entry.ours for entry in TRANSLATIONS}) == len(TRANSLATIONS)
    assert len({entry.gguf for entry in TRANSLATIONS}) == len(TRANSLATIONS)
