"""What keys and values are like, on rows whose answer is seen by eye and on real caches."""

import numpy as np
import pytest

from tests.conftest import BUILTIN_MODEL
from tests.model.parity_recipes import RECIPES
from tests.model.random_model import prompt_of, write_model
from tests.model.test_more_architectures import GOLDENS
from tests.model.tiny import f32_cache, load, metadata
from workbench import analysis
from workbench.analysis.kv_arrays import KVArrays, spread
from workbench.errors import ParameterError
from workbench.model import ActivationTrace, kv_slots, load_model
from workbench.model.kv_types import hadamard
from workbench.ops import cpu

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
F32 = 2e-5  # float32 products in another order, and a turn there and back
F16 = 2e-3  # the cache rounds keys to float16, the trace does not


def made_of(k, v=None, before=None):
    """One layer of rows (S, K, D)."""
    k = np.asarray(k, np.float32)
    v = k if v is None else np.asarray(v, np.float32)
    before = k if before is None else np.asarray(before, np.float32)
    return KVArrays((before,), (k,), (v,), (0,))


def random_rows(shape=(20, 2, 8), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def keys_and_products(model, cache, ids):
    """kv_arrays of ids, and what the key weights make of the normed stream, before any turn."""
    trace = ActivationTrace(["attn_norm-*", "Kcur-*", "Vcur-*"])
    model.forward(ids, cache, trace=trace)
    config, weights = model.config, model.network.weights.blk
    products = []
    for layer in range(config.n_layer):
        y = model.network.ops.linear(trace[f"attn_norm-{layer}"], *weights[layer].attn_k)
        products.append(y.reshape(len(ids), config.n_head_kv, config.head_dim))
    return analysis.kv_arrays(model, cache), products, trace


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"rope__freq_base": 500.0},
        {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
        {
            "rope__scaling__type": "yarn",
            "rope__scaling__factor": 4.0,
            "rope__scaling__original_context_length": 16,
        },
    ],
    ids=["plain", "base", "linear", "yarn"],
)
def test_keys_before_rope_are_what_the_key_weights_made(tmp_path, keys):
    model = load(tmp_path, keys=metadata(**keys))
    kv, products, trace = keys_and_products(model, f32_cache(model), IDS)
    for layer, product in enumerate(products):
        np.testing.assert_allclose(kv.k_before_rope[layer], product, atol=F32)
        np.testing.assert_array_equal(kv.k[layer], trace[f"Kcur-{layer}"])
        np.testing.assert_array_equal(kv.v[layer], trace[f"Vcur-{layer}"])
    assert np.abs(kv.k[0] - products[0]).max() > 0.1  # RoPE did something


@pytest.mark.parametrize(
    "name", "gptneox gemma2 phi2 deepseek2 deepseek2-legacy phi3-longrope qwen3moe gpt-oss".split()
)
def test_the_same_token_has_the_same_first_keys_everywhere_but_for_rope(name, tmp_path):
    """In layer 0 a key knows only its token and its position; RoPE is all that tells them apart."""
    golden, path = GOLDENS[name], tmp_path / "model.gguf"
    write_model(path, RECIPES[name], golden["seed"], golden["shapes"], golden["head_scale"])
    model = load_model(path, weights="float32")
    cache = model.new_cache(64, "f32", "f32")
    model.forward([prompt_of(name)[0]] * 20, cache)
    kv = analysis.kv_arrays(model, cache)
    largest = np.abs(kv.k_before_rope[0]).max()
    np.testing.assert_allclose(kv.k_before_rope[0][1:], kv.k_before_rope[0][:-1], 0, F32 * largest)
    assert np.abs(kv.k[0][1:] - kv.k[0][:-1]).max() > 0.01 * largest


