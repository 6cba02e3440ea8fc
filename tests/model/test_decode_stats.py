import numpy as np
import pytest

from tests.conftest import BUILTIN_MODEL
from workbench.model import ActivationTrace, load_model
from workbench.model.decode_stats import plain_decode_stats


@pytest.fixture(scope="module")
def model():
    with load_model(BUILTIN_MODEL, device="cpu") as loaded:
        yield loaded


def test_stats_are_those_of_the_forward_pass(model):
    ids = model.tokenizer.encode("Once upon a time there was a dog")
    cache, twin = model.new_cache(32), model.new_cache(32)
    model.forward(ids[:-1], cache)
    logits, stats = plain_decode_stats(model.network, ids[-1], cache)
    trace = ActivationTrace(["l_out-*", "kq_soft_max-*"])
    want = model.forward(ids, twin, trace)
    np.testing.assert_allclose(logits, want[-1], rtol=1e-4, atol=1e-4)
    n, config = len(ids), model.config
    assert stats.position == n - 1 and cache.n_past == n
    assert stats.mass.shape == (config.n_layer, n)
    assert stats.entropy.shape == (config.n_layer, config.n_head)
    assert stats.k_norm.shape == stats.v_norm.shape == (config.n_layer, config.n_head_kv)
    for layer in range(config.n_layer):
        probs = trace[f"kq_soft_max-{layer}"][:, -1]
        np.testing.assert_allclose(stats.mass[layer], probs.sum(axis=0), atol=1e-4)
        np.testing.assert_allclose(stats.taps[layer], trace[f"l_out-{layer}"][-1], atol=1e-3)
        key = np.linalg.norm(cache.k(layer)[-1].astype(np.float64), axis=-1)
        np.testing.assert_allclose(stats.k_norm[layer], key, rtol=1e-6)


def test_mass_adds_up_to_the_heads_and_entropy_to_what_even_shares_have(model):
    cache = model.new_cache(8)
    _, first = plain_decode_stats(model.network, model.tokenizer.bos_id, cache)
    np.testing.assert_allclose(first.mass, model.config.n_head)  # only itself to look at
    np.testing.assert_allclose(first.entropy, 0, atol=1e-6)
    _, second = plain_decode_stats(model.network, 5, cache)
    np.testing.assert_allclose(second.mass.sum(axis=1), model.config.n_head, rtol=1e-5)
    assert second.entropy.max() <= np.log(2) + 1e-6
    np.testing.assert_allclose(second.mean_mass.sum(), 1, rtol=1e-5)
    assert sorted(second.most_seen()) == [0, 1]
