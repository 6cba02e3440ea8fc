"""Bytes, norms and attention of positions, counted by hand."""

import numpy as np
import pytest

from tests.analysis.test_kv_arrays import made_of
from tests.model.tiny import load
from workbench import analysis
from workbench.analysis.kv_arrays import KVArrays
from workbench.errors import ParameterError


def maps_of(probs):
    return analysis.attention_maps({"kq_soft_max-0": np.asarray(probs, np.float32)})


def even(n, n_head=1):
    return np.repeat((np.tri(n) / np.arange(1, n + 1)[:, None])[None], n_head, axis=0)


def test_bytes_are_positions_times_heads_times_lengths_times_the_type(tmp_path):
    model = load(tmp_path)  # 2 layers of 2 KV heads of 8 numbers
    cache = model.new_cache(n_ctx=16, type_k="f32", type_v="f16")
    model.forward([1, 2, 3], cache)
    growth = analysis.kv_growth(cache)
    np.testing.assert_array_equal(growth.n_past, [0, 1, 2, 3])
    np.testing.assert_array_equal(growth.k, np.arange(4)[:, None] * [64, 64])
    np.testing.assert_array_equal(growth.v, np.arange(4)[:, None] * [32, 32])
    np.testing.assert_array_equal(growth.total, [0, 192, 384, 576])
    assert growth.allocated.sum() == cache.nbytes == 16 * 192
    assert growth.to_frame().k_allocated.tolist() == [1024, 1024]


def test_any_steps_that_the_cache_has_room_for_can_be_asked_for(tmp_path):
    cache = load(tmp_path).new_cache(n_ctx=16)
    assert analysis.kv_growth(cache, [0, 8, 16]).total[-1] == cache.nbytes
    assert analysis.kv_growth(cache).n_past.tolist() == [0]


@pytest.mark.parametrize("steps", [[17], [-1], [], [1.5], [[1]], [1, [2]], "3"])
def test_steps_that_are_no_positions_of_the_cache_are_refused(tmp_path, steps):
    cache = load(tmp_path).new_cache(n_ctx=16)
    with pytest.raises(ParameterError, match=r"n_past: no steps of this cache; .* to its n_ctx 16"):
        analysis.kv_growth(cache, steps)


def test_norms_are_means_over_heads_and_empty_where_a_window_has_moved_on():
    k = np.array([[[3, 4], [0, 0]], [[0, 1], [0, 3]]])  # norms 5, 0 and 1, 3
    norms = analysis.kv_norms(made_of(k))
    np.testing.assert_allclose(norms.k, [[2.5, 2]])
    assert norms.to_frame().k_first.tolist() == [2.5]
    k = k.astype(np.float32)
    moved = analysis.kv_norms(KVArrays((k, k[1:]), (k, k[1:]), (k, k[1:]), (0, 1)))
    np.testing.assert_allclose(moved.v, [[2.5, 2], [np.nan, 2]])


@pytest.mark.parametrize("beyond", [0, 3, 12])
def test_even_attention_gives_every_position_one(beyond):
    received = analysis.attention_received(maps_of(even(20, 2)), beyond)
    expected = np.where(np.arange(20) <= 12 - beyond, 1, np.nan)
    np.testing.assert_allclose(received.by_head[0], [expected, expected], rtol=1e-6)
    np.testing.assert_allclose(received.by_layer[0], expected, rtol=1e-6)


def test_a_sink_gets_as_many_times_its_part_as_there_are_positions():
    probs = np.zeros((1, 10, 10))
    probs[0, :, 0] = 1
    received = analysis.attention_received(maps_of(probs), 2)
    assert received.by_head[0, 0, 0] == pytest.approx(np.arange(3, 11).mean())
    assert received.to_frame().position.tolist() == [0]  # of the others, too few looks
    assert received.pieces[0] == "0"


def test_looks_from_nearby_do_not_count():
    probs = np.eye(30)[None] * 0.5 + even(30) * 0.5
    near, far = (analysis.attention_received(maps_of(probs), b).by_layer[0, 5] for b in (0, 1))
    assert far == pytest.approx(0.5) and near > 0.5


def test_the_most_looked_at_come_first_with_their_pieces():
    probs = even(20)
    probs[0, :, 3] += np.tri(20)[:, 3]
    maps = analysis.attention_maps(
        {"kq_soft_max-0": probs.astype(np.float32)}, list("abcdefghijklmnopqrst")
    )
    table = analysis.attention_received(maps, 4).to_frame(2)
    assert table.position[0] == 3 and table.piece[0] == "d" and len(table) == 2


@pytest.mark.parametrize("beyond", [-1, 13, 2.0, None])
def test_a_distance_from_which_too_few_look_is_refused(beyond):
    with pytest.raises(ParameterError, match=r"beyond: .* expected from 0 to 12, got"):
        analysis.attention_received(maps_of(even(20)), beyond)


def test_maps_of_the_end_of_a_text_are_refused():
    with pytest.raises(ParameterError, match="maps: only a part of the text looks"):
        analysis.attention_received(maps_of(even(20)[:, -5:]))
