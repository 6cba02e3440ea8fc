"""The forward pass: the same numbers in whatever way tokens come, and input it must refuse."""

import numpy as np
import pytest

from tests.model.tiny import f32_cache, load, metadata, tensors
from workbench.errors import ContextFullError, ParameterError
from workbench.model import ActivationTrace, transformer
from workbench.ops import cpu

IDS = np.random.default_rng(3).integers(0, 40, 30)
SAME = 2e-5  # float32 sums in another order; the logits are of size 10


@pytest.fixture(scope="module", params=["dense", "experts", "f16 weights", "yarn"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    if request.param == "experts":
        return load(folder, metadata(expert_count=5, expert_used_count=2), tensors(n_expert=5))
    if request.param == "f16 weights":
        half = {n: x.astype(np.float16) if x.ndim == 2 else x for n, x in tensors().items()}
        return load(folder, weights=half)
    if request.param == "yarn":
        return load(folder, metadata(rope__scaling__type="yarn", rope__scaling__factor=4.0))
    return load(folder)


@pytest.fixture
def tiny(tmp_path):
    return load(tmp_path)


def test_logits_have_a_row_a_token_and_do_not_depend_on_what_follows(model):
    whole = model.forward(IDS, f32_cache(model))
    assert whole.shape == (30, 40) and whole.dtype == np.float32
    np.testing.assert_allclose(model.forward(IDS[:7], f32_cache(model)), whole[:7], atol=SAME)


@pytest.mark.parametrize("step", [1, 7, 29])
def test_tokens_in_pieces_equal_tokens_at_once(model, step):
    whole, cache = model.forward(IDS, f32_cache(model)), f32_cache(model)
    pieces = [model.forward(IDS[i : i + step], cache) for i in range(0, len(IDS), step)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=SAME)
    assert cache.n_past == 30


def test_a_long_prompt_goes_through_in_pieces_of_its_own(model, monkeypatch):
    whole = model.forward(IDS, f32_cache(model))
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", 8)
    cache = f32_cache(model)
    np.testing.assert_allclose(model.forward(IDS, cache), whole, atol=SAME)
    last = model.forward(IDS, f32_cache(model), last_only=True)
    np.testing.assert_allclose(last, whole[-1:], atol=SAME)


def test_last_only_gives_the_last_row(model):
    whole, last = (model.forward(IDS, f32_cache(model), last_only=x) for x in (False, True))
    np.testing.assert_allclose(last, whole[-1:], atol=SAME)


def test_replay_after_truncation_equals_the_first_time(model):
    cache = f32_cache(model)
    first = model.forward(IDS, cache)
    keys = cache.k(1).copy()
    cache.truncate(11)
    model.forward((IDS[11:] + 1) % 40, cache)
    cache.truncate(11)
    np.testing.assert_allclose(model.forward(IDS[11:], cache), first[11:], atol=SAME)
    np.testing.assert_allclose(cache.k(1), keys, atol=SAME)


def test_an_f16_cache_rounds_keys_and_values_only(tiny):
    fine, rounded = f32_cache(tiny), tiny.new_cache()
    tiny.forward(IDS, fine)
    tiny.forward(IDS, rounded)
    np.testing.assert_array_equal(rounded.k(0), fine.k(0).astype(np.float16))
    np.testing.assert_array_equal(rounded.v(0), fine.v(0).astype(np.float16))


def test_keys_are_cached_after_their_rotation(tiny):
    cache, trace = f32_cache(tiny), ActivationTrace(["Kcur-1", "Vcur-1"])
    tiny.forward(IDS, cache, trace=trace)
    np.testing.assert_array_equal(cache.k(1), trace["Kcur-1"])
    np.testing.assert_array_equal(cache.v(1), trace["Vcur-1"])


@pytest.mark.parametrize("part", ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_down"])
def test_a_bias_equals_a_row_of_weights_fed_with_one(tmp_path, part):
    """The bias of a matrix must be added to its result: seen through the activation it makes."""
    rng, weights = np.random.default_rng(5), tensors()
    bias = rng.standard_normal(len(weights[f"blk.0.{part}.weight"])).astype(np.float32)
    tap = {"attn_q": "Qcur", "attn_k": "Kcur", "attn_v": "Vcur", "attn_output": "attn_out"}
    name = tap.get(part, "ffn_out") + "-0"
    results = []
    for extra in ({}, {f"blk.0.{part}.bias": bias}):
        model, trace = load(tmp_path, weights=weights | extra), ActivationTrace([name])
        model.forward([7], f32_cache(model), trace=trace)  # position 0: no rotation
        results.append(trace[name].ravel())
    np.testing.assert_allclose(results[1] - results[0], bias, atol=SAME)


def test_rope_freqs_divide_the_angles(tmp_path):
    """Divisors of 2 in every pair are what linear scaling by 2 is."""
    divisors = {"rope_freqs.weight": np.full(4, 2, np.float32)}
    divided = load(tmp_path, weights=divisors | tensors())
    expected = divided.forward(IDS, f32_cache(divided))
    scaled = load(tmp_path, metadata(rope__scaling__factor=2.0))
    np.testing.assert_allclose(scaled.forward(IDS, f32_cache(scaled)), expected, atol=SAME)


@pytest.mark.parametrize(
    "ids", [[], [[1, 2]], [1.0], ["a"], [True], 5, None, [[1], [2, 3]], [2**70], "12"]
)
def test_what_is_no_sequence_of_ids_is_refused(tiny, ids):
    with pytest.raises(ParameterError, match="token_ids: not a sequence of token ids"):
        tiny.forward(ids, tiny.new_cache())


@pytest.mark.parametrize("bad", [-1, 40, 2**40])
def test_an_id_out_of_range_is_named_with_its_place(tiny, bad):
    cache = tiny.new_cache()
    with pytest.raises(ParameterError, match=rf"token_ids\[2\]: .* from 0 to 39, got {bad};"):
        tiny.forward([1, 2, bad], cache)
    assert cache.n_past == 0


def test_a_prompt_too_long_leaves_the_cache_as_it_was(tiny):
    cache = f32_cache(tiny, n_ctx=31)
    tiny.forward(IDS, cache)
    before = cache.k(0).copy()
    with pytest.raises(ContextFullError, match=r"n_ctx 31 - n_past 30\), got n_tokens 2"):
        tiny.forward([1, 2], cache)
    assert cache.n_past == 30
    np.testing.assert_array_equal(cache.k(0), before)
    tiny.forward([1], cache)
    with pytest.raises(ContextFullError, match="expected at most 0"):
        tiny.forward([1], cache)


def test_a_failure_midway_leaves_the_cache_as_it_was(tiny, monkeypatch):
    cache = f32_cache(tiny)
    first = tiny.forward(IDS[:5], cache)
    with monkeypatch.context() as patch:
        patch.setattr(transformer, "feed_forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tiny.forward(IDS[5:], cache)
    assert cache.n_past == 5
    cache.truncate(0)
    np.testing.assert_allclose(tiny.forward(IDS[:5], cache), first, atol=SAME)


def test_another_models_cache_is_refused(tiny, tmp_path):
    other = load(tmp_path, metadata(attention__head_count_kv=4), tensors() | four_kv_heads())
    with pytest.raises(ParameterError, match=r"made for another model; expected 2 layers"):
        tiny.forward([1], other.new_cache())
    with pytest.raises(ParameterError, match="not a KVCache"):
        tiny.forward([1], None)


def four_kv_heads():
    shape = (32, 32)
    names = [f"blk.{layer}.attn_{part}.weight" for layer in range(2) for part in "kv"]
    return {name: np.zeros(shape, np.float32) for name in names}
