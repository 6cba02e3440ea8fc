"""A cache that loses its end, shares a beginning, moves, or keeps windows: the same numbers."""

from pathlib import Path

import numpy as np
import pytest

from tests.model.tiny import f32_cache, load, metadata, tensors
from workbench.errors import ParameterError
from workbench.model import ActivationTrace, KVCache, kv_slots, load_model
from workbench.model.context import CacheOrigin
from workbench.ops import cpu

DATA = Path(__file__).resolve().parents[1] / "data"
IDS = np.random.default_rng(3).integers(0, 40, 30)
SAME = 2e-5  # float32 sums in another order; the logits are of size 10
TURNED = 5e-5  # and angles of two turns instead of one
HALF = 2e-2  # keys of an f16 cache are rounded once more when they are turned


@pytest.fixture(scope="module", params=["plain", "yarn", "linear", "rope_freqs"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    if request.param == "rope_freqs":
        return load(folder, weights=tensors() | {"rope_freqs.weight": np.float32([1, 2, 4, 8])})
    if request.param == "plain":
        return load(folder)
    return load(folder, metadata(rope__scaling__type=request.param, rope__scaling__factor=4.0))


@pytest.fixture
def tiny(tmp_path):
    return load(tmp_path)


def test_keys_after_a_shift_are_those_of_their_new_positions(model):
    """Layer 0's keys depend on token and position only: compare with a text without the gap."""
    cache, short = f32_cache(model), f32_cache(model)
    model.forward(IDS, cache)
    values = [cache.v(layer).copy() for layer in range(2)]
    model.forward(np.r_[IDS[:4], IDS[15:]], short)
    cache.shift(n_keep=4, n_discard=11)
    np.testing.assert_allclose(cache.k(0), short.k(0), 0, TURNED)
    for layer in range(2):
        kept = np.r_[values[layer][:4], values[layer][15:]]
        np.testing.assert_array_equal(cache.v(layer), kept)
    np.testing.assert_array_equal(cache.token_ids, np.r_[IDS[:4], IDS[15:]])


def test_keys_of_all_layers_are_turned_by_the_angles_of_the_way_they_moved(model):
    cache = f32_cache(model)
    model.forward(IDS, cache)
    before = [cache.k(layer).copy() for layer in range(2)]
    cache.shift(0, 7)
    for layer in range(2):
        back = CacheOrigin(model).turned(layer, cache.k(layer), 7, cache.n_ctx)
        np.testing.assert_allclose(back, before[layer][7:], 0, TURNED)


def test_a_shift_in_an_f16_cache_rounds_the_turned_keys(model):
    fine, rounded = f32_cache(model), model.new_cache()
    for cache in (fine, rounded):
        model.forward(IDS, cache)
        cache.shift(2, 9)
    assert rounded.k(1).dtype == np.float16
    np.testing.assert_allclose(rounded.k(1), fine.k(1), 0, HALF)
    np.testing.assert_allclose(model.forward([5], rounded), model.forward([5], fine), 0, HALF)


def test_a_long_shift_goes_by_tiles_that_do_not_overwrite_each_other(model, monkeypatch):
    whole, tiled = f32_cache(model), f32_cache(model)
    for cache, tile in ((whole, 1000), (tiled, 4)):
        model.forward(IDS, cache)
        monkeypatch.setattr(kv_slots, "ROWS_PER_TILE", tile)
        cache.shift(3, 2)
    for layer in range(2):
        np.testing.assert_array_equal(tiled.k(layer), whole.k(layer))
        np.testing.assert_array_equal(tiled.v(layer), whole.v(layer))


def test_shifting_makes_room_for_a_text_without_end(tiny):
    cache = f32_cache(tiny, n_ctx=16)
    for token in np.tile(IDS, 3):
        if cache.n_past == cache.n_ctx:
            cache.shift(n_keep=2)
        tiny.forward([token], cache)
    assert cache.n_past == 13 and np.isfinite(cache.k(1)).all()
    np.testing.assert_array_equal(cache.token_ids[:2], IDS[:2])


def test_logits_after_a_shift_agree_with_llama_cpp():
    golden, prompt = np.load(DATA / "context.npz"), np.load(DATA / "llama-tied.npz")["tokens"]
    with load_model(DATA / "llama-tied.gguf") as model:
        cache = f32_cache(model)
        model.forward(prompt, cache)
        cache.shift(int(golden["n_keep"]), int(golden["n_discard"]))
        logits = [model.forward([token], cache)[0] for token in golden["next_tokens"]]
    np.testing.assert_allclose(logits, golden["shift_logits"], 0, TURNED)


@pytest.mark.parametrize("type", ["f16", "f32"])
@pytest.mark.parametrize("step", [1, 7])
def test_a_prompt_in_chunks_fills_the_cache_as_a_prompt_at_once(model, type, step):
    whole, chunked = (model.new_cache(type_k=type, type_v=type) for _ in range(2))
    logits = model.forward(IDS, whole)
    pieces = [model.forward(IDS[i : i + step], chunked) for i in range(0, 30, step)]
    # In f16 a last bit of the sums can round a key to the neighbouring half.
    tolerance = SAME if type == "f32" else HALF
    np.testing.assert_allclose(np.concatenate(pieces), logits, 0, tolerance)
    np.testing.assert_allclose(chunked.k(1), whole.k(1), 0, tolerance)
    np.testing.assert_array_equal(chunked.token_ids, IDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 2), "n_keep is no number of positions; expected 0 or more, got -1"),
        ((0, 1.5), "n_discard is no number of positions"),
        ((None, 1), "n_keep is no number"),
        ((True, 1), "n_keep is no number"),
        ((20, 11), r"expected n_keep \+ n_discard up to 30, got 20 \+ 11"),
        ((31,), r"expected n_keep \+ n_discard up to 30"),
    ],
)
def test_an_impossible_shift_is_refused_and_changes_nothing(tiny, arguments, message):
    cache = f32_cache(tiny)
    tiny.forward(IDS, cache)
    before = cache.k(1).copy()
    with pytest.raises(ParameterError, match=message):
        cache.shift(*arguments)
    np.testing.assert_array_equal(cache.k(1), before)


