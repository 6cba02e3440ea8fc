"""Caches saved and opened, copied, compared with another text, and counted to the byte."""

import numpy as np
import pytest

from tests.model.kv_models import prompt, write_kv_model
from tests.model.tiny import metadata, write
from workbench.errors import ParameterError
from workbench.model import KVCache, ModelConfig, load_model
from workbench.model.kv_bytes import predict_cache_bytes

IDS = prompt()[:12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kv_file")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(write_kv_model(folder / "kv.gguf", 64), device="cpu")


@pytest.mark.parametrize(
    "types", [("f32", "f32"), ("f16", "q8_0"), ("bf16", "iq4_nl"), (("q4_0", "f16"), "q5_1")]
)
def test_a_cache_goes_on_from_its_file_as_if_it_had_never_left(model, tmp_path, types):
    cache = model.new_cache(40, *types)
    model.forward(IDS, cache)
    cache.save(tmp_path / "cache.safetensors")
    opened = model.load_cache(tmp_path / "cache.safetensors")
    assert repr(opened) == repr(cache)
    assert list(tmp_path.iterdir()) == [tmp_path / "cache.safetensors"]
    for layer in range(2):
        np.testing.assert_array_equal(opened.raw_k(layer), cache.raw_k(layer))
        np.testing.assert_array_equal(opened.raw_v(layer), cache.raw_v(layer))
    np.testing.assert_array_equal(model.forward([5], opened), model.forward([5], cache))


def test_the_cache_of_another_model_is_refused_with_what_differs(model, folder, tmp_path):
    cache = model.new_cache(40)
    model.forward(IDS, cache)
    cache.save(tmp_path / "cache")
    other = load_model(write_kv_model(tmp_path / "other.gguf", 32), device="cpu")
    with pytest.raises(ParameterError, match="the cache of another model; its weights differ"):
        other.load_cache(tmp_path / "cache")
    tiny = load_model(write(tmp_path), device="cpu")
    with pytest.raises(ParameterError, match=r"its n_vocab and weights differ; expected n_vocab"):
        tiny.load_cache(tmp_path / "cache")


def test_every_truncated_or_damaged_file_is_refused(model, tmp_path):
    cache = model.new_cache(40, "q8_0", "q8_0")
    model.forward(IDS, cache)
    path = tmp_path / "cache"
    cache.save(path)
    whole = path.read_bytes()
    for length in (*range(0, 1200, 97), *range(1200, len(whole), 997)):
        path.write_bytes(whole[:length])
        with pytest.raises(ParameterError, match="not a whole safetensors file"):
            model.load_cache(path)
    for old, new, said in (
        (b"KV cache 1", b"KV cache 2", "not a KV cache"),
        (b'"first":"[0, 0]', b'"first":"[0, 9]', "not what this cache holds|not those of"),
        (b'"n_ctx":"40"', b'"n_ctx":"-4"', "n_ctx: not a number of positions"),
        (b'"rotate":"null"', b'"rotate":"nill"', "its metadata is damaged"),
        (b"k.1", b"k.7", "k.1: missing"),
        (b'"type_k":"\\"q8_0', b'"type_k":"\\"q4_0', "k.0: not what this cache holds"),
    ):
        assert old in whole
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(ParameterError, match=said):
            model.load_cache(path)
    with pytest.raises(ParameterError, match="no such file"):
        model.load_cache(tmp_path / "none")


def test_saving_needs_a_model_and_harms_no_file(tmp_path):
    path = tmp_path / "cache"
    path.write_bytes(b"mine")
    with pytest.raises(ParameterError, match="the cache knows no model"):
        KVCache(ModelConfig.from_metadata(metadata())).save(path)
    assert path.read_bytes() == b"mine"


def test_a_fork_goes_its_own_way(model):
    cache = model.new_cache(40, "q8_0", "f16")
    model.forward(IDS, cache)
    before, fork = cache.raw_k(0).copy(), cache.fork()
    np.testing.assert_array_equal(model.forward([5], fork), model.forward([5], cache))
    fork.truncate(3)
    model.forward([9, 9, 9, 9], fork)
    assert (cache.n_past, fork.n_past) == (13, 7)
    np.testing.assert_array_equal(cache.raw_k(0)[:12], before)


class Letters:
    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


def test_a_match_says_why_it_stops(model):
    cache = model.new_cache(40)
    model.forward([1, 2, 3], cache)
    assert cache.match([1, 2, 5, 3], Letters()).reason == (
        "token 2 differs: 'd' (3) in the cache, 'f' (5) in the text"
    )
    assert "token 0 differs: 1 in the cache, 7 in the text" == cache.match([7]).reason
    assert cache.match([1, 2]).n == 2 and "the text ends" in cache.match([1, 2]).reason
    assert cache.match([1, 2, 3, 4]).n == 3 and "the cache ends" in cache.match([1, 2, 3, 4]).reason
    assert cache.n_past == 3
    with pytest.raises(ParameterError, match="not token ids"):
        cache.match("abc")


def test_slots_positions_and_sequences_are_those_of_the_text(model):
    cache = model.new_cache(40)
    model.forward([4, 2, 7], cache)
    assert cache.positions.tolist() == [0, 1, 2] and cache.seq_ids.tolist() == [0, 0, 0]
    assert [tuple(row) for row in cache.slots(1)] == [(0, 0, 0, 4), (1, 1, 0, 2), (2, 2, 0, 7)]


@pytest.mark.parametrize("types", [("f32", "q8_0"), ("q5_1", "bf16"), (["f16", "q4_1"], "iq4_nl")])
def test_bytes_are_predicted_without_a_cache(model, types):
    predicted = predict_cache_bytes(model.config, 40, *types)
    made = model.new_cache(40, *types).bytes()
    assert predicted.predicted == made.predicted == made.allocated
    assert made.per_position * 40 == made.predicted
    frame = made.to_frame()
    assert frame.bytes.sum() == made.predicted and (frame.rows == 40).all()