def test_layers_that_keep_a_window_are_turned_back_from_their_first_position(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", 16)
    monkeypatch.setattr(kv_slots, "PADDING", 4)
    golden, path = GOLDENS["gemma3"], tmp_path / "model.gguf"
    write_model(path, RECIPES["gemma3"], golden["seed"], golden["shapes"], golden["head_scale"])
    model = load_model(path, weights="float32")
    whole, windowed = (model.new_cache(128, "f32", "f32", swa_full=full) for full in (True, False))
    for cache in (whole, windowed):
        model.forward(np.tile(prompt_of("gemma3")[:5], 20), cache)
    full, part = analysis.kv_arrays(model, whole), analysis.kv_arrays(model, windowed)
    assert max(part.first) > 0 and len(set(part.first)) > 1
    for layer, first in enumerate(part.first):
        expected = full.k_before_rope[layer][first:]
        largest = np.abs(expected).max()
        np.testing.assert_allclose(part.k_before_rope[layer], expected, 0, 1e-4 * largest)
    norms = analysis.kv_norms(part)
    assert [int(np.isnan(row).sum()) for row in norms.k] == list(part.first)
    growth, full = analysis.kv_growth(windowed), analysis.kv_growth(whole)
    moved = np.array(part.first) > 0  # these have written every slot, the others one a position
    np.testing.assert_array_equal(growth.k[-1, moved], growth.allocated[0, moved])
    np.testing.assert_array_equal(growth.v[-1, ~moved], full.v[-1, ~moved])


def test_a_pass_in_pieces_behind_a_shift_still_turns_back_to_the_same_keys():
    model = load_model(BUILTIN_MODEL, device="cpu")
    cache = model.new_cache(n_ctx=64)
    ids = list(range(100, 140))
    model.forward(ids[:25], cache)
    model.forward(ids[25:], cache)
    before = analysis.kv_arrays(model, cache).k_before_rope
    cache.shift(n_keep=4, n_discard=10)
    after = analysis.kv_arrays(model, cache).k_before_rope
    for layer in range(model.config.n_layer):
        np.testing.assert_allclose(after[layer][:4], before[layer][:4], atol=F32)
        scale = np.abs(before[layer]).max()
        np.testing.assert_allclose(after[layer][4:], before[layer][14:], atol=F16 * scale)


def test_an_empty_cache_and_one_of_another_model_are_refused(tmp_path):
    model = load(tmp_path)
    with pytest.raises(ParameterError, match="cache: it holds no keys yet; expected at least 1"):
        analysis.kv_arrays(model, f32_cache(model))
    other = load_model(BUILTIN_MODEL, device="cpu")
    with pytest.raises(ParameterError, match="cache: made for another model"):
        analysis.kv_arrays(other, f32_cache(model))


@pytest.mark.parametrize("cache", [None, [1, 2], "f16"])
def test_what_is_no_cache_is_refused(tmp_path, cache):
    with pytest.raises(ParameterError, match="cache: not a KVCache; expected one made by model"):
        analysis.kv_arrays(load(tmp_path), cache)


@pytest.mark.parametrize(("rows", "name"), [("k", "k"), ("v", "v")])
def test_numbers_too_large_for_the_cache_are_named(tmp_path, rows, name):
    model = load(tmp_path)
    cache = model.new_cache()
    model.forward(IDS, cache)
    getattr(cache, rows)(1)[2, 1, 5] = np.inf
    with pytest.raises(ParameterError, match=rf"{name} of layer 1 .* row 2, KV head 1, channel 5"):
        analysis.kv_arrays(model, cache)


def test_the_arrays_are_copies_that_the_cache_does_not_share(tmp_path):
    model = load(tmp_path)
    cache = f32_cache(model)
    model.forward(IDS, cache)
    kv = analysis.kv_arrays(model, cache)
    kept = kv.k[0].copy()
    cache.k(0)[:] = 0
    np.testing.assert_array_equal(kv.k[0], kept)


@pytest.mark.parametrize("kind", ["q", "k_hadamar", "_hadamard", None, 3])
def test_an_unknown_kind_of_rows_is_refused(kind):
    with pytest.raises(ParameterError, match="kind: no such rows in a cache; expected one of k_"):
        made_of(random_rows()).of(kind)


@pytest.mark.parametrize(
    "measure",
    [
        analysis.outlier_channels,
        analysis.effective_ranks,
        analysis.cosine_drift,
        analysis.kv_errors,
        analysis.kv_norms,
    ],
)
def test_what_are_no_arrays_of_a_cache_is_refused_with_what_makes_them(measure):
    with pytest.raises(ParameterError, match=r"kv: not a KVArrays; expected one from analysis\."):
        measure(random_rows())


def test_hadamard_is_its_own_inverse_and_made_of_signs():
    np.testing.assert_array_equal(hadamard(1), [[1]])
    np.testing.assert_allclose(hadamard(2) * np.sqrt(2), [[1, 1], [1, -1]], rtol=1e-6)
    for n in (4, 32, 128):
        np.testing.assert_allclose(hadamard(n) @ hadamard(n), np.eye(n), atol=1e-5)
        np.testing.assert_allclose(np.abs(hadamard(n)), 1 / np.sqrt(n), rtol=1e-6)


@pytest.mark.parametrize("length", [8, 12, 96, 80])
def test_spreading_keeps_scores_and_comes_back(length):
    q, k = random_rows((5, 2, length)), random_rows((5, 2, length), seed=1)
    np.testing.assert_allclose(spread(spread(k)), k, atol=1e-5)
    np.testing.assert_allclose((spread(q) * spread(k)).sum(-1), (q * k).sum(-1), atol=1e-4)


def test_spreading_shares_one_large_number_out_to_its_whole_piece():
    row = np.zeros((1, 1, 12), np.float32)
    row[..., 5] = 2
    np.testing.assert_allclose(np.abs(spread(row))[0, 0], [0] * 4 + [1] * 4 + [0] * 4, atol=1e-6)


def test_rows_of_an_odd_length_cannot_be_spread_but_are_shared_out():
    kv = made_of(random_rows((6, 1, 7)))
    with pytest.raises(ParameterError, match=r"rows of an odd length .* multiple of 2, got 7"):
        kv.of("k_hadamard")
    assert set(analysis.outlier_channels(kv).shares) == {"k_before_rope", "k", "v"}


def test_shares_of_channels_by_hand():
    k = [[[3, 1, 0, 0]], [[-3, 1, 0, 0]]]  # squares: 18, 2, 0, 0
    result = analysis.outlier_channels(made_of(k))
    np.testing.assert_allclose(result.shares["k"][0], [[0.9, 0.1, 0, 0]])
    row = result.to_frame().set_index("kind").loc["k"]
    assert (row.channel, row.n_outlier) == (0, 1)  # 0.9 > 10 · the median, 0.05; 0.1 is not
    assert row.share == pytest.approx(0.9) and row.times_median == pytest.approx(18)
    assert row.n_even == pytest.approx(1 / 0.82)
    assert result.outliers("k") == [(0, 0, 0)]


def test_where_one_channel_has_all_it_is_the_only_outlier():
    k = np.zeros((3, 1, 6))
    k[..., 2] = 5
    row = analysis.outlier_channels(made_of(k)).to_frame().set_index("kind").loc["k"]
    assert (row.channel, row.n_outlier, row.n_even, row.times_median) == (2, 1, 1, np.inf)


def test_outliers_come_with_the_largest_share_first_and_by_the_threshold_given():
    k = np.ones((4, 2, 16))
    k[:, 0, 3], k[:, 1, 7], k[:, 1, 9] = 4, 8, 3  # squares: 16, 64, 9 times the others'
    kv = made_of(k)
    assert analysis.outlier_channels(kv).outliers("k") == [(0, 1, 7), (0, 0, 3)]
    assert analysis.outlier_channels(kv, times=8.9).outliers("k")[2] == (0, 1, 9)
    assert analysis.outlier_channels(kv, times=65).outliers("k") == []


def test_shares_add_up_to_one_even_for_rows_of_zeros():
    kv = made_of(random_rows(), v=np.zeros((20, 2, 8)))
    for layers in analysis.outlier_channels(kv).shares.values():
        np.testing.assert_allclose(layers[0].sum(axis=-1), 1)


def test_kinds_that_were_not_measured_are_refused():
    kv = made_of(random_rows())
    with pytest.raises(ParameterError, match="kind: these rows were not measured; expected one of"):
        analysis.outlier_channels(kv).outliers("q")
    with pytest.raises(ParameterError, match="got 'k_hadamard'"):
        analysis.cosine_drift(kv).by_layer("k_hadamard")


@pytest.mark.parametrize("times", [1, 0, -3, float("nan"), "10", None])
def test_a_threshold_that_half_of_all_channels_pass_is_refused(times):
    with pytest.raises(ParameterError, match=r"times: every other channel .* a number above 1"):
        analysis.outlier_channels(made_of(random_rows()), times)


def test_effective_ranks_by_hand():
    axes = np.eye(4)[:, None]  # four directions alike
    line = np.ones((4, 1, 4))  # one direction
    kv = made_of(axes, v=line, before=np.concatenate([3 * axes[:1], axes[1:2], 0 * axes[:2]]))
    result = analysis.effective_ranks(kv)
    assert result.rank["k"][0] == pytest.approx([4])
    assert result.rank["v"][0] == pytest.approx([1])
    p = np.array([0.75, 0.25])  # singular values 3 and 1
    assert result.rank["k_before_rope"][0] == pytest.approx([np.exp(-(p * np.log(p)).sum())])
    assert [int(result.n_energy[kind][0][0]) for kind in ("k", "v", "k_before_rope")] == [4, 1, 1]
    assert set(result.to_frame().of) == {4}


def test_ranks_are_those_of_a_singular_value_decomposition():
    for shape in ((40, 2, 8), (5, 2, 8)):  # more and fewer positions than numbers
        rows = random_rows(shape) ** 3
        found = analysis.effective_ranks(made_of(rows)).rank["k"][0]
        for head in range(2):
            values = np.linalg.svd(rows[:, head].astype(float), compute_uv=False)
            p = values / values.sum()
            np.testing.assert_allclose(found[head], np.exp(-(p * np.log(p)).sum()), rtol=1e-5)


def test_ranks_do_not_change_with_scale_or_a_turn_of_all_rows():
    rows, turn = random_rows((30, 2, 8)), np.linalg.qr(random_rows((8, 8)))[0]
    both = made_of(rows, v=5 * rows @ turn)
    result = analysis.effective_ranks(both)
    np.testing.assert_allclose(result.rank["k"][0], result.rank["v"][0], rtol=1e-5)


def test_centred_rows_have_no_rank_of_their_mean():
    shared = 100 * np.ones((16, 1, 8)) + random_rows((16, 1, 8))
    whole, centred = (
        analysis.effective_ranks(made_of(shared), centred=flag).rank["k"][0] for flag in (0, 1)
    )
    assert whole < 2 < 6 < centred


def test_rounding_adds_no_directions():
    whole = np.round(8 * random_rows((1, 1, 128)))  # products of integers are exact
    rows = np.arange(1, 301)[:, None, None] * whole
    assert analysis.effective_ranks(made_of(rows)).rank["k"][0] == pytest.approx([1], rel=1e-9)


def test_rows_of_zeros_have_rank_one():
    result = analysis.effective_ranks(made_of(np.zeros((5, 2, 4))))
    np.testing.assert_allclose(result.rank["k"][0], 1)


def test_cosines_of_rows_that_turn_are_cosines_of_the_distance():
    angle = 0.3 * np.arange(12)
    rows = (
        np.stack([np.cos(angle), np.sin(angle)], -1)[:, None] * (1 + np.arange(12))[:, None, None]
    )
    result = analysis.cosine_drift(made_of(rows), max_distance=5)
    np.testing.assert_allclose(result.distances, range(6))
    np.testing.assert_allclose(result.cosines["k"][0], [np.cos(0.3 * np.arange(6))], atol=1e-6)


def test_cosines_are_means_over_pairs_and_heads():
    rows = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 1]], [[0, 1], [-1, 0]]])  # (3, 2 heads, 2)
    result = analysis.cosine_drift(made_of(rows), max_distance=2)
    np.testing.assert_allclose(result.cosines["v"][0], [[1, 0.5, 0], [1, 0, -1]], atol=1e-12)
    np.testing.assert_allclose(result.by_layer("v"), [[1, 0.25, -0.5]], atol=1e-12)