def test_a_cache_without_a_model_cannot_be_shifted(tiny):
    with pytest.raises(ParameterError, match="knows no model to turn keys with"):
        KVCache(tiny.config, 8).shift(0, 0)


def test_reuse_keeps_the_common_beginning_and_the_rest_gives_the_same_logits(tiny):
    cache, other = f32_cache(tiny), IDS.copy()
    tiny.forward(IDS, cache)
    other[20:] = (other[20:] + 1) % 40
    assert cache.common_prefix(other) == 20
    n_kept = cache.reuse(other)
    assert n_kept == cache.n_past == 20
    expected = tiny.forward(other, f32_cache(tiny))[20:]
    np.testing.assert_allclose(tiny.forward(other[n_kept:], cache), expected, 0, SAME)


@pytest.mark.parametrize(
    ("ids", "n_kept"), [(IDS, 29), (IDS[:7], 6), ([39 - IDS[0]], 0), (np.r_[IDS, IDS], 30), ([], 0)]
)
def test_reuse_always_leaves_a_token_to_forward(tiny, ids, n_kept):
    cache = f32_cache(tiny)
    tiny.forward(IDS, cache)
    assert cache.reuse(ids) == cache.n_past == n_kept


@pytest.mark.parametrize("ids", ["abc", [[1, 2]], [1.5], None, [[1], [1, 2]]])
def test_what_is_no_text_has_no_common_beginning(tiny, ids):
    with pytest.raises(ParameterError, match="token_ids: not token ids"):
        f32_cache(tiny).common_prefix(ids)


# A window on one of two layers. The rule "slot j is seen from position i if i - j < n_swa" is the
# architectures' own; here attention is cut by the cache alone, one token at a time.

N_SWA = 5


@pytest.fixture
def windowed(tiny, monkeypatch):
    monkeypatch.setattr(kv_slots, "PADDING", 2)
    monkeypatch.setattr(cpu, "TOKENS_AT_ONCE", 4)
    whole = type(tiny.config).kv_slots

    def kv_slots_with_window(config, layer):
        return (*whole(config, layer)[:2], N_SWA if layer == 0 else 0)

    monkeypatch.setattr(type(tiny.config), "kv_slots", kv_slots_with_window)
    return tiny


