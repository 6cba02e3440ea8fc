"""The KV cache as arrays: sizes, views, truncation, arguments."""

import numpy as np
import pytest

from tests.model.tiny import metadata
from workbench.errors import ContextFullError, ParameterError
from workbench.model import KVCache, ModelConfig


def config(**changes):
    return ModelConfig.from_metadata(metadata(**changes))


def filled(n_past=3):
    cache = KVCache(config(), n_ctx=8, type_k="f32")
    numbers = np.arange(2 * n_past * 2 * 8, dtype=np.float32).reshape(2, n_past, 2, 8)
    with cache.appending(range(n_past)):
        for layer in range(2):
            cache.write(layer, 0, numbers[layer], -numbers[layer])
    return cache, numbers


def test_bytes_are_those_of_all_slots():
    cache = KVCache(config(), n_ctx=10, type_k="f16", type_v="f32")
    assert cache.nbytes == 2 * 10 * 2 * 8 * (2 + 4)
    assert cache.layer_nbytes == (10 * 2 * 8 * (2 + 4),) * 2


def test_default_is_the_trained_context_in_f16():
    cache = KVCache(config())
    assert (cache.n_ctx, cache.n_past, cache.type_k, cache.type_v) == (64, 0, "f16", "f16")


def test_k_and_v_show_what_was_written_and_no_more():
    cache, numbers = filled()
    np.testing.assert_array_equal(cache.k(1), numbers[1])
    np.testing.assert_array_equal(cache.v(0), -numbers[0])
    assert cache.v(0).dtype == np.float16


def test_truncate_forgets_the_end_and_reset_everything():
    cache, numbers = filled()
    cache.truncate(np.int64(1))
    np.testing.assert_array_equal(cache.k(0), numbers[0, :1])
    cache.reset()
    assert cache.k(0).shape == (0, 2, 8)


def test_repr_is_stable():
    assert repr(filled()[0]) == "KVCache(3 of 8 positions, 2 layers, k f32, v f16, 1536 bytes)"


@pytest.mark.parametrize("n_past", [-1, 4, 1.0, None, True])
def test_truncating_to_positions_it_does_not_hold_is_refused(n_past):
    cache, _ = filled()
    with pytest.raises(ParameterError, match="expected from 0 to the 3 held"):
        cache.truncate(n_past)
    assert cache.n_past == 3


@pytest.mark.parametrize("layer", [-1, 2, "0", None])
def test_a_layer_it_does_not_have_is_refused(layer):
    with pytest.raises(ParameterError, match="expected from 0 to 1"):
        filled()[0].k(layer)


@pytest.mark.parametrize("n_ctx", [0, -5, 1.5, "8", True])
def test_an_impossible_context_is_refused(n_ctx):
    with pytest.raises(ParameterError, match="expected an integer of at least 1"):
        KVCache(config(), n_ctx=n_ctx)


@pytest.mark.parametrize("n_ctx", [2**45, 2**62, 10**30])
def test_a_context_beyond_memory_is_refused_with_its_size(n_ctx):
    with pytest.raises(ParameterError, match=r"got [0-9.]+ GB \(128 bytes a position\)"):
        KVCache(config(), n_ctx=n_ctx)


@pytest.mark.parametrize("name", ["q4_K", "F16", None, 16])
def test_another_type_is_refused_with_the_list(name):
    with pytest.raises(
        ParameterError, match=r"type_v: no such cache type; .* one of f32, f16, bf16"
    ):
        KVCache(config(), type_v=name)


def test_room_is_what_is_left_of_n_ctx():
    cache, _ = filled()
    with pytest.raises(ContextFullError, match=r"n_ctx 8 - n_past 3\), got n_tokens 6"):
        with cache.appending(range(6)):
            pass
    with cache.appending(range(5)):
        pass
    assert cache.n_past == 8


def test_buffers_are_all_slots_used_or_not():
    cache, _ = filled()
    k, v = cache.buffers(1)
    assert (len(k), len(v)) == (cache.n_ctx, cache.n_ctx)
    assert np.shares_memory(k, cache.k(1)) and np.shares_memory(v, cache.v(1))
    with pytest.raises(ParameterError, match="no layer 2"):
        cache.buffers(2)