def test_cosines_at_every_distance_are_the_means_over_all_pairs_so_far_apart():
    rows = random_rows((17, 2, 5)) + 1
    unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    result = analysis.cosine_drift(made_of(rows), 16).cosines["k"][0]
    for d in range(17):
        expected = (unit[d:] * unit[: 17 - d]).sum(-1).mean(axis=0)
        np.testing.assert_allclose(result[:, d], expected, atol=1e-6)


def test_centred_cosines_leave_out_what_all_rows_share():
    rows = 100 + random_rows((40, 1, 8))
    plain, centred = (
        analysis.cosine_drift(made_of(rows), 3, centred=c).cosines["k"][0][0, 1] for c in (0, 1)
    )
    assert plain > 0.99 and abs(centred) < 0.2


@pytest.mark.parametrize("distance", [-1, 8, 2.5, True, "4"])
def test_a_distance_that_no_pair_has_is_refused(distance):
    with pytest.raises(ParameterError, match=r"max_distance: .* expected from 0 to 7, got"):
        analysis.cosine_drift(made_of(random_rows((8, 1, 4))), distance)


def test_rope_keeps_norms_and_makes_distant_keys_differ():
    model = load_model(BUILTIN_MODEL, device="cpu")
    cache = model.new_cache(n_ctx=128, type_k="f32", type_v="f32")
    model.forward(model.tokenizer.encode("Once there was a cat. " * 12), cache)
    kv = analysis.kv_arrays(model, cache)
    for before, after in zip(kv.k_before_rope, kv.k, strict=True):
        lengths = np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1)
        np.testing.assert_allclose(*lengths, rtol=1e-5)
    drift = analysis.cosine_drift(kv, 30)
    before, after = (drift.by_layer(kind)[1:, 30] for kind in ("k_before_rope", "k"))
    assert (before - after > 0.05).all()


def test_the_built_in_models_keys_have_one_large_channel_that_hadamard_spreads():
    model = load_model(BUILTIN_MODEL, device="cpu")
    cache = model.new_cache(n_ctx=128)
    model.forward(
        model.tokenizer.encode("One day, a girl found a big red ball in the park."), cache
    )
    table = analysis.outlier_channels(analysis.kv_arrays(model, cache)).to_frame()
    share = table.groupby("kind").share.mean()
    assert share["k_before_rope"] > share["k"] > 2 * share["k_hadamard"]
    largest = table[(table.kind == "k_before_rope") & (table.times_median > 50)]
    assert set(largest.channel) <= {18, 19}  # one pair that RoPE turns slowly