def one_by_one(model, ids, cache):
    return np.array([model.forward([token], cache)[0] for token in ids])


def test_a_window_kept_alone_gives_the_logits_of_all_positions_kept(windowed):
    full = windowed.new_cache(type_k="f32", type_v="f32")
    window = windowed.new_cache(type_k="f32", type_v="f32", swa_full=False)
    np.testing.assert_array_equal(
        one_by_one(windowed, IDS, window), one_by_one(windowed, IDS, full)
    )
    assert full.first(0) == 0 and window.first(1) == 0
    assert 0 < window.first(0) <= 30 - N_SWA + 1
    np.testing.assert_array_equal(window.k(0), full.k(0)[window.first(0) :])
    np.testing.assert_array_equal(window.v(1), full.v(1))


def test_the_bytes_of_a_window_are_shown(windowed):
    window = windowed.new_cache(n_ctx=64, swa_full=False)
    assert window.layer_nbytes == (10 * 2 * 8 * 4, 64 * 2 * 8 * 4)  # 5 + 4 tokens, padded to 10
    assert window.nbytes == sum(window.layer_nbytes)
    assert "2 layers (1 keep a window)" in repr(window)
    assert windowed.new_cache(n_ctx=8, swa_full=False).nbytes == windowed.new_cache(8).nbytes


def test_a_window_cannot_go_back_beyond_itself(windowed):
    window = windowed.new_cache(swa_full=False)
    one_by_one(windowed, IDS, window)
    least = window.first(0) + N_SWA - 1
    with pytest.raises(ParameterError, match=rf"expected 0 or from {least} to 30, got {least - 1}"):
        window.truncate(least - 1)
    window.truncate(least)
    full = windowed.new_cache(swa_full=True)
    one_by_one(windowed, IDS[:least], full)
    np.testing.assert_array_equal(
        one_by_one(windowed, [7, 8, 9], window), one_by_one(windowed, [7, 8, 9], full)
    )
    window.truncate(0)
    assert window.first(0) == 0


def test_reuse_starts_anew_where_the_window_is_gone(windowed):
    window = windowed.new_cache(swa_full=False)
    one_by_one(windowed, IDS, window)
    assert window.reuse(np.r_[IDS[:3], IDS]) == window.n_past == 0


def test_a_window_cannot_be_shifted(windowed):
    with pytest.raises(ParameterError, match="expected a cache with all positions"):
        windowed.new_cache(swa_full=False).shift(0, 0)


def test_a_failure_midway_leaves_a_window_as_it_was(windowed):
    window = windowed.new_cache(type_k="f32", type_v="f32", swa_full=False)
    one_by_one(windowed, IDS[:20], window)
    before, first = window.k(0).copy(), window.first(0)
    pieces = iter([None, None])  # the third fails
    trace = ActivationTrace().edit("l_out-1", lambda x: next(pieces))
    with pytest.raises(ParameterError, match="StopIteration"):
        windowed.forward(IDS[:16], window, trace=trace)
    assert window.n_past == 20 and window.first(0) == first
    np.testing.assert_array_equal(window.k(0), before)


def test_a_flag_is_a_flag(tiny):
    with pytest.raises(ParameterError, match="swa_full: not a flag"):
        tiny.new_cache(swa_full=0)


def test_a_window_kept_alone_is_saved_and_forked_where_it_is(windowed, tmp_path):
    cache = windowed.new_cache(type_k="f32", swa_full=False)
    one_by_one(windowed, IDS, cache)
    cache.save(tmp_path / "cache")
    opened, fork = windowed.load_cache(tmp_path / "cache"), cache.fork()
    assert opened.first(0) == fork.first(0) == cache.first(0) > 0
    expected = one_by_one(windowed, IDS[:9], cache)
    for other in (opened, fork):
        np.testing.assert_array_equal(one_by_one(windowed, IDS[:9], other), expected)
    assert "layers kept only their sliding window" in cache.match(IDS[:7]).reason
